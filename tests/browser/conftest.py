import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def pictures(request):
    """Where screenshots go: `--pictures DIR`, or a folder that pytest throws away."""
    chosen = request.config.getoption("--pictures")
    folder = Path(chosen) if chosen else request.getfixturevalue("tmp_path_factory").mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
