"""Files of a pod that are sent home through its log: metric files as they change, small results at the end.

Standard library, Python 3.8.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.events.wire import kept_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jupyter_gpudeploy.programs._pod_sender import Sender

OUTPUT_ROOM = 1 << 20
"""How much of the results is sent at the end of an attempt, in bytes, compressed."""

METRIC_ROOM = 16 << 20
"""How much of an attempt's metric files is sent, in bytes as sent: the node keeps about 50 MB of a container's log."""

_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
_PART = 1 << 17
_JSON_LIMIT = 1 << 20
_WHOLE_LIMIT = 1 << 18
_JSON_RATE = 1 << 15  # bytes a second, of a file that is sent again and again
_READ_LIMIT = 16 << 20
_MOST_FILES = 20_000
_NAMED = 5
_TOLD = 100
_BALANCE_LIMIT = 1 << 18
_TAIL = 256


class Metrics:
    """Sends what is appended to metrics/<task>.jsonl. `last` holds the last value of each metric."""

    def __init__(self, file: Path, sender: Sender, extra: dict[str, Any]) -> None:
        self.last: dict[str, Any] = {}
        self._file = file
        self._sender = sender
        self._extra = extra
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        # A container that starts again cannot know how far the one before it came: the last rows are sent again.
        self._offset = max(0, file.stat().st_size - _PART)

    def poll(self) -> bool:
        """Send the rows that are new and whole. Return whether there were any."""
        found = False
        while True:
            data = self._read()
            end = data.rfind(b"\n") + 1
            if not end:
                return found
            self._offset += end
            self._send(data[:end].split(b"\n"))
            found = True

    def _read(self) -> bytes:
        try:
            with self._file.open("rb", buffering=0) as stream:
                stream.seek(self._offset)
                return stream.read(1 << 20)
        except OSError:
            return b""

    def _send(self, lines: Iterable[bytes]) -> None:
        rows: list[Any] = []
        size = 0
        for line in lines:
            row = _row(line)
            if row is None:
                continue
            self.last.update(row["metrics"])
            rows.append(row)
            size += len(line)
            if size > 3000:  # noqa: PLR2004 - what fits into one marked line with all that is around it
                self._sender.send("metrics", {"rows": rows, **self._extra})
                rows, size = [], 0
        if rows:
            self._sender.send("metrics", {"rows": rows, **self._extra})


class MetricFiles:
    """Sends files that the program writes its metrics to, whenever they change."""

    def __init__(self, paths: Iterable[str], output: str, work: str, sender: Sender) -> None:
        self._files = [_MetricFile(Path(work, path), kept_as(path, output, work), sender) for path in paths]
        self._sender = sender
        self._room = METRIC_ROOM

    def poll(self, *, ended: bool = False) -> None:
        """Send what has changed. At the end everything, with sums to compare."""
        for file in self._files:
            if self._room <= 0:
                return
            self._room -= file.poll(ended=ended)
        if self._room <= 0:
            names = ", ".join(file.kept_as for file in self._files)
            self._sender.notice(f"{names}: changed so often that no more of it is sent while the task runs")

    @property
    def sent(self) -> set[str]:
        """What was sent whole, as `kept_as` names it."""
        return {file.kept_as for file in self._files if file.is_sent} if self._room > 0 else set()


class _MetricFile:
    def __init__(self, path: Path, name: str, sender: Sender) -> None:
        self.kept_as = name
        self.is_sent = False
        self._path = path
        self._grows = path.suffix.lower() in _LINES
        self._sender = sender
        self._seen: tuple[int, int, int] | None = None
        self._not_before = 0.0
        self._is_refused = False
        self._restart()

    def _restart(self) -> None:
        self._offset = 0
        self._sum = hashlib.sha256()
        self._tail = b""

    def poll(self, *, ended: bool) -> int:
        """Send what is new. Return how many bytes that took."""
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            is_due = seen != self._seen and (ended or time.monotonic() >= self._not_before)
            if not stat.S_ISREG(found.st_mode) or self._is_refused or not (is_due or ended):
                return 0
            taken = 0
            if is_due:
                taken = self._grown(found) if self._grows else self._whole(found)
                self._seen = seen
            return taken + (self._compare() if ended and self._grows and not self._is_refused else 0)
        except OSError:
            return 0

    def _grown(self, now: os.stat_result) -> int:
        with self._path.open("rb", buffering=0) as stream:
            if self._was_rewritten(now, stream.fileno()):
                self._restart()
            taken = 0
            while True:
                data = os.pread(stream.fileno(), _PART, self._offset)
                if not data:
                    self.is_sent = True
                    return taken
                if self._refuses(self._tail + data):
                    return taken
                at = {"at": self._offset, "size": self._offset + len(data)}
                taken += self._send({**at, "data": _packed(data)})
                self._offset += len(data)
                self._sum.update(data)
                self._tail = (self._tail + data)[-max(_TAIL, self._sender.longest_secret()) :]

    def _was_rewritten(self, now: os.stat_result, descriptor: int) -> bool:
        if self._seen is None:
            return False
        inode, size, _ = self._seen
        if now.st_ino != inode or now.st_size < self._offset or now.st_size == size:
            return True
        return os.pread(descriptor, len(self._tail), self._offset - len(self._tail)) != self._tail

    def _whole(self, now: os.stat_result) -> int:
        if now.st_size > _JSON_LIMIT:
            self._refuse(f"larger than {_JSON_LIMIT >> 20} MiB, which is too much to send with every change")
            return 0
        data = self._path.read_bytes()
        self._not_before = time.monotonic() + len(data) / _JSON_RATE
        if self._refuses(data):
            return 0
        digest = hashlib.sha256(data)
        if digest.digest() == self._sum.digest() and self.is_sent and not self._grows:
            return 0
        self._sum = digest
        self.is_sent = True
        return self._send({"size": len(data), "sha256": digest.hexdigest(), "data": _packed(data)})

    def _compare(self) -> int:
        """Send a growing file's sum, and all of it again where it is small or is not what was sent of it."""
        if self._path.stat().st_size <= _WHOLE_LIMIT:
            return self._whole(self._path.stat())
        digest = hashlib.sha256()
        with self._path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        taken = 0
        if digest.digest() != self._sum.digest():
            self._restart()
            self._seen = None
            taken = self._grown(self._path.stat())
        return taken + self._send({"size": self._offset, "sha256": self._sum.hexdigest()})

    def _send(self, payload: dict[str, Any]) -> int:
        return self._sender.send_as_is("file", {"path": self.kept_as, **payload})

    def _refuses(self, data: bytes) -> bool:
        if self._sender.holds_secret(data):
            self._refuse("it holds the value of a secret")
        return self._is_refused

    def _refuse(self, why: str) -> None:
        self._is_refused = True
        self._sender.notice(f"{self.kept_as} is not sent: {why}")


