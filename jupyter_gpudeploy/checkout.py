"""The files of a git repository at one commit, kept in the state root: `<state root>/git/<hash>/tree`.

git itself fetches them, with this person's own credentials, so private repositories work as they do in a terminal, and
nothing of a credential goes any further. A commit is fetched once, alone, without its history. A ref is asked for each
time, for branches move; a full commit hash that was fetched before needs no network.

An address or a ref is never taken for an option, and no transport that runs a program is allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.events.store import state_root
from jupyter_gpudeploy.plan.types import Git, Note
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jupyter_gpudeploy.spec.git import GitSpec

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_HASH = re.compile(r"[0-9a-f]{6,39}")
_USER = re.compile(r"(?<=://)[^/@\s']+@")
_PROTOCOLS = "file:git:http:https:ssh"
_PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE")
_SAFE = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.autocrlf=false", "fetch.recurseSubmodules=false",
    "submodule.recurse=false", "advice.detachedHead=false", "gc.auto=0", "protocol.ext.allow=never",
)  # fmt: skip
_ASK_SECONDS = 60
_FETCH_SECONDS = 1800
_UNUSED_SECONDS = 30 * 86400
_STALE_SECONDS = 86400
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_SIZE = 1024
_SHOWN = 5
_MODULE = "160000"


class Checkout(NamedTuple):
    """The files of a commit. `folder` stands for the notebook's folder, and is never written to."""

    git: Git
    folder: Path
    notes: tuple[Note, ...] = ()


def checkout(spec: GitSpec) -> Checkout:
    """Return the files that a cell names, fetched where they are not here yet. Raises PlanError."""
    commit, ref = _resolved(spec.url, spec.ref)
    kept = _kept(spec.url, commit)
    folder = (kept / "tree" / (spec.path or "")).resolve()
    if not folder.is_dir() or not folder.is_relative_to((kept / "tree").resolve()):
        there = sorted(entry.name for entry in (kept / "tree").iterdir() if entry.is_dir())
        hint = did_you_mean(spec.path or "", there)
        raise PlanError(f"git: {spec.url} has no folder {spec.path!r} at {commit[:12]}", hint=hint)
    git = Git(spec.url, commit, ref, spec.path or "")
    return Checkout(git, folder, tuple(_notes(git, json.loads((kept / "facts.json").read_text("utf-8")))))


def _notes(git: Git, facts: Mapping[str, Sequence[str]]) -> list[Note]:
    asked = f"{git.ref} is " if git.ref else ""
    pin = f"ref: {git.commit} always takes this one" if git.ref else ""
    notes = [Note("info", "git", f"{asked}commit {git.commit[:12]} of {git.url}", pin)]
    if git.url.startswith(("http://", "git://")):
        message = f"{git.url.partition(':')[0]}:// is not encrypted: what comes may have been changed on the way"
        notes.append(Note("warning", "git", message, "https:// or ssh://"))
    if modules := facts["submodules"]:
        message = f"submodules do not come along: {_listed(modules)}"
        notes.append(Note("warning", "git", message, "a program that needs them does not find their files"))
    if pointers := facts["pointers"]:
        message = f"files of Git LFS do not come along, only their pointers: {_listed(pointers)}"
        notes.append(Note("warning", "git", message, "large data belongs on a volume (storage:), or is downloaded"))
    return notes


def _resolved(url: str, ref: str | None) -> tuple[str, str]:
    """Return the commit and the name that led to it; a full hash is taken as it is, and has no name."""
    if ref is not None and _HASH.fullmatch(ref):
        return ref, ""
    if ref is None:
        found, branch = _listing(url, ["HEAD"])
        if "HEAD" not in found:
            raise PlanError(f"git: {url} has no commit", hint="ref: names a branch or a tag")
        return found["HEAD"], branch or "HEAD"
    names = [ref] if ref.startswith("refs/") else [f"refs/tags/{ref}", f"refs/heads/{ref}"]
    found, _ = _listing(url, [pattern for name in names for pattern in (name, f"{name}^{{}}")])
    hits = [found.get(f"{name}^{{}}") or found[name] for name in names if name in found]
    if len(set(hits)) > 1:
        message = f"git: {ref} is a branch and a tag of {url}, and they differ"
        raise PlanError(message, hint=f"ref: {names[0]} or ref: {names[1]}")
    if not hits:
        hint = "a commit is named by its full hash" if _SHORT_HASH.fullmatch(ref) else "a branch, a tag or a full hash"
        raise PlanError(f"git: {url} has no branch or tag {ref!r}", hint=hint)
    return hits[0], ref


def _listing(url: str, patterns: Sequence[str]) -> tuple[dict[str, str], str]:
    """Return what the refs of a repository are, and which branch is its HEAD."""
    said = _git(["ls-remote", "--symref", "--", url, *patterns], Path("/"), url, _ASK_SECONDS)
    found, head = {}, ""
    for line in said.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: "):
            head = value.removeprefix("ref: ").removeprefix("refs/heads/")
        elif _HASH.fullmatch(value):
            found[name] = value
    return found, head


