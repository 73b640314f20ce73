"""Whether the user's files are still what they were when the run was launched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Edits:
    """Looks at the files of `sources`. A file is read again only when its size or time has changed.

    Notebooks are left out: their recorded hash is of their code alone, and being run changes them.
    """

    def __init__(self, sources: Iterable[Mapping[str, str]]) -> None:
        self._hashes = {Path(source["path"]): source["sha256"] for source in sources if _is_plain(source["path"])}
        self._seen: dict[Path, tuple[int, int]] = {}

    def new(self) -> list[Path]:
        """Return the files that were found changed and not returned before."""
        import hashlib

        changed = []
        for file, expected in list(self._hashes.items()):
            try:
                status = file.stat()
                version = (status.st_size, status.st_mtime_ns)
                if self._seen.get(file) == version:
                    continue
                self._seen[file] = version
                if hashlib.sha256(file.read_bytes()).hexdigest() == expected:
                    continue
            except OSError:
                pass
            del self._hashes[file]
            changed.append(file)
        return changed


def _is_plain(path: str) -> bool:
    return not path.endswith(".ipynb")
