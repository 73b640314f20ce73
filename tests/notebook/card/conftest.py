"""Runs written by hand, closed at the end."""

import pytest
from written import Views, Written


@pytest.fixture
def written(tmp_path):
    made = []

    def make(**options):
        made.append(Written(tmp_path / f"run{len(made)}", **options))
        return made[-1]

    yield make
    for run in made:
        run.close()


@pytest.fixture
def run(written):
    return written()


@pytest.fixture
def views(run):
    run.begin(0)
    return Views(run)
