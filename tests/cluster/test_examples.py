"""The examples, unchanged but for `--backend kubernetes`: real pods train, log and serve."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def settings(namespace, kubeconfig, examples_image, tmp_path, monkeypatch):
    """A person whose one profile is the cluster of the tests and a fresh namespace."""
    context = json.loads(kubeconfig.read_text())["current-context"]
    profile = {"kubeconfig": str(kubeconfig), "context": context, "namespace": namespace, "image": examples_image}
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"default_cluster": "here", "clusters": {"here": profile}}))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(file))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    return file


def on_kubernetes(source: str) -> str:
    """Return a cell with its `%%deploy` line sent to Kubernetes."""
    return re.sub(r"\A(%%deploy [^\n]*)", r"\1 --backend kubernetes", source)


def texts(cell) -> str:
    """Return what a cell shows as text."""
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        found.append(output.get("text") or data.get("text/plain") or "")
    return "\n".join(found)


def execute(name: str, tmp_path: Path):
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("out", ".ipynb_checkpoints"))
    notebook = nbformat.read(folder / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = on_kubernetes(cell.source)
    client = NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells, beginning: str) -> str:
    """Return what the cell that begins so showed."""
    (cell,) = [cell for cell in cells if cell.source.startswith(beginning)]
    return texts(cell)


@pytest.mark.timeout(600)
def test_the_quickstart_trains_twelve_trials_compares_them_and_serves_the_best(settings, tmp_path):
    cells = execute("01_quickstart.ipynb", tmp_path)
    table = shown(cells, "run.trials()")
    assert table.count("succeeded") == 12
    assert re.search(r"says \{'digit': \d\}", shown(cells, "from sklearn.datasets import load_digits"))
    assert "kubernetes" in shown(cells, "%deploy ls")


@pytest.mark.timeout(600)
def test_scripts_folders_notebooks_commands_and_ablations_run_in_pods(settings, tmp_path):
    cells = execute("02_jobs.ipynb", tmp_path)
    assert shown(cells, "script.trials()").count(" 0\n") + shown(cells, "script.trials()").endswith(" 0") >= 3
    assert "accuracy" in shown(cells, "evaluation.metrics()")
    assert "analysis.ipynb" in shown(cells, "print(analysis.trials()")
    assert "loops, best of" in shown(cells, "print(timing.logs())")
    assert "best_val_acc" in shown(cells, "ablation.trials()")


@pytest.mark.timeout(600)
def test_servers_and_environments_answer_from_pods(settings, tmp_path):
    cells = execute("03_servers.ipynb", tmp_path)
    assert "{'number': 12, 'square': 144}" in shown(cells, "echo.request")
    assert "{'sum': 6" in shown(cells, "summing.request")
    assert "True" in shown(cells, "print(files.url)")
    assert "val_acc" in shown(cells, "bench.exec")