class Outputs:
    """Sends the results of an attempt: the smallest files first, until there is no more room.

    `kept`: what becomes of the others, as the end of a sentence.
    """

    def __init__(self, folder: Path, sender: Sender, extra: dict[str, Any], kept: str, attempt: int = 1) -> None:
        self._folder = folder
        self._sender = sender
        self._extra = extra
        self._kept = kept
        self._attempt = attempt
        self._left: list[tuple[int, str]] = []
        self._sent: list[tuple[str, int, str]] = []

    def send(self, sent: set[str]) -> None:
        """Send all that fits, without what was `sent` already, and tell what was left out."""
        room = OUTPUT_ROOM
        for size, name in sorted(_regular_files(self._folder)):
            if name in sent:
                self._sent.append((name, *_size_and_sum(self._folder / name)))
                continue
            packed = self._taken(name, size, room)
            if packed is None:
                self._left.append((size, name))
            else:
                room -= packed
        if self._left:
            self._sender.notice(self._sentence(), "info", **self._extra)
        self._sender.send("outputs", {"attempt": self._attempt, **self._balance(), **self._extra})

    def _balance(self) -> dict[str, Any]:
        """Return what was sent and what was not, as far as that can be told in one record."""
        size = sum(len(name) for name, *_ in self._sent) + 80 * len(self._sent)
        largest = sorted(self._left, reverse=True)[:_TOLD]
        return {
            "files": [list(one) for one in self._sent] if size <= _BALANCE_LIMIT else None,
            "left": [[name, size] for size, name in largest],
            "left_count": len(self._left),
            "left_size": sum(size for size, _ in self._left),
        }

    def _taken(self, name: str, size: int, room: int) -> int | None:
        """Send a file; return its compressed size, or None where it was not sent."""
        if size > _READ_LIMIT or room <= 0:
            return None
        try:
            data = (self._folder / name).read_bytes()
        except OSError:
            return None
        packed = zlib.compress(data)
        if len(packed) > room or self._sender.holds_secret(data) or self._sender.holds_secret(name.encode()):
            return None
        digest = hashlib.sha256(data).hexdigest()
        content = {"size": len(data), "sha256": digest, "data": _base64(packed)}
        self._sender.send_as_is("file", {"path": name, **content, **self._extra})
        self._sent.append((name, len(data), digest))
        return len(packed)

    def _sentence(self) -> str:
        largest = sorted(self._left, reverse=True)
        names = ", ".join(f"{name} ({_size(size)})" for size, name in largest[:_NAMED])
        more = f" and {len(largest) - _NAMED} more" if len(largest) > _NAMED else ""
        return f"{names}{more} {self._kept}"


def _row(line: bytes) -> dict[str, Any] | None:
    """Return a row as log() writes them; None for anything else."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("metrics"), dict) else None


def _regular_files(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (size, path below the folder) of the plain files; no link is followed, and names must be UTF-8."""
    count = 0
    for place, _, names in os.walk(str(folder)):
        for name in names:
            path = Path(place, name)
            count += 1
            try:
                found = path.lstat()
                relative = path.relative_to(folder).as_posix()
                relative.encode()
            except (OSError, UnicodeEncodeError):
                continue
            if stat.S_ISREG(found.st_mode):
                yield found.st_size, relative
        if count > _MOST_FILES:
            return


def _size_and_sum(file: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    try:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
    except OSError:
        return 0, ""
    return size, digest.hexdigest()


def _packed(data: bytes) -> str:
    return _base64(zlib.compress(data))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - as disks count
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
