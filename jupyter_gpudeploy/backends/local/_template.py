"""The template process of warm trials: imports once, compiles once, then forks trials ahead of their need.

Run as a file by the interpreter of the run, which need not have our package: the standard library alone, nothing newer
than Python 3.10. `warm.Template` is its other half and its only caller::

    python _template.py DESCRIPTOR FOLDER SCRIPT [PRELOAD ...]

In comes one byte for each wish: ORDER (a spare, now), GIVE (a spare with each end, from now on), KEEP (none).

Out go lines: `ready`, `refused WHY`, `spare PID` with a descriptor (SCM_RIGHTS), `ended PID CODE`, and `failed WHY`
for an order of which no spare came.

A spare is a forked process that waits for its trial at the other end of that descriptor. It takes one request: the
sizes of two blobs (4 bytes each, big endian), with the trial's output as an SCM_RIGHTS descriptor; then the blobs, as
the kernel keeps words, each ended by a NUL: its argv, and how its environment differs from the one that the template
was given (`NAME=value` to set, `NAME` to unset; what the imports have set stays). It ends when the other side hangs up.

The template ends when the other side hangs up. Trials that are running then go on.
"""

# This file does the work of an interpreter, and each of its imports is paid before the first trial: it catches any
# error, calls private ends, and does without pathlib, typing, contextlib, socket and signal.
# ruff: noqa: BLE001, PTH100, PTH115, PTH120, PTH123, PTH208, S102, S606, SIM115, SLF001, T201

from __future__ import annotations

import sys

if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the folder of this file is no place to import from; the script's takes its place

import _signal  # type: ignore[import-not-found]
import _socket
import atexit
import builtins
import gc
import io
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType, TracebackType
    from typing import Any, NoReturn

ORDER, GIVE, KEEP = b"o", b"g", b"k"
_SPARES = 2  # both of two trials may end at once
_FLUSH_FAILED = 120
_BLOCK = 1 << 16
_CONTROL = _socket.CMSG_SPACE(4)
_DESCRIPTORS = 1 << 16
_kept: list[object] = []  # sockets whose descriptors were closed: they may not be collected, which closes them again


class RefusedError(Exception):
    """A template with these preloads cannot be forked safely."""


def main() -> None:
    """Serve; in a forked trial, become it."""
    control = _socket.socket(fileno=int(sys.argv[1]))
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, _DESCRIPTORS)
    given, names = sys.argv[3], sys.argv[4:]
    try:
        os.chdir(sys.argv[2])
    except OSError as error:
        send(control, f"refused {sys.argv[2]}: {error.strerror}")
        os._exit(1)
    script = os.path.abspath(given)
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    sys.argv = [given]
    for number in (_signal.SIGHUP, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    room = Room()
    try:
        preload(names)
    except RefusedError as refused:
        send(control, f"refused {refused}")
        os._exit(1)
    code = compiled(script)
    sys.modules["__main__"] = fresh_main(script)
    gc.collect()
    gc.freeze()
    become(*serve(control), given, room)
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
            __import__(name)
        except BaseException as error:
            import traceback

            last = traceback.extract_tb(error.__traceback__)[-1]
            said = "".join(traceback.format_exception_only(type(error), error)).strip()
            where = "" if last.filename == __file__ else f" ({last.filename}, line {last.lineno})"
            raise RefusedError(f"importing {name} failed: {said}{where}") from None
    if "SEED" in os.environ and "numpy" in sys.modules:
        __import__("numpy.random")
    threading: Any = sys.modules.get("threading")
    for thread in threading.enumerate() if threading else ():
        if thread is not threading.main_thread():
            raise RefusedError(f"importing {listed} started the thread {thread.name}, which no trial would have")
    must_be_alone(listed)


def must_be_alone(listed: str) -> None:
    """Raise RefusedError when there is CUDA or a native thread."""
    torch = sys.modules.get("torch")
    if "/dev/nvidia-uvm" in descriptors() or (torch is not None and torch.cuda.is_initialized()):
        raise RefusedError(f"importing {listed} initialised CUDA, which cannot be used any more after a fork")
    if threads() == 1:
        return
    # Libraries that are made for forks (OpenBLAS) end their threads before one, and start new ones when needed.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    if threads() > 1:
        raise RefusedError(f"importing {listed} started {threads() - 1} native threads, which no trial would have")


def threads() -> int:
    """Return how many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> list[str]:
    """Return what the open descriptors point to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink("/proc/self/fd/" + name))
        except OSError:
            continue
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
    module: ModuleType = type(sys)("__main__")
    loader = type(__loader__)("__main__", script)  # type: ignore[name-defined]
    module.__dict__.update(__file__=script, __cached__=None, __loader__=loader, __builtins__=builtins)
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    return module


