"""Warm trials must be what cold ones are: the same script is run both ways and compared."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from jupyter_gpudeploy.backends.local import warm
from jupyter_gpudeploy.backends.local.processes import children, marks
from jupyter_gpudeploy.backends.local.warm import Template
from jupyter_gpudeploy.errors import BackendError

BASE = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH") if name in os.environ}


class Trials:
    """Runs trials of one template and keeps what they printed and how they ended."""

    def __init__(self, template: Template, script: str, folder: Path) -> None:
        self.template, self.script, self.folder = template, script, folder
        self.codes: dict[int, int] = {}
        self.logs: dict[int, Path] = {}

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> int:
        log = self.folder / f"{len(self.logs)}.log"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        argv = [sys.executable, self.script, *arguments]
        pid = self.template.spawn(argv, BASE if environment is None else environment, descriptor)
        os.close(descriptor)
        self.logs[pid] = log
        return pid

    def wait(self, *pids: int, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not set(pids) <= self.codes.keys():
            assert time.monotonic() < deadline, f"{set(pids) - self.codes.keys()} did not end"
            if select.select([self.template], [], [], 1)[0]:
                self.codes.update(self.template.poll())

    def run(self, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
        pid = self.start(*arguments, environment=environment)
        self.wait(pid)
        return self.codes[pid], self.logs[pid].read_text()


@pytest.fixture
def trials(tmp_path):
    """Returns a function: trials(program, preload) is a context of Trials."""

    @contextmanager
    def running(program, preload=(), environment=BASE, **files):
        work = tmp_path / "work"
        work.mkdir()
        script = work / "trial.py"
        if isinstance(program, bytes):
            script.write_bytes(program)
        else:
            script.write_text(program)
        for name, text in files.items():
            (work / f"{name}.py").write_text(text)
        template = Template(sys.executable, str(script), preload, str(tmp_path), environment)
        template.start()
        try:
            yield Trials(template, str(script), tmp_path)
        finally:
            template.close()

    return running


def cold(trials: Trials, *arguments: str, environment=BASE) -> tuple[int, str]:
    answer = subprocess.run(
        [sys.executable, trials.script, *arguments], env=environment, cwd=trials.folder, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    return answer.returncode, answer.stdout


def test_fifty_trials_two_at_a_time_print_all_and_end_well(trials):
    with trials("import sys\nfor line in range(200): print(f'{sys.argv[1]} line {line}')\n") as run:
        running: list[int] = []
        for number in range(50):
            running.append(run.start(str(number)))
            if len(running) - len(run.codes) > 1:
                run.wait(running[-2])
        run.wait(*running)
        assert set(run.codes.values()) == {0}
        for number, pid in enumerate(running):
            assert run.logs[pid].read_text() == "".join(f"{number} line {line}\n" for line in range(200))


ENDS = {
    "falls off the end": "print('x')",
    "sys.exit()": "import sys; sys.exit()",
    "exit code": "import sys; sys.exit(3)",
    "big exit code": "import sys; sys.exit(259)",
    "negative exit code": "import sys; sys.exit(-1)",
    "text": "import sys; sys.exit('no data')",
    "True": "raise SystemExit(True)",
    "os._exit": "import os; os._exit(7)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "raise KeyboardInterrupt",
    "segmentation fault": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "division": "def f(x):\n    return 1 / x\n\nprint('before')\nf(0)\n",
    "chained": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error\n",
    "syntax": "print('a')\nif True\n    pass\n",
    "bad bytes": b"print('\xff')\n",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])\n",
    "in an import": "import json\njson.loads('{')\n",
    "own hook": "import sys\nsys.excepthook = lambda *a: print('hooked', a[0].__name__)\n1/0\n",
}


@pytest.mark.parametrize("program", ENDS.values(), ids=ENDS.keys())
def test_a_trial_ends_and_complains_as_a_cold_one(trials, program):
    with trials(program) as run:
        assert run.run() == cold(run)


AT_EXIT = """
import atexit, logging, sys, threading, time, weakref
atexit.register(lambda: print("atexit"))
class Noisy:
    def __del__(self): print("deleted")
