# Everything a newcomer or a machine needs: `make quickstart`, `make lab`, `make test`.
# The environment is .venv beside this file; it is made when it is missing and renewed when pyproject.toml changes.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: help quickstart lab widget test-widget labextension test-labextension test lint types contracts unit nbval browser test-cluster cluster cluster-down benchmarks clean

help:
	@echo "make quickstart   run examples/01_quickstart.ipynb headless and print what it found"
	@echo "make lab          open JupyterLab on the examples"
	@echo "make test         lint, types, import contracts, tests, example notebooks, browser, a real Kubernetes"
	@echo "make widget       build the live card's front end, where npm is and its sources have changed"
	@echo "make labextension build the panel of JupyterLab likewise"
	@echo "make cluster      build and start the real Kubernetes of the tests; make cluster-down"
	@echo "make test-cluster the tests that need it; CONTEXT=mine: on your own instead"
	@echo "make benchmarks   speed against peers and limits (benchmarks/RESULTS.md)"
	@echo "make clean        delete .venv and caches"

$(VENV)/.examples: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; found $$($(PYTHON) --version). Say which: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "$(PYTHON) cannot make environments: install its venv module (Debian: apt-get install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[examples]'
	@touch $@

$(VENV)/.test: $(VENV)/.examples
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

quickstart: $(VENV)/.examples
	$(BIN)/python scripts/quickstart.py

widget:
	@if command -v npm >/dev/null; then $(PYTHON) scripts/build_widget.py; \
	 else echo "SKIPPED widget: no npm on this machine (Debian: apt-get install nodejs npm); displays are static"; fi

labextension: $(VENV)/.examples
	@if command -v node >/dev/null; then $(BIN)/python scripts/build_labextension.py; \
	 else echo "SKIPPED labextension: no node on this machine (Debian: apt-get install nodejs npm); JupyterLab has no panel"; fi

lab: $(VENV)/.examples widget labextension
	cd examples && PATH="$(abspath $(BIN)):$$PATH" jupyter lab 01_quickstart.ipynb

test: widget test-widget labextension test-labextension lint types contracts unit nbval browser test-cluster
	@echo "all parts ran"

test-widget: widget
	@if command -v npm >/dev/null; then cd labextension/widget && npm run --silent lint && npm test --silent; \
	 else echo "SKIPPED test-widget: no npm on this machine (Debian: apt-get install nodejs npm)"; fi

test-labextension: labextension
	@if command -v node >/dev/null; then cd labextension && PATH="$(abspath $(BIN)):$$PATH" && jlpm install >/dev/null && jlpm run lint && jlpm run test; \
	 else echo "SKIPPED test-labextension: no node on this machine (Debian: apt-get install nodejs npm)"; fi

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

contracts: $(VENV)/.test
	$(BIN)/lint-imports

unit: $(VENV)/.test widget labextension
	$(BIN)/python -m pytest tests -n 2 --dist worksteal -m "not browser and not cluster"
	@if [ "$(GATE)" = 1 ]; then PYTHON="$(abspath $(BIN))/python" scripts/check_clients.sh; fi

nbval: $(VENV)/.test
	scripts/check_examples.sh $(BIN)

browser: $(VENV)/.test widget labextension
	@if command -v chromium >/dev/null; then $(BIN)/python -m pytest tests/browser -m browser; \
	 else echo "SKIPPED browser: no chromium on this machine (Debian: apt-get install chromium)"; fi

test-cluster: $(VENV)/.test
	@if [ -z "$(CONTEXT)" ]; then GATE="$(GATE)" scripts/check_cluster.sh $(BIN); \
	 else GPUDEPLOY_TEST_CONTEXT="$(CONTEXT)" $(BIN)/python -m pytest tests/cluster -m cluster; fi

cluster: $(VENV)/.test
	$(BIN)/python -m tests.cluster up

cluster-down: $(VENV)/.test
	$(BIN)/python -m tests.cluster down

benchmarks: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[benchmark]'
	$(BIN)/python benchmarks/run_all.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