class Room:
    """Where /proc/self/environ lies in memory, so that a trial can show its own environment there.

    Made before anything is imported, while the environment is the given one. Afterwards nothing of ours points there
    any more. `size` is 0 where none of this can be done.
    """

    def __init__(self) -> None:
        os.environb.pop(b"GPUDEPLOY_ROOM", None)
        self.size = 0
        self._move: Any = None
        self._given = {name: name + b"=" + text for name, text in os.environb.items()}
        try:
            with open("/proc/self/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()
            self._start, stop = int(fields[47]), int(fields[48])
        except (OSError, ValueError, IndexError):
            return
        for name, text in list(os.environb.items()):
            os.environb[name] = text
        if 0 < self._start < stop:
            self.size = stop - self._start
            self._begin()

    def show(self, changes: Sequence[bytes]) -> None:
        """Show the changed environment, as much as there is room for: first what marks the processes of a run.

        The given one stands at the end of the room already, so most trials only write what is theirs before it: each
        page that a fork writes to is copied.
        """
        if not self.size:
            return
        given = self._given
        for change in changes:
            if change.partition(b"=")[0] in given:
                break
        else:
            words = b"\0".join(changes) + b"\0"
            if len(words) <= self._gap:
                self._put(words)
                return
        self._show_all(changes)

    def _show_all(self, changes: Sequence[bytes]) -> None:
        names = {change.partition(b"=")[0] for change in changes}
        words = [change for change in changes if b"=" in change]
        words += [word for name, word in self._given.items() if name not in names]
        words.sort(key=_is_no_mark)
        shown = b"\0".join(words) + b"\0"
        if len(shown) > self.size:
            shown = shown[: shown.rfind(b"\0", 0, self.size) + 1]
        self._put(shown.ljust(self.size, b"\0"))

    def _put(self, data: bytes) -> None:
        if self._move is not None:
            self._move(self._start, data, len(data))
            return
        memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(memory, data, self._start)
        finally:
            os.close(memory)

    def _begin(self) -> None:
        """Put the given environment at the end of the room: through /proc, or by ctypes where a kernel forbids that."""
        words = sorted(self._given.values(), key=_is_no_mark)
        shown = (b"\0".join(words) + b"\0").rjust(self.size, b"\0")[-self.size :]
        self._gap = self.size - sum(len(word) + 1 for word in words)
        try:
            self._put(shown)
        except OSError:
            try:
                import ctypes
            except ImportError:
                self.size = 0
                return
            self._move = ctypes.memmove
            self._put(shown)


def _is_no_mark(word: bytes) -> bool:
    return not word.startswith(b"GPUDEPLOY_")


class Reserve:
    """The spares that were forked and not handed out yet: pid, and the end of its channel that is to be handed out."""

    def __init__(self, control: _socket.socket, wake: tuple[int, int]) -> None:
        self._control = control
        self._wake = wake
        self._spares: dict[int, _socket.socket] = {}
        self._is_full = False
        self.gives = True

    @property
    def is_wanted(self) -> bool:
        """Whether one more should be forked when there is nothing else to do."""
        return self.gives and len(self._spares) < _SPARES and not self._is_full

    def add(self) -> _socket.socket | None:
        """Fork one more. In the spare itself, return its channel."""
        theirs, mine = _socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            theirs.close()
            mine.close()
            self._is_full = True
            self.why_not = error.strerror
            return None
        if pid == 0:
            self._let_go(theirs)
            return mine
        mine.close()
        self._spares[pid] = theirs
        return None

    def order(self) -> _socket.socket | None:
        """Hand one out, forked now if need be. In the spare itself, return its channel."""
        self._is_full = False
        if not self._spares:
            mine = self.add()
            if mine is not None:
                return mine
        if not self.hand_out():
            send(self._control, f"failed the trial could not be forked: {self.why_not}")
        return None

    def hand_out(self, line: str = "") -> bool:
        """Send a line and a spare behind it, in one. Return False, with nothing sent, when there is none."""
        if not self._spares:
            return False
        pid, theirs = self._spares.popitem()
        descriptor = theirs.fileno().to_bytes(4, sys.byteorder)
        try:
            self._control.sendmsg(
                [f"{line}spare {pid}\n".encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor)]
            )
        except OSError:
            pass  # nobody listens any more
        finally:
            theirs.close()
        return True

    def ended(self, pid: int, code: int) -> None:
        """Take note of an end; tell it, unless it was a spare that nobody knows of."""
        self._is_full = False
        found = self._spares.pop(pid, None)
        if found is not None:
            found.close()
        elif not (self.gives and self.hand_out(f"ended {pid} {code}\n")):
            send(self._control, f"ended {pid} {code}")

    def close(self) -> None:
        """End what was not handed out."""
        for theirs in self._spares.values():
            theirs.close()
        for pid in self._spares:
            os.waitpid(pid, 0)

    def _let_go(self, theirs: _socket.socket) -> None:
        """In a new spare: let go of all that is the template's."""
        _signal.set_wakeup_fd(-1)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        os.setsid()
        close = os.close
        close(self._control.fileno())
        close(theirs.fileno())
        close(self._wake[0])
        close(self._wake[1])
        for other in self._spares.values():
            close(other.fileno())
        _kept.append((self, theirs))


