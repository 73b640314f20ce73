"""Options and settings of the whole test suite."""


def pytest_addoption(parser):
    parser.addoption("--pictures", default=None, help="keep the screenshots of the browser tests in this folder")
