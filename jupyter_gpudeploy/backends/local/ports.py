"""Ports: which one a server gets, and whose server answers on it.

A port that somebody listens on is taken, on whichever address: a server that binds another one beside it would be
reached or not depending on who asks. What /proc hides (processes of other users, systems without /proc) is told as
unknown, never as free or ours.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from jupyter_gpudeploy.backends.local import procfs
from jupyter_gpudeploy.backends.local.procfs import PROC
from jupyter_gpudeploy.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_LISTEN = "0A"
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_LAST = 65535
_TRIES = 200
_PRIVILEGED = 1024


class Listener(NamedTuple):
    """A listening socket. `address` is an IP address, IPv4 also where an IPv6 socket carries it."""

    address: str
    port: int
    inode: str
    uid: int


def choose_port(wanted: int, host: str = "127.0.0.1", avoid: Collection[int] = ()) -> tuple[int, str]:
    """Return a port on which a server can listen, and why it is not the wanted one; empty when it is.

    Tries `wanted`, then the next ones, then leaves it to the system; 0 leaves it to the system at once. Nothing holds
    the port afterwards: start the server soon, and choose again if it lost the race. Raises BackendError when the host
    is no address of this machine.
    """
    family = _family(host)
    if wanted == 0:
        return _any_port(host, family), ""
    reason = ""
    for port in _candidates(wanted):
        obstacle = "is given to another task already" if port in avoid else _obstacle(host, port, family)
        if not obstacle:
            return port, f"{wanted} {reason}; using {port}" if reason else ""
        reason = reason or obstacle
    port = _any_port(host, family)
    return port, f"{wanted} {reason}; using {port}"


def listens(port: int, pids: Collection[int], host: str | None = None) -> bool | None:
    """Say whether these processes, and nobody else, listen on a port. None where that cannot be known.

    With `host`, only the sockets that a connection to that address reaches count.
    """
    if not procfs.has_proc():
        return None
    inodes = {listener.inode for listener in _reached(listeners(port), host)}
    if not inodes:
        return False
    missing = set(inodes)
    hidden = False
    for pid in pids:
        try:
            missing.difference_update(_inodes(pid))
        except PermissionError:
            hidden = True
        if not missing:
            return True
    return None if hidden else False


def owner_of(port: int, host: str | None = None) -> tuple[int, str] | None:
    """Return (pid, name) of a process that listens on a port; None when nobody does or it cannot be seen."""
    wanted = {listener.inode for listener in _reached(listeners(port), host)}
    if not wanted:
        return None
    for pid in map(int, filter(str.isdigit, os.listdir(PROC))):  # noqa: PTH208 - names are enough
        try:
            if not wanted.isdisjoint(_inodes(pid)):
                return pid, procfs.name(pid)
        except PermissionError:
            continue
    return None


def listeners(port: int) -> list[Listener]:
    """Return every listening TCP socket of a port; none where there is no /proc."""
    return [listener for listener, state in _sockets(port) if state == _LISTEN]


def _candidates(wanted: int) -> Iterator[int]:
    yield wanted
    start = wanted + 1 if wanted >= _PRIVILEGED else wanted + 8000
    yield from range(start, min(start + _TRIES, _LAST + 1))


def _obstacle(host: str, port: int, family: socket.AddressFamily) -> str:
    """Return why a server cannot have this port, as the rest of a sentence; empty when it can.

    Nearly every server sets SO_REUSEADDR, so that connections which its forerunner left behind do not hinder it. With
    that flag alone a socket that is bound and does not listen yet would be overlooked: the first attempt is without.
    """
    if found := listeners(port):
        return _whose(port, found)
    try:
        _bind(host, port, family, reuse=False)
    except PermissionError:
        return "needs the rights of the administrator"
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise BackendError(f"no server can listen on {host}:{port}: {error.strerror}") from error
    else:
        return ""
    try:
        _bind(host, port, family, reuse=True)
    except OSError:
        return "is in use by another process"
    return "" if any(_sockets(port)) else "is in use by another process"


def _whose(port: int, found: Iterable[Listener]) -> str:
    owner = owner_of(port)
    if owner is not None:
        return f"is used by pid {owner[0]} ({owner[1] or 'unknown'})"
    uid = min(listener.uid for listener in found)
    if uid == os.getuid():
        return "is used by a process that cannot be seen from here"
    try:
        return f"is used by another user ({pwd.getpwuid(uid).pw_name})"
    except KeyError:
        return f"is used by another user ({uid})"


def _family(host: str) -> socket.AddressFamily:
    try:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise BackendError(f"{host!r} is no address of this machine: {error.strerror}") from error


def _bind(host: str, port: int, family: socket.AddressFamily, *, reuse: bool) -> int:
    """Bind and listen for a moment; return the port that it was."""
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        server.bind((host, port))
        server.listen(1)
        bound: int = server.getsockname()[1]
        return bound


def _any_port(host: str, family: socket.AddressFamily) -> int:
    try:
        return _bind(host, 0, family, reuse=False)
    except OSError as error:
        raise BackendError(f"no server can listen on {host}: {error.strerror}") from error


def _reached(found: list[Listener], host: str | None) -> list[Listener]:
    """Return the listeners that a connection to `host` comes to: the kernel takes the nearest address."""
    if host is None or not found:
        return found
    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    for nearest in (str(address), "0.0.0.0", "::"):  # noqa: S104 - looked for, not bound
        if fitting := [listener for listener in found if listener.address == nearest]:
            return fitting
    return []


def _sockets(port: int) -> Iterator[tuple[Listener, str]]:
    """Yield every TCP socket with this local port and its state, as /proc/net/tcp numbers it."""
    suffix = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text("utf-8").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *rest = line.split(None, 10)
            if local.endswith(suffix):
                yield Listener(_address(local[: -len(suffix)]), port, rest[5], int(rest[3])), state


def _address(text: str) -> str:
    """Return an address that the kernel printed as words of the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    if len(packed) > 4 and packed[:12] == bytes(10) + b"\xff\xff":  # noqa: PLR2004 - an IPv4 address has four bytes
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)  # noqa: PLR2004 - the same


def _inodes(pid: int) -> Iterator[str]:
    """Yield the inodes of a process's sockets; none of one that is gone. Raises PermissionError if it is not ours."""
    folder = PROC / str(pid) / "fd"
    try:
        descriptors = os.listdir(folder)  # noqa: PTH208 - names are enough, and there may be thousands
    except PermissionError:
        raise
    except OSError:
        return
    for descriptor in descriptors:
        try:
            match = _SOCKET.fullmatch(os.readlink(folder / descriptor))  # noqa: PTH115 - no file stands behind the text
        except OSError:
            continue
        if match:
            yield match[1]
