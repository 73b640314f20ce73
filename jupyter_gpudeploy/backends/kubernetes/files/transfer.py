"""A folder of a pod is brought to this machine: first what there is, then the sums of what is here, then the rest.

The pod runs `programs/outbox.py`, whose text goes along with each wish: nothing but `python3` need be there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.kubernetes.api.channels import STDOUT
from jupyter_gpudeploy.backends.kubernetes.api.errors import UnreachableError
from jupyter_gpudeploy.backends.kubernetes.files.arrivals import Arrivals, Refused, drafts, place_in, why_no_place
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events import outputs
from jupyter_gpudeploy.quantities import format_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

    Progress = Callable[[int, int], None]
    Line = dict[str, Any]

MOST_FILES = 200_000
MOST_RATIO = 200
"""A file may be so much larger than what of it lies on the disk; one with larger holes is left out."""

_HOLES_FROM = 64 * 2**20
_ANSWER_LIMIT = 256 * 2**20
_SAID_LIMIT = 2**16
_SECONDS = 12 * 3600.0
_TRIES = 4
_SHOWN = 5
_BLOCK = 2**20
_LOG = logging.getLogger(__name__)
_START = "import sys;exec(compile(sys.stdin.buffer.read(int(sys.argv[1])),'outbox','exec'))"
_PROGRAM = Path(jupyter_gpudeploy.__file__).parent / "programs" / "outbox.py"


class Source(NamedTuple):
    """A folder, and a running container that sees it."""

    pod: str
    container: str
    folder: str


class Transfer:
    """Brings `path` below `source` into `target`. `near`: a folder of this machine that may have some of it already."""

    def __init__(
        self, cluster: Cluster, source: Source, path: str, target: Path, near: Path, progress: Progress
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._path = path
        self._target = target
        self._near = near
        self._progress = progress
        self._done = self._total = 0

    def run(self) -> list[Path]:
        """Return the files. Raises BackendError where some did not come; what did come is in its place then."""
        found, left = self._listing()
        if left:
            _LOG.warning("left out: %s", named(left))
        try:
            self._target.mkdir(parents=True, exist_ok=True)
            self._total = sum(found.values())
            self._progress(0, self._total)
            wanted, refused = self._take_what_is_here(found)
            self._check_room(wanted)
            with drafts(self._target) as folder:
                refused += self._bring(wanted, folder)
        except OSError as error:
            raise BackendError(f"{self._target} cannot be written: {error.strerror or error}") from None
        if refused:
            message = f"{len(refused)} of {len(found)} files did not come from {self._source.pod}: {named(refused)}"
            raise BackendError(message, hint="what came is kept: download again for the rest")
        return [self._target / name for name in found]

    def _listing(self) -> tuple[dict[str, int], list[Refused]]:
        """Return the size of each file there, and what is left out. Raises BackendError where there is nothing."""
        found: dict[str, int] = {}
        left: list[Refused] = []
        for line in self._ask("list"):
            if "missing" in line:
                there = ", ".join(str(name) for name in line["missing"])
                hint = f"there is: {there}" if there else "the task left no files"
                raise BackendError(f"{self._path or 'the output folder'} is not there", hint=hint)
            if "left" in line:
                left.append(Refused(str(line["left"])[:_SAID_LIMIT], str(line["why"])[:_SAID_LIMIT]))
            elif "file" in line:
                name, size, stored = str(line["file"]), int(line["size"]), int(line["stored"])
                why = "it is there twice" if name in found else _why_left(name, size, stored)
                if why:
                    left.append(Refused(ascii(name)[1:-1], why))
                else:
                    found[name] = size
        if len(found) > MOST_FILES:
            raise BackendError(f"{len(found):,} files are too many at once", hint="name a folder of them: path")
        return found, left

    def _take_what_is_here(self, found: Mapping[str, int]) -> tuple[dict[str, int], list[Refused]]:
        """Put in place what this machine has. Return what is to be sent, and what cannot be placed."""
        near = {name: self._candidates(name, size) for name, size in found.items()}
        asked = [[name, found[name]] for name, files in near.items() if files]
        sums = (
            {str(line["file"]): line["sha256"] for line in self._ask("sums", asked) if "file" in line} if asked else {}
        )
        wanted, refused = {}, []
        for name, size in found.items():
            same = next((file for file in near[name] if _sum(file) == sums.get(name)), None)
            if same is None:
                wanted[name] = size
                continue
            try:
                place = place_in(self._target, name)
            except ValueError as error:
                refused.append(Refused(name, str(error)))
                continue
            if same != place:
                outputs.copy_file(same, place)
            self._count(size)
        return wanted, refused

    def _candidates(self, name: str, size: int) -> list[Path]:
        came = self._near / self._path
        files = (self._target / name, came if came.is_file() else came / name)
        return [file for file in files if _size(file) == size]

    def _check_room(self, wanted: Mapping[str, int]) -> None:
        free, size = shutil.disk_usage(self._target).free, sum(wanted.values())
        if size > free:
            message = f"{format_memory(size)} are to come, and {self._target} has room for {format_memory(free)}"
            raise BackendError(message, hint="another folder, or name what is wanted: path")

    def _bring(self, wanted: dict[str, int], folder: Path) -> list[Refused]:
        """Have these files sent; go on where a connection broke. Return what did not come, and why."""
        refused: list[Refused] = []
        for attempt in range(1, _TRIES + 1):
            if not wanted:
                break
            done = self._done
            (drafts_ := folder / str(attempt)).mkdir()
            arrivals = Arrivals(wanted, self._target, drafts_, self._count)
            try:
                self._receive(wanted, arrivals)
            except UnreachableError:
                if attempt == _TRIES:
                    raise
                self._done = done + sum(wanted[name] for name in arrivals.arrived)
                gone = {*arrivals.arrived}
                wanted = {name: size for name, size in wanted.items() if name not in gone}
                continue
            refused += [*arrivals.refused, *(Refused(name, "it did not come") for name in arrivals.missing)]
            break
        return refused

    def _receive(self, wanted: Mapping[str, int], arrivals: Arrivals) -> None:
        said = bytearray()

        def take(channel: int, data: bytes) -> None:
            if channel == STDOUT:
                arrivals.feed(data)
            elif len(said) < _SAID_LIMIT:
                said.extend(data)

        self._execute("send", [[name, size] for name, size in wanted.items()], take, said)

    def _ask(self, action: str, files: Sequence[Sequence[object]] = ()) -> list[Line]:
        """Return the lines of the answer. Raises BackendError for one that is cut off, or makes no sense."""
        answer, said = bytearray(), bytearray()

        def take(channel: int, data: bytes) -> None:
            (answer if channel == STDOUT else said).extend(data)
            if len(answer) > _ANSWER_LIMIT or len(said) > _ANSWER_LIMIT:
                raise BackendError(f"{self._source.pod} answers with too much", hint="name what is wanted: path")

        self._execute(action, files, take, said)
        try:
            lines: list[Line] = [json.loads(line) for line in answer.splitlines()]
            _check_lines(lines)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BackendError(f"{self._source.pod} gave no answer that can be read: {error}") from None
        return lines

    def _execute(
        self, action: str, files: Sequence[Sequence[object]], take: Callable[[int, bytes], None], said: bytearray
    ) -> None:
        program = _PROGRAM.read_bytes()
        wish = {"action": action, "folder": self._source.folder, "path": self._path, "files": files}
        sent = program + json.dumps(wish).encode() + b"\n"
        argv = ["python3", "-c", _START, str(len(program))]
        pod, container = self._source.pod, self._source.container
        done = self._cluster.execute(pod, container, argv, stdin=[sent], on_output=take, timeout=_SECONDS)
        if done.exit_code:
            lines = said.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.exit_code}"]
            raise BackendError(f"the files of {pod} cannot be read: {lines[-1]:.300}")

    def _count(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._total)


def named(refused: Sequence[Refused]) -> str:
    """Return them in a sentence, the first few by name."""
    more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
    return "; ".join(map(str, refused[:_SHOWN])) + more


def _check_lines(lines: Sequence[Line]) -> None:
    """Raise ValueError, TypeError or KeyError for what is no answer."""
    for line in lines:
        if "size" in line and not (0 <= int(line["size"]) < 1 << 62 and int(line["stored"]) >= 0):
            raise ValueError("a size that is none")
        if "left" in line and not isinstance(line["why"], str):
            raise TypeError("a reason that is none")
    if not lines or not ("end" in lines[-1] or "missing" in lines[-1]):
        raise ValueError("it is cut off")


def _why_left(name: str, size: int, stored: int) -> str:
    """Return why a file is left out; empty for one that is not."""
    if why := why_no_place(name):
        return why
    if size > _HOLES_FROM and size > MOST_RATIO * stored:
        return f"a file with holes: {format_memory(size)}, of which {format_memory(stored)} are there"
    return ""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() and not file.is_symlink() else -1
    except OSError:
        return -1


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
