"""Whether the user's files are still what they were when the run was launched."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        changed = []
        for file, expected in list(self._hashes.items()):
            try:
                status = file.stat()
                version = (status.st_size, status.st_mtime_ns)
                if self._seen.get(file) == version:
                    continue
                self._seen[file] = version
                if _sha256(file.read_bytes()).hexdigest() == expected:
                    continue
            except OSError:
                pass
            del self._hashes[file]
            changed.append(file)
        return changed


def _sha256(data: bytes) -> Any:  # noqa: ANN401 - a hash object
    """Return what `hashlib.sha256` does, without its import, which loads all of OpenSSL before the first task."""
    if sys.version_info >= (3, 12):
        from _sha2 import sha256
    else:
        from _sha256 import sha256  # type: ignore[import-not-found]
    return sha256(data)


def _is_plain(path: str) -> bool:
    return not path.endswith(".ipynb")