noisy = Noisy()
kept = open("kept.txt", "w")
kept.write("not flushed by the script")
def later():
    time.sleep(0.2)
    print("thread done")
threading.Thread(target=later).start()
logging.basicConfig(stream=sys.stdout)
logging.warning("logged")
sys.stdout.write("no newline at the end")
"""


def test_the_end_of_a_trial_flushes_and_waits_as_the_end_of_an_interpreter(trials):
    with trials(AT_EXIT, preload=["logging", "threading"]) as run:
        seen = run.run()
        assert (run.folder / "kept.txt").read_text() == "not flushed by the script"
        assert seen == cold(run)
        assert "thread done" in seen[1]
        assert "atexit" in seen[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error_as_in_a_cold_trial(trials):
    with trials("print('lost')") as run, Path("/dev/full").open("wb") as full:
        pid = run.template.spawn([sys.executable, run.script], BASE, full.fileno())
        run.wait(pid)
        answer = subprocess.run([sys.executable, run.script], stdout=full, stderr=full, env=BASE, check=False)
        assert run.codes[pid] == answer.returncode == 120


SELF = """
import json, os, subprocess, sys
text = open("/proc/self/stat").read().rpartition(")")[2].split()
print(json.dumps({
    "argv": sys.argv, "environ": dict(os.environ), "path0": sys.path[0], "cwd": os.getcwd(),
    "main": sorted((name, type(value).__name__) for name, value in vars(sys.modules["__main__"]).items()),
    "file": __file__, "name": __name__, "is_main": sys.modules["__main__"].__dict__ is globals(),
    "descriptors": sorted(os.listdir("/proc/self/fd")), "leads_session": os.getsid(0) == os.getpid(),
    "stdin": sys.stdin.read(), "isatty": sys.stdout.isatty(), "buffered": sys.stdout.write_through,
    "encoding": sys.stdout.encoding, "errors": [sys.stdout.errors, sys.stderr.errors],
    "lines": [sys.stdout.line_buffering, sys.stderr.line_buffering], "modules": "threading" in sys.modules,
    "env": subprocess.run(["env", "-0"], capture_output=True).stdout.decode("latin-1"),
    "orig_argv": sys.orig_argv[1:], "path": sys.path,
}, sort_keys=True))
"""
AWKWARD = {
    **BASE,
    "EMPTY": "",
    "EQUALS": "a=b=c",
    "LINES": "one\ntwo",
    "UMLAUT": "Übung",
    "BYTES": os.fsdecode(b"\xff\xfe"),
    "LONG": "x" * 90_000,
}


def test_argv_environment_and_main_are_those_of_a_cold_trial(trials):
    words = ("a b", "", "--lr=1e-3", "$(id); rm", "Ü", os.fsdecode(b"\xff"), "line\nbreak", "y" * 100_000)
    with trials(SELF, environment={**BASE, "GONE": "1", "EMPTY": "full"}) as run:
        for environment in (AWKWARD, BASE, {**AWKWARD, "PYTHONUNBUFFERED": "1"}):
            mine, theirs = (
                how(*words, environment=environment) for how in (run.run, lambda *a, **k: cold(run, *a, **k))
            )
            assert mine[0] == theirs[0] == 0, mine[1]
            mine, theirs = json.loads(mine[1]), json.loads(theirs[1])
            for shell in (mine, theirs):
                shell["env"] = sorted(shell["env"].split("\0"))
            assert mine == theirs


def test_a_trial_of_an_unbuffered_template_may_be_buffered(trials):
    with trials(SELF, environment={**BASE, "PYTHONUNBUFFERED": "1"}) as run:
        assert json.loads(run.run(environment={**BASE, "PYTHONUNBUFFERED": "1"})[1])["buffered"]
        assert not json.loads(run.run()[1])["buffered"]


@pytest.mark.fault(37)
def test_others_see_the_environment_of_a_trial_and_not_that_of_its_template(trials):
    program = "import sys, time\nprint('up', flush=True)\ntime.sleep(600)\n"
    own = {**BASE, "GPUDEPLOY_RUN": "uid", "GPUDEPLOY_TASK": "7", "FAR": "z" * 20_000}
    with trials(program, environment={**BASE, "GPUDEPLOY_RUN": "uid"}) as run:
        pid = run.start(environment=own)
        deadline = time.monotonic() + 20
        while run.logs[pid].read_text() != "up\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        shown = Path(f"/proc/{pid}/environ").read_bytes()
        assert marks(pid) == ("uid", "7")
        assert b"GPUDEPLOY_ROOM" not in shown
        os.kill(pid, signal.SIGKILL)
        run.wait(pid)
        assert run.codes[pid] == -signal.SIGKILL


def test_random_streams_differ_between_trials_and_repeat_with_a_seed(trials):
    with trials("import random; print(random.random())", preload=["random"]) as run:
        assert len({run.run()[1] for _ in range(5)}) == 5
        seeded = {**BASE, "SEED": "42"}
        assert len({run.run(environment=seeded)[1] for _ in range(3)}) == 1
        assert run.run(environment={**BASE, "SEED": "43"})[1] != run.run(environment=seeded)[1]


def test_numpy_streams_differ_between_trials_and_repeat_with_a_seed(trials):
    pytest.importorskip("numpy")
    program = "import numpy; a = numpy.random.rand(300, 300); print((a @ a).sum())"
    with trials(program, preload=["numpy"]) as run:
        assert len({run.run()[1] for _ in range(4)}) == 4
        assert len({run.run(environment={**BASE, "SEED": str(2**40)})[1] for _ in range(3)}) == 1


def test_what_was_imported_before_is_there_and_the_folder_of_the_script_is_searched(trials):
    program = "import sys; print('helper' in sys.modules); import helper, other; print(helper.VALUE, other.VALUE)"
    with trials(program, preload=["helper"], helper="VALUE = 1", other="VALUE = 2", json="raise 1/0") as run:
        assert run.run() == (0, "True\n1 2\n")


REFUSALS = {
    "missing": (
        "no_such_module",
        "importing no_such_module failed: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "raises": ("broken", "importing broken failed: ZeroDivisionError: division by zero"),
    "exits": ("leaves", "importing leaves failed: SystemExit: 3"),
    "thread": ("threads", "importing threads started the thread busy, which no trial would have"),
    "cuda": ("torch", "importing torch initialised CUDA, which cannot be used any more after a fork"),
    "dies": ("dies", "the template died (-9): it said nothing"),
    "aborts": ("aborts", "the template died (4): last words"),
}
MODULES = {
    "broken": "1 / 0",
    "leaves": "import sys; sys.exit(3)",
    "threads": "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), name='busy', daemon=True).start()",
    "torch": "class cuda:\n    is_initialized = staticmethod(lambda: True)",
    "dies": "import os; os.kill(os.getpid(), 9)",
    "aborts": "import os, sys; print('first\\nlast words', file=sys.stderr, flush=True); os._exit(4)",
}


@pytest.mark.parametrize(("module", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_preload_that_cannot_be_forked_is_refused_with_the_reason(trials, module, message):
    with trials("print(1)", preload=[module], **MODULES) as run:
        with pytest.raises(BackendError) as refusal:
            run.start()
        assert message in refusal.value.message
        assert "warm" in refusal.value.hint
        with pytest.raises(BackendError):
            _ = run.template.is_ready


def test_native_threads_that_a_fork_would_lose_are_refused(trials):
    program = """
