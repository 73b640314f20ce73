"""The template process of warm trials: imports once, compiles once, then forks a trial for each request.

Run as a file by the interpreter of the run, which need not have our package: the standard library alone, nothing newer
than Python 3.10. `warm.Template` is its other half and its only caller::

    python _template.py DESCRIPTOR SCRIPT [PRELOAD ...]

In comes a request: the sizes of three blobs (4 bytes each, big endian), with the trial's output as an SCM_RIGHTS
descriptor; then the blobs, as the kernel keeps words, each ended by a NUL: its argv, its environment, and how that
differs from the template's (`NAME=value` to set, `NAME` to unset; what the imports have set stays).

Out go lines: `ready`, `refused WHY`, `started PID`, `ended PID CODE`, and `failed WHY` for a request of which no trial
came.

It ends when the other side hangs up. Trials that are running then go on.
"""

# This file does the work of an interpreter: it catches any error, calls private ends, and does without pathlib.
# ruff: noqa: BLE001, PTH100, PTH115, PTH120, PTH123, PTH208, S102, S606, SIM115, SLF001, T201

from __future__ import annotations

import sys

if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the folder of this file is no place to import from; the script's takes its place

import array
import atexit
import builtins
import contextlib
import gc
import importlib
import io
import os
import select
import signal
import socket
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, TracebackType

# Every page that a trial touches is copied for it first. So what comes before its first line avoids whatever is not
# needed: random and threading (which do things after each fork), and the enums around the signals.
_SIGCHLD, _SIG_DFL = int(signal.SIGCHLD), int(signal.SIG_DFL)
_set_handler = sys.modules["_signal"].signal
_FLUSH_FAILED = 120


class RefusedError(Exception):
    """A template with these preloads cannot be forked safely."""


class Trial(NamedTuple):
    """One request, in the words of the kernel."""

    argv: list[bytes]
    environment: bytes
    changes: list[bytes]


def main() -> None:
    """Serve; in a forked trial, become it."""
    control = socket.socket(fileno=int(sys.argv[1]))
    given, script, names = sys.argv[2], os.path.abspath(sys.argv[2]), sys.argv[3:]
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    sys.argv = [given]
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        preload(names)
    except RefusedError as refused:
        send(control, f"refused {refused}")
        os._exit(1)
    code = compiled(script)
    room = environment_room()
    sys.modules["__main__"] = fresh_main(script)
    become(serve(control), given, room)
    end(run(code))


# Before the fork


def preload(names: Sequence[str]) -> None:
    """Import what every trial will need. Raises RefusedError when that fails or leaves what a fork would break."""
    gc.disable()
    if "SEED" in os.environ:
        names = ["random", *names]
    listed = ", ".join(names)
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            import traceback

            last = traceback.extract_tb(error.__traceback__)[-1]
            said = "".join(traceback.format_exception_only(type(error), error)).strip()
            raise RefusedError(f"importing {name} failed: {said} ({last.filename}, line {last.lineno})") from None
    if "SEED" in os.environ and "numpy" in sys.modules:
        importlib.import_module("numpy.random")
    threading: Any = sys.modules.get("threading")
    for thread in threading.enumerate() if threading else ():
        if thread is not threading.main_thread():
            raise RefusedError(f"importing {listed} started the thread {thread.name}, which no trial would have")
    torch = sys.modules.get("torch")
    if "/dev/nvidia-uvm" in descriptors() or (torch is not None and torch.cuda.is_initialized()):
        raise RefusedError(f"importing {listed} initialised CUDA, which cannot be used any more after a fork")
    gc.collect()
    gc.freeze()
    # Libraries that are made for forks (OpenBLAS) end their threads before one, and start new ones when needed.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    left = len(os.listdir("/proc/self/task")) - 1
    if left:
        raise RefusedError(f"importing {listed} started {left} native threads, which no trial would have")


