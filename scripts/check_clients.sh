#!/bin/sh
# The client's tests with other releases of the kubernetes package: scripts/check_clients.sh 30.1.0 35.0.0 ...
# "30.1.0+urllib3<2" adds a requirement. VENVS names a folder in which the environments are kept; else a temporary one.
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
if [ -z "${VENVS:-}" ]; then
    VENVS="$(mktemp -d)"
    trap 'rm -rf "$VENVS"' EXIT
fi
[ "$#" -gt 0 ] || set -- 30.1.0 30.1.0+urllib3\<2 35.0.0 36.0.3 37.0.2
failed=""
for wanted in "$@"; do
    release="${wanted%%+*}"
    extra="${wanted#"$release"}"
    extra="${extra#+}"
    venv="$VENVS/$(printf %s "$wanted" | tr -c 'A-Za-z0-9.\n' -)"
    if [ ! -e "$venv/done" ]; then
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "kubernetes==$release" ${extra:+"$extra"} \
            'pydantic>=2.7' 'pyyaml>=6.0.1' 'packaging>=23' 'pytest>=8.3' 'pytest-timeout>=2.3'
        touch "$venv/done"
    fi
    echo "== kubernetes $wanted"
    # The plain users of a release see no warnings of their own; ours are errors in the whole suite.
    PYTHONPATH=. "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/backends/kubernetes/test_client.py \
        tests/backends/kubernetes/test_websocket.py tests/backends/kubernetes/test_credentials.py \
        tests/backends/kubernetes/test_connect.py tests/backends/kubernetes/test_doctor.py || failed="$failed $wanted"
done
if [ -n "$failed" ]; then
    echo "failed with kubernetes:$failed"
    exit 1
fi
