"""What the tests of the notebook floor share: where the project lies, and waiting with a deadline."""

import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60.0


def eventually(what, patience=PATIENCE):
    """Return the first true value of `what()`."""
    deadline = time.monotonic() + patience
    while not (value := what()):
        assert time.monotonic() < deadline, f"never came true within {patience} s: {what}"
        time.sleep(0.02)
    return value