def descriptors() -> list[str]:
    """Return what the open descriptors point to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink("/proc/self/fd/" + name))
    return found


def compiled(script: str) -> CodeType | None:
    """Return the script's code; None when it cannot be had: a cold interpreter then says why."""
    try:
        with open(script, "rb") as stream:
            return compile(stream.read(), script, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return None


def fresh_main(script: str) -> ModuleType:
    """Return a __main__ as the interpreter makes it for a script."""
    module = ModuleType("__main__")
    loader = SourceFileLoader("__main__", script)
    module.__dict__.update(__file__=script, __cached__=None, __loader__=loader, __builtins__=builtins)
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    return module


def environment_room() -> tuple[int, int] | None:
    """Return where in memory /proc/self/environ lies: its start and its size. None where that cannot be known.

    Afterwards nothing of ours points there any more.
    """
    try:
        import ctypes  # noqa: F401 - so that every trial has it

        with open("/proc/self/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        start, stop = int(fields[47]), int(fields[48])
    except (ImportError, OSError, ValueError, IndexError):
        return None
    for name, text in list(os.environb.items()):
        os.environb[name] = text
    return (start, stop - start) if 0 < start < stop else None


def serve(control: socket.socket) -> Trial:
    """Fork a trial for each request and tell their ends. Returns in each trial; ends when the other side hangs up."""
    wake, taken = os.pipe(), os.pipe()
    os.set_blocking(wake[1], False)
    signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    send(control, "ready")
    poll = select.poll()
    for descriptor in (control.fileno(), wake[0], taken[0]):
        poll.register(descriptor, select.POLLIN)
    taking = 0
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == wake[0]:
                os.read(wake[0], 4096)
                if taking in tell_ends(control) and not select.select([taken[0]], [], [], 0)[0]:
                    os._exit(1)  # half a request may be left, and nobody knows where the next one begins
            elif descriptor == taken[0]:
                os.read(taken[0], 1)
                taking = 0
                poll.modify(control, select.POLLIN)
            elif not taking:
                taking = fork(control)
                if taking == 0:
                    return begin(control, wake, taken)
                if taking > 0:
                    send(control, f"started {taking}")
                    poll.modify(control, 0)
                taking = max(taking, 0)


def fork(control: socket.socket) -> int:
    """Fork for the request that waits. Return the pid, 0 in the trial, -1 when it cannot be done."""
    try:
        if not control.recv(1, socket.MSG_PEEK):
            os._exit(0)
    except OSError:
        os._exit(0)
    try:
        return os.fork()
    except OSError as error:
        os.close(receive(control)[1])
        send(control, f"failed the trial could not be forked: {error.strerror}")
        return -1


def tell_ends(control: socket.socket) -> list[int]:
    """Reap what has ended, and return it."""
    ended = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append(pid)
            send(control, f"ended {pid} {os.waitstatus_to_exitcode(status)}")
    return ended


def receive(control: socket.socket) -> tuple[Trial, int]:
    """Return the next request and its output. Raises EOFError when the other side hangs up."""
    received = array.array("i")
    header, ancillary, _, _ = control.recvmsg(12, socket.CMSG_SPACE(received.itemsize))
    for _, _, content in ancillary:
        received.frombytes(content[: received.itemsize])
    header += exactly(control, 12 - len(header))
    argv, environment, changes = (
        exactly(control, int.from_bytes(header[start : start + 4], "big")) for start in (0, 4, 8)
    )
    return Trial(argv.split(b"\0")[:-1], environment, changes.split(b"\0")[:-1]), received[0]


def exactly(control: socket.socket, size: int) -> bytes:
    """Return `size` bytes. Raises EOFError when the other side hangs up before."""
    parts = []
    while size:
        part = control.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def send(control: socket.socket, line: str) -> None:
    """Send a line; into the void when nobody listens any more."""
    with contextlib.suppress(OSError):
        control.sendall(line.replace("\n", " ").encode("utf-8", "replace") + b"\n")


# In the trial


def begin(control: socket.socket, wake: tuple[int, int], taken: tuple[int, int]) -> Trial:
    """Take the request, and let go of all that is the template's."""
    signal.set_wakeup_fd(-1)
    _set_handler(_SIGCHLD, _SIG_DFL)
    try:
        trial, output = receive(control)
    except (OSError, EOFError, IndexError):
        os._exit(1)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.write(taken[1], b".")
    control.close()
    for mine in (*wake, *taken, null, output):
        os.close(mine)
    return trial


def become(trial: Trial, script: str, room: tuple[int, int] | None) -> None:
    """Make this process what a fresh interpreter would be just before it runs the script."""
    gc.freeze()
    gc.enable()
    buffered = not os.environb.get(b"PYTHONUNBUFFERED")
    for change in trial.changes:
        name, sign, text = change.partition(b"=")
        if sign:
            os.environb[name] = text
        else:
            os.environb.pop(name, None)
    if room is not None:
        show(trial.environment, *room)
    if buffered == bool(os.environb.get(b"PYTHONUNBUFFERED")):
        replace_streams(buffered=not buffered)
    sys.orig_argv = [os.fsdecode(word) for word in trial.argv]
    sys.argv = sys.orig_argv[sys.orig_argv.index(script) if script in sys.orig_argv else 0 :]
    reseed(os.environ.get("SEED"))


def show(environment: bytes, start: int, size: int) -> None:
    """Put as much as there is room for where /proc shows it: processes of a run are found by their environment."""
    import ctypes

    shown = environment if len(environment) <= size else environment[: environment.rfind(b"\0", 0, size) + 1]
    ctypes.memmove(start, shown.ljust(size, b"\0"), size)


def replace_streams(*, buffered: bool) -> None:
    """Open stdout and stderr anew over their descriptors, as the interpreter does at its start."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        raw = open(descriptor, "wb", buffering=-1 if buffered else 0, closefd=False)
        stream: Any = io.TextIOWrapper(
            raw,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=buffered and name == "stderr",
            write_through=not buffered,
        )
        stream.mode = "w"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def reseed(seed: str | None) -> None:
    """Seed the global generators that were imported, from the run's seed, else from entropy: a fork copies them."""
    if seed and seed.isdigit():
        if "random" in sys.modules:
            sys.modules["random"].seed(int(seed))
        if "numpy" in sys.modules:
            importlib.import_module("numpy.random").seed(int(seed) % 2**32)
    elif "numpy.random" in sys.modules:  # random sees to it itself
        sys.modules["numpy.random"].seed()


def run(code: CodeType | None) -> int:
    """Run the script in the fresh __main__. Return the exit code; minus SIGINT for an interrupt."""
    if code is None:
        os.execv(sys.executable, [sys.executable, *sys.argv])
    try:
        exec(code, sys.modules["__main__"].__dict__)
    except SystemExit as error:
        flush()
        return exit_code(error.code)
    except BaseException as error:
        flush()
        trace = of_the_script(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def flush() -> bool:
    """Flush stdout and stderr. Return whether everything went out."""
    went_out = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception:
            went_out = False
    return went_out


def of_the_script(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of this file."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def exit_code(given: object) -> int:
    """Return what sys.exit(given) means; a text is printed."""
    if given is None or isinstance(given, int):
        return int(given or 0) & 0xFF
    with contextlib.suppress(Exception):
        print(given, file=sys.stderr)
    return 1


def end(code: int) -> NoReturn:
    """Do what the end of an interpreter does that can be seen from outside, and end."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    namespace = sys.modules["__main__"].__dict__
    for name in list(namespace):
        namespace[name] = None
    for held in gc.get_objects():
        if isinstance(held, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with contextlib.suppress(Exception):
                held.flush()
    if not flush():
        code = _FLUSH_FAILED
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
