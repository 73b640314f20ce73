"""The user's files that go along to a cluster: found, judged and measured, before any is read.

Nothing outside the notebook's folder is followed; what is no plain file is not touched.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.manifests.ignore import FILE, Ignore, is_secret
from jupyter_gpudeploy.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_FILES = 20_000


class Entry(NamedTuple):
    """A file that goes along. `path` is relative to the notebook's folder, `file` where it is read."""

    path: str
    size: int
    is_program: bool
    file: Path


class Skipped(NamedTuple):
    """What was asked for, or lies there, and does not go along."""

    path: str
    reason: str


class Tree(NamedTuple):
    """What lies below a folder. `is_whole` False: there are more than MOST_FILES files, the nearest are listed."""

    entries: tuple[Entry, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    is_whole: bool = True

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(entry.size for entry in self.entries)

    def only(self, paths: Iterable[str]) -> Tree:
        """Return the tree of these files alone."""
        wanted = set(paths)
        return self._replace(entries=tuple(entry for entry in self.entries if entry.path in wanted))

    def joined(self, other: Tree) -> Tree:
        """Return what is in either."""
        entries = {entry.path: entry for entry in (*self.entries, *other.entries)}
        skipped = {one.path: one for one in (*self.skipped, *other.skipped) if one.path not in entries}
        return Tree(
            tuple(entries[path] for path in sorted(entries)),
            tuple(skipped[path] for path in sorted(skipped)),
            self.is_whole and other.is_whole,
        )


def ignore_of(base: Path, *, defaults: bool = True) -> Ignore:
    """Return what stays at home. Raises PlanError for an ignore file that cannot be read."""
    file = base / FILE
    try:
        return Ignore(file.read_text("utf-8").splitlines() if file.is_file() else (), defaults=defaults)
    except (OSError, ValueError) as error:
        raise PlanError(f"{FILE} cannot be read: {error}", hint="it is a text file, a pattern a line") from None


def scan(base: Path, ignore: Ignore, start: str = "") -> Tree:
    """Return what lies below `base/start`, the nearest folders first."""
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    folders = deque([start])
    seen = 0
    while folders:
        folder = folders.popleft()
        for name in _names(base / folder, folder, skipped):
            path = f"{folder}/{name}" if folder else name
            seen += 1
            if seen > MOST_FILES:
                return Tree(tuple(sorted(entries)), tuple(skipped), is_whole=False)
            found = look(base, path, ignore)
            if isinstance(found, Entry):
                entries.append(found)
            elif isinstance(found, Skipped):
                skipped.append(found)
            elif found is not None:
                folders.append(path)
    return Tree(tuple(sorted(entries)), tuple(skipped))


def look(base: Path, path: str, ignore: Ignore | None) -> Entry | Skipped | Path | None:
    """Return a file that goes along, one that does not, a folder (as Path), or None for what is ignored."""
    try:
        return _judged(base, path, ignore)
    except _RefusedError as refused:
        return Skipped(path, str(refused))
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror}")
    except RuntimeError:  # Python 3.11 and 3.12
        return Skipped(path, "a link that leads to itself")


def _judged(base: Path, path: str, ignore: Ignore | None) -> Entry | Path | None:
    file = base / path
    status = file.lstat()
    is_folder = stat.S_ISDIR(status.st_mode)
    if ignore is not None and ignore.leaves_out(path, is_folder=is_folder):
        return None
    if is_secret(file.name):
        raise _RefusedError("holds secrets by its name: use secrets:")
    if is_folder:
        return file
    if stat.S_ISLNK(status.st_mode):
        file, status = _followed(base, file)
    if not stat.S_ISREG(status.st_mode):
        raise _RefusedError(_what(status.st_mode))
    if not os.access(file, os.R_OK):
        raise _RefusedError("cannot be read: no permission")
    return Entry(path, status.st_size, bool(status.st_mode & stat.S_IXUSR), file)


class _RefusedError(Exception):
    pass


def _followed(base: Path, link: Path) -> tuple[Path, os.stat_result]:
    """Return the file that a link leads to. Raises _RefusedError for a link that is not followed."""
    real = link.resolve()
    if not real.is_relative_to(base.resolve()):
        raise _RefusedError("a link that leads out of the notebook's folder")
    if any(is_secret(part) for part in real.relative_to(base.resolve()).parts):
        raise _RefusedError("a link to what holds secrets by its name")
    try:
        status = real.stat()
    except OSError:
        raise _RefusedError("a link that leads nowhere") from None
    if stat.S_ISDIR(status.st_mode):
        raise _RefusedError("a link to a folder")
    return real, status


def _names(folder: Path, path: str, skipped: list[Skipped]) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths
    except OSError as error:
        skipped.append(Skipped(path or ".", f"cannot be read: {error.strerror}"))
        return []


def _what(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "no plain file")


def named(base: Path, patterns: Iterable[str]) -> Tree:
    """Return what `upload:` names: files, folders and patterns below the notebook's folder.

    What is named is taken though it is ignored otherwise. Raises PlanError for a name outside, or of nothing.
    """
    ignore = ignore_of(base)
    found = Tree()
    for pattern in patterns:
        matches = list(_matches(base, pattern))
        if not matches:
            raise PlanError(f"upload: {pattern!r} is not there", hint=f"files are looked for in {base}")
        for path in matches:
            found = found.joined(_taken(base, path, ignore))
    return found


def _taken(base: Path, path: str, ignore: Ignore) -> Tree:
    one = look(base, path, None) if path else base
    if isinstance(one, Entry):
        return Tree((one,))
    if isinstance(one, Skipped):
        return Tree(skipped=(one,))
    return scan(base, ignore, path)


def _matches(base: Path, pattern: str) -> Iterator[str]:
    plain = pattern.rstrip("/")
    outside = PlanError(f"upload: {pattern!r} lies outside the notebook's folder {base}", hint="copy it here")
    if plain.startswith(("/", "~")) or ".." in Path(plain).parts:
        raise outside
    direct = base / plain
    try:
        paths = [direct] if direct.exists() or direct.is_symlink() else sorted(base.glob(plain))
    except (ValueError, NotImplementedError, OSError) as error:
        raise PlanError(
            f"upload: {pattern!r}: {error}", hint="a file, a folder, or a pattern like data/*.csv"
        ) from None
    for path in paths:
        if not path.parent.resolve().is_relative_to(base.resolve()):
            raise outside
        relative = path.relative_to(base).as_posix()
        yield "" if relative == "." else relative
