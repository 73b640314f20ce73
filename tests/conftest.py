"""Options and settings of the whole test suite."""

import os

# Each test has a state root of its own: a recorder would stay a minute for each. Tests of sampling turn it on.
os.environ.setdefault("JUPYTER_GPUDEPLOY_SAMPLING", "off")


def pytest_addoption(parser):
    parser.addoption("--pictures", default=None, help="keep the screenshots of the browser tests in this folder")