import _thread, time
_thread.start_new_thread(time.sleep, (600,))
"""
    refusal = pytest.raises(BackendError, match="native threads, which no trial would have")
    with trials("print(1)", preload=["native"], native=program) as run, refusal:
        run.start()


def test_an_interpreter_that_is_not_there_is_an_error(tmp_path):
    template = Template(str(tmp_path / "python"), "x.py", (), str(tmp_path), BASE)
    with pytest.raises(BackendError, match="cannot be started"):
        template.start()


def test_a_script_that_is_not_there_fails_as_a_cold_one(trials):
    with trials("") as run:
        Path(run.script).unlink()
        template = Template(sys.executable, run.script, (), str(run.folder), BASE)
        template.start()
        gone = Trials(template, run.script, run.folder)
        code, said = gone.run()
        template.close()
        assert (code, "can't open file" in said) == (2, True)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(fits, seconds=20.0) -> None:
    deadline = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.fault(38)
def test_the_template_dies_with_its_supervisor_and_the_trials_go_on(tmp_path):
    (tmp_path / "trial.py").write_text("import time\ntime.sleep(600)\n")
    supervisor = f"""
import os, sys, time
from jupyter_gpudeploy.backends.local.warm import Template
template = Template(sys.executable, {str(tmp_path / "trial.py")!r}, (), {str(tmp_path)!r}, dict(os.environ))
template.start()
pid = template.spawn([sys.executable, {str(tmp_path / "trial.py")!r}], dict(os.environ), 2)
print(template.pid, pid, flush=True)
time.sleep(600)
"""
    words = [sys.executable, "-c", supervisor]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(warm.__file__).parents[3]) as process:
        template, trial = map(int, process.stdout.readline().split())
        process.kill()
    until(lambda: is_gone(template))
    assert not is_gone(trial)
    os.kill(trial, signal.SIGKILL)


def test_ends_are_told_after_the_template_was_killed(trials):
    with trials("import time\ntime.sleep(600)\n") as run:
        pids = [run.start(), run.start()]
        os.kill(run.template.pid, signal.SIGKILL)
        assert select.select([run.template], [], [], 20)[0]
        assert run.template.poll() == []
        with pytest.raises(BackendError, match=r"the template died \(-9\)"):
            run.start()
        for pid in pids:
            assert not select.select([run.template], [], [], 0)[0]
            os.kill(pid, signal.SIGTERM)
            run.wait(pid)
            assert run.codes[pid] == -signal.SIGKILL  # not our child: nobody knows its code


def test_an_end_that_came_while_another_was_started_wakes_up(trials):
    with trials("pass") as run:
        first = run.start()
        until(lambda: is_gone(first))
        second = run.start()
        run.wait(first, second)
        assert not select.select([run.template], [], [], 0)[0]


def test_spares_that_were_killed_are_replaced(trials):
    with trials("print('ok')") as run:
        run.run()
        for _ in range(3):
            spares = children(run.template.pid)
            for pid in spares:
                os.kill(pid, signal.SIGKILL)
            until(lambda spares=spares: all(map(is_gone, spares)))
            assert run.run() == (0, "ok\n")
        assert run.template.poll() == []


def test_spares_end_with_their_template_and_with_its_end(trials):
    with trials("print('ok')") as run:
        run.run()
        until(lambda: len(children(run.template.pid)) > 1)
        spares = children(run.template.pid)
        os.kill(run.template.pid, signal.SIGKILL)
        assert select.select([run.template], [], [], 20)[0]
        run.template.poll()
        until(lambda: all(map(is_gone, spares)))
    with_end = Template(sys.executable, run.script, (), str(run.folder), BASE)
    with_end.start()
    again = Trials(with_end, run.script, run.folder)
    again.run()
    until(lambda: len(children(with_end.pid)) > 1)
    spares = children(with_end.pid)
    with_end.close()
    until(lambda: all(map(is_gone, spares)))


def test_a_full_table_of_processes_is_an_error_and_not_the_end(trials):
    with trials("print('ok')") as run:
        assert run.run() == (0, "ok\n")
        import resource

        pid = run.template.pid
        if os.getuid() == 0:
            pytest.skip("root has no limit of processes")
        limits = resource.prlimit(pid, resource.RLIMIT_NPROC, (1, 10_000))
        with pytest.raises(BackendError, match="could not be forked"):
            run.start(), run.start(), run.start(), run.start()  # the first ones were forked before
        resource.prlimit(pid, resource.RLIMIT_NPROC, limits)
        assert run.run() == (0, "ok\n")


def test_a_word_that_the_kernel_could_not_keep_is_refused_and_harms_nothing(trials):
    with trials("print('ok')") as run:
        with pytest.raises(ValueError, match="null"):
            run.start("a\0b")
        assert run.run() == (0, "ok\n")


def test_closing_twice_and_before_the_start_is_no_error(tmp_path):
    template = Template(sys.executable, "x.py", (), str(tmp_path), BASE)
    template.close()
    template.close()
    with pytest.raises(BackendError):
        template.spawn(["x"], BASE, 1)
