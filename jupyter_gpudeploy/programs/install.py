"""Installs the packages that a cell asks for, in a container that nobody may change: below PYTHONUSERBASE.

`python3 install.py FALLBACK REQUIREMENT...`: what the image has is kept, and only the rest is fetched. A Python that is
a virtual environment looks into no user folder; there what is missing goes to the folder FALLBACK, which is on
PYTHONPATH. Standard library alone, Python 3.8 or later.
"""

from __future__ import annotations

import subprocess
import sys

_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-cache-dir")


def main(arguments: list[str]) -> int:
    """Return the exit code of pip."""
    try:
        import pip  # noqa: F401 - only whether it is there
    except ImportError:
        sys.exit("this image has no pip: choose one that has (image:), or one that has the packages already")
    fallback, wanted = arguments[0], arguments[1:]
    if sys.prefix == sys.base_prefix:
        return _pip("--user", "--no-warn-script-location", *wanted)
    missing = [text for text in wanted if not _is_there(text)]
    return _pip("--target", fallback, *missing) if missing else 0


def _pip(*arguments: str) -> int:
    return subprocess.run([sys.executable, *_PIP, *arguments], check=False).returncode


def _is_there(text: str) -> bool:
    """Return whether this Python has what is asked for; not sure is no."""
    from importlib.metadata import PackageNotFoundError, version

    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = Requirement(text)
        is_plain = not asked.url and not asked.extras
        return is_plain and asked.specifier.contains(version(asked.name), prereleases=True)
    except (InvalidRequirement, PackageNotFoundError):
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