def serve(control: _socket.socket) -> tuple[list[bytes], list[bytes]]:
    """Fork spares and tell the ends of trials. Returns in each trial; ends when the other side hangs up."""
    wake = os.pipe()
    os.set_blocking(wake[1], False)
    _signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    send(control, "ready")
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake[0], select.POLLIN)
    reserve = Reserve(control, wake)
    mine: _socket.socket | None = None
    while True:
        events = poll.poll(0 if reserve.is_wanted else None)
        ready = [descriptor for descriptor, _ in events]
        if wake[0] in ready:
            os.read(wake[0], 4096)
            tell_ends(reserve)
        if not ready:
            mine = reserve.add()
        elif control.fileno() in ready:
            mine = heed(control, reserve)
        if mine is not None:
            return begin(mine)


def heed(control: _socket.socket, reserve: Reserve) -> _socket.socket | None:
    """Do what is wished; end when the other side has hung up. In a spare forked for it, return its channel."""
    try:
        wishes = control.recv(4096)
    except OSError:
        wishes = b""
    if not wishes:
        reserve.close()
        os._exit(0)
    for wish in (wishes[place : place + 1] for place in range(len(wishes))):
        if wish == ORDER:
            mine = reserve.order()
            if mine is not None:
                return mine
        else:
            reserve.gives = wish == GIVE
    return None


def tell_ends(reserve: Reserve) -> None:
    """Reap what has ended, and tell it."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            reserve.ended(pid, os.waitstatus_to_exitcode(status))
    except ChildProcessError:
        return


def send(control: _socket.socket, line: str) -> None:
    """Send a line; into the void when nobody listens any more."""
    try:
        control.sendall(line.replace("\n", " ").encode("utf-8", "replace") + b"\n")
    except OSError:
        return


# In the trial


def begin(channel: _socket.socket) -> tuple[list[bytes], list[bytes]]:
    """Wait for the request and take it: argv, changes of the environment. Without one, end."""
    output = -1
    try:
        data, ancillary, _, _ = channel.recvmsg(_BLOCK, _CONTROL)
        if not data:
            os._exit(0)
        output = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        middle = 8 + int.from_bytes(data[:4], "big")
        size = middle + int.from_bytes(data[4:8], "big")
        while len(data) < size:
            part = channel.recv(_BLOCK)
            if not part:
                os._exit(0)
            data += part
    except (OSError, IndexError):
        os._exit(0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.close(channel.fileno())
    _kept.append(channel)
    gc.enable()
    return data[8:middle].split(b"\0")[:-1], data[middle:].split(b"\0")[:-1]


def become(argv: list[bytes], changes: list[bytes], script: str, room: Room) -> None:
    """Make this process what a fresh interpreter would be just before it runs the script."""
    environment = os.environ._data  # type: ignore[attr-defined]
    buffered = not environment.get(b"PYTHONUNBUFFERED")
    for change in changes:
        name, sign, text = change.partition(b"=")
        if sign:
            os.putenv(name, text)
            environment[name] = text
        elif name in environment:
            os.unsetenv(name)
            del environment[name]
    room.show(changes)
    if buffered == bool(environment.get(b"PYTHONUNBUFFERED")):
        replace_streams(buffered=not buffered)
    sys.orig_argv = [os.fsdecode(word) for word in argv]
    sys.argv = sys.orig_argv[sys.orig_argv.index(script) if script in sys.orig_argv else 0 :]
    reseed(environment.get(b"SEED", b"").decode("ascii", "replace"))


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


def reseed(seed: str) -> None:
    """Seed the global generators that were imported, from the run's seed, else from entropy: a fork copies them."""
    if seed and seed.isdigit():
        if "random" in sys.modules:
            sys.modules["random"].seed(int(seed))
        if "numpy" in sys.modules:
            __import__("numpy.random").random.seed(int(seed) % 2**32)
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
        return -_signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
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
    try:
        print(given, file=sys.stderr)
    except Exception:
        return 1
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
            try:
                held.flush()
            except Exception:  # noqa: S112 - as at the end of an interpreter
                continue
    if not flush():
        code = _FLUSH_FAILED
    if code < 0:
        _signal.signal(-code, _signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
