"""The first program of a pod: it unpacks what was sent along and becomes the pod's PID 1 (`programs.pod`).

Sent as text and run by whatever Python the image has (3.8 or later), before there is anything of ours to import::

    python3 -u /gpudeploy/in/boot.py                        unpack, and run the task
    python3 /gpudeploy/in/boot.py exec NUMBER ARGV          hand one more command (a JSON list) to a manual run
    python3 /gpudeploy/in/boot.py grace SECONDS             once told to stop, end what runs after so many seconds

`in/NAME.tar.gz`, or its parts `in/NAME.tar.gz.000`, `.001`, ..., hold plain files and folders below `runtime/`,
`code/`, `work/` and `home/`. `in/NAME.tar.gz.sha256` says in hex what an archive must be, where it is there.
GPUDEPLOY_POD_ROOT is the folder instead of /gpudeploy.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

FOLDERS = ("runtime", "code", "work", "home")
NUMBER_TAKEN = 17
_TAKE_SECONDS = 20.0


def main(words: list[str]) -> int:
    """Return the exit code."""
    root = Path(os.environ.get("GPUDEPLOY_POD_ROOT") or "/gpudeploy")
    if words and words[0] == "exec":
        return ask(root, words[1:])
    if words and words[0] == "grace":
        return shorten(root, words[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # PID 1 gets no signal it does not handle
    try:
        unpack_all(root)
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        reason = f"what was sent to this pod cannot be unpacked: {error}"
        with suppress(OSError):
            _leave(reason)
        return _refuse(reason)
    sys.path[0] = str(root / "runtime")  # in place of in/; nothing but our own package lies there
    from jupyter_gpudeploy.programs import pod

    return pod.main(root)


def unpack_all(root: Path) -> None:
    """Unpack every archive that was not unpacked before, so that a container that starts again finds its files as left.

    Raises ValueError for an archive that is not what it should be.
    """
    known = root / "state" / "unpacked.json"
    done = _unpacked(known)
    for name in sorted({_archive(file.name) for file in (root / "in").iterdir()} - {""}):
        data = b"".join(part.read_bytes() for part in _parts(root / "in", name))
        digest = hashlib.sha256(data).hexdigest()
        stated = root / "in" / f"{name}.sha256"
        if stated.exists() and stated.read_text("ascii").split() != [digest]:
            raise ValueError(f"{name} is not what was sent ({len(data)} bytes, sha256 {digest})")
        if done.get(name) != digest:
            unpack(data, root)
            done[name] = digest
    known.parent.mkdir(parents=True, exist_ok=True)
    draft = known.with_name(f".{known.name}")
    draft.write_text(json.dumps(done), "utf-8")
    draft.replace(known)


def unpack(data: bytes, root: Path) -> None:
    """Unpack plain files and folders below FOLDERS. Raises ValueError for anything else, before it is touched."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        members = archive.getmembers()
        for member in members:
            words = member.name.rstrip("/").split("/")
            if words[0] not in FOLDERS or not {"", ".", ".."}.isdisjoint(words):
                raise ValueError(f"a member lies outside: {member.name!r}")
            if not (member.isreg() or member.isdir()):
                raise ValueError(f"a member is neither a file nor a folder: {member.name!r}")
        for member in members:
            target = root / member.name
            (target if member.isdir() else target.parent).mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            if content is not None:
                with target.open("wb") as stream:
                    shutil.copyfileobj(content, stream)
                target.chmod(0o755 if member.mode & 0o100 else 0o644)


def ask(root: Path, words: list[str]) -> int:
    """Hand a command to PID 1 and wait until it has it. Return the exit code."""
    requests = root / "requests"
    argv = json.loads(words[1]) if len(words) == 2 and words[0].isdigit() else None  # noqa: PLR2004 - NUMBER ARGV
    if not argv or not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        return _refuse("usage: boot.py exec NUMBER ARGV, the command as a JSON list of texts")
    deadline = time.monotonic() + _TAKE_SECONDS
    while not requests.is_dir() and time.monotonic() < deadline:
        time.sleep(0.02)
    if not requests.is_dir():
        return _refuse("this pod takes no commands: it is no manual run, or it could not start")
    draft = requests / f".{words[0]}.{os.getpid()}"
    draft.write_text(json.dumps(argv), "utf-8")
    try:
        os.link(str(draft), str(requests / f"{words[0]}.json"))
    except FileExistsError:
        return _refuse(f"number {words[0]} is taken", NUMBER_TAKEN)
    finally:
        draft.unlink()
    deadline = time.monotonic() + _TAKE_SECONDS
    while not (requests / f"{words[0]}.taken").exists():
        if time.monotonic() > deadline:
            return _refuse("PID 1 of this pod does not answer")
        time.sleep(0.02)
    return 0


def shorten(root: Path, words: list[str]) -> int:
    """Leave word for PID 1 of the grace it gives, once it is told to stop. Return the exit code."""
    if len(words) != 1 or not words[0].isdigit():
        return _refuse("usage: boot.py grace SECONDS")
    draft = root / "state" / f".grace.{os.getpid()}"
    draft.write_text(words[0], "ascii")
    draft.replace(root / "state" / "grace")
    return 0


def _unpacked(file: Path) -> dict[str, str]:
    """Return the digest of each archive that was unpacked; of none where that cannot be read any more."""
    try:
        done = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return done if isinstance(done, dict) else {}


def _leave(reason: str) -> None:
    """Leave a last word where the kubelet reads it, in a file that it has made."""
    file = Path(os.environ.get("GPUDEPLOY_TERMINATION_LOG") or "/dev/termination-log")
    with file.open("r+b") as stream:
        stream.write(json.dumps({"exit_code": 1, "reason": reason[:1000]}).encode())
        stream.truncate()


def _refuse(reason: str, code: int = 1) -> int:
    print(reason, file=sys.stderr)  # noqa: T201 - the answer to whoever asks, or the pod's log
    return code


def _archive(name: str) -> str:
    """Return the archive to which a file belongs; empty for one that belongs to none."""
    stem, end, rest = name.partition(".tar.gz")
    is_part = rest.startswith(".") and rest[1:].isdigit()
    return stem + end if end and (not rest or is_part) else ""


def _parts(folder: Path, name: str) -> list[Path]:
    whole = folder / name
    if whole.exists():
        return [whole]
    parts = [file for file in folder.iterdir() if file.name.startswith(name + ".") and file.suffix[1:].isdigit()]
    return sorted(parts, key=lambda part: int(part.suffix[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