def _kept(url: str, commit: str) -> Path:
    """Return the folder that holds a commit, made now where it is not there."""
    root = state_root() / "git"
    kept = root / hashlib.sha256(f"{url}\0{commit}".encode()).hexdigest()[:20]
    if (kept / "facts.json").is_file():
        with suppress(OSError):
            os.utime(kept)  # when it was used last
        return kept
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    _clear(root)
    draft = root / f".{kept.name}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        draft.mkdir(mode=0o700)
        facts = _fetch(draft / "tree", url, commit)
        (draft / "facts.json").write_text(json.dumps(facts), "utf-8")
        with suppress(OSError):  # another process was faster, with the same
            draft.rename(kept)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if not (kept / "facts.json").is_file():
        raise PlanError(f"git: {kept} cannot be written", hint="JUPYTER_GPUDEPLOY_HOME names where things are kept")
    return kept


def _fetch(tree: Path, url: str, commit: str) -> dict[str, list[str]]:
    """Fetch one commit and write its files, and nothing of git. Return what of them does not come along."""
    tree.mkdir()
    _git(["init", "--quiet", "--template=", *_format(commit)], tree, url, _ASK_SECONDS)
    try:
        _git(["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, commit], tree, url, _FETCH_SECONDS)
    except PlanError:  # a server may give only what a ref names
        refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        _git(["fetch", "--quiet", "--", url, *refs], tree, url, _FETCH_SECONDS)
    _git(["checkout", "--quiet", "--force", "--detach", commit], tree, url, _FETCH_SECONDS)
    listed = _git(["ls-tree", "-r", "-z", "--full-tree", commit], tree, url, _ASK_SECONDS).split("\0")
    shutil.rmtree(tree / ".git")
    modules = [line.partition("\t")[2] for line in listed if line.startswith(_MODULE)]
    files = [line.partition("\t")[2] for line in listed if line.startswith("100")]
    return {"submodules": modules, "pointers": [name for name in files if _is_pointer(tree / name)]}


def _format(commit: str) -> list[str]:
    return [] if len(commit) == 40 else ["--object-format=sha256"]  # noqa: PLR2004 - digits of a SHA-1


def _is_pointer(file: Path) -> bool:
    """Return whether Git LFS keeps the content of a file elsewhere."""
    try:
        if file.is_symlink() or file.stat().st_size > _POINTER_SIZE:
            return False
        return file.read_bytes().startswith(_POINTER)
    except OSError:
        return False


def _clear(root: Path) -> None:
    """Delete what was not used for a month, and what a process killed meanwhile left."""
    now = time.time()
    for entry in root.iterdir():
        with suppress(OSError):
            age = now - entry.stat().st_mtime
            if age > (_STALE_SECONDS if entry.name.startswith(".") else _UNUSED_SECONDS):
                shutil.rmtree(entry, ignore_errors=True)


def _git(words: Sequence[str], folder: Path, url: str, seconds: float) -> str:
    """Run git and return what it printed. Raises PlanError with what it said."""
    options = [word for option in _SAFE for word in ("-c", option)]
    try:
        done = subprocess.run(
            ["git", *options, *words],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise PlanError("git: there is no program git here", hint="install git, or copy the files here") from None
    except subprocess.TimeoutExpired:
        raise PlanError(f"git: {url} does not answer within {seconds:g} s", hint=_OFFLINE_HINT) from None
    if done.returncode:
        said = _USER.sub("", done.stderr.decode("utf-8", "replace")).strip() or f"exit code {done.returncode}"
        raise PlanError(f"git: {url} cannot be fetched: {_first(said)}", hint=_hint(said))
    return done.stdout.decode("utf-8", "surrogateescape")


_OFFLINE_HINT = "a full commit hash that was fetched before needs no network"


def _environment() -> dict[str, str]:
    """Return an environment in which git asks nobody anything, and runs no program that an address names."""
    kept = {name: value for name, value in os.environ.items() if name not in _PLACES}
    kept.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    own = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    return {**kept, **own, "GIT_PROTOCOL_FROM_USER": "0"}


def _first(said: str) -> str:
    """Return the sentence of git that says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    return (told or lines)[0][:300]


def _hint(said: str) -> str:
    lower = said.lower()
    if any(words in lower for words in ("could not read username", "authentication failed", "permission denied")):
        return "sign in as for git clone in a terminal: a credential helper, or an ssh key"
    if any(words in lower for words in ("not our ref", "unadvertised", "did not match", "couldn't find remote ref")):
        return "the commit is not there: a branch, a tag or the full hash of one that was pushed"
    if any(words in lower for words in ("could not resolve", "unable to access", "connect", "timed out")):
        return _OFFLINE_HINT
    return "git ls-remote ADDRESS in a terminal tells more"


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
