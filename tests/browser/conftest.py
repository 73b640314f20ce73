import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from lab import browser, lab_server


@pytest.fixture(scope="session")
def pictures(request):
    """Where screenshots go: `--pictures DIR`, or a folder that pytest throws away."""
    chosen = request.config.getoption("--pictures")
    folder = Path(chosen) if chosen else request.getfixturevalue("tmp_path_factory").mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, root):
    with lab_server(root, tmp_path_factory.mktemp("state")) as url:
        yield url


@pytest.fixture(params=[False], ids=["light"])
def context(tmp_path, request):
    with browser(tmp_path / "profile", dark=request.param) as made:
        yield made
