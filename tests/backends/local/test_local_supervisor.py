"""The supervisor: what it is made of, what it gives a task, and that it keeps its slots full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from handmade import plan, until

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.local import claim, processes
from jupyter_gpudeploy.backends.local.layout import LocalFolder
from jupyter_gpudeploy.backends.local.states import Chronicle
from jupyter_gpudeploy.events.history import has_final_record
from jupyter_gpudeploy.events.store import JournalReader
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.plan.types import SecretRef, Slot, Source, Task, Warm, word

ROOT = str(Path(jupyter_gpudeploy.__file__).parent.parent)
FOREGROUND = """
import sys
sys.path.append(sys.argv.pop())
from jupyter_gpudeploy.backends.local.supervisor import main
main()
import json
print(json.dumps({name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}))
"""
SLEEP = "import time; time.sleep(600)"


def test_the_supervisor_needs_the_standard_library_alone(backend, local):
    ref = claim.claim(backend.render(plan("print(1)", "print(2)", parallelism=2)), backend.runs)
    told = str(backend.folder(ref).path) + "\0"
    subprocess.run([sys.executable, "-I", "-S", "-c", FOREGROUND, ROOT], input=told, text=True, check=True, timeout=60)
    assert local.status(ref).state is State.SUCCEEDED
    modules = json.loads(backend.folder(ref).supervisor_log.read_text())
    assert not [name for name, file in modules.items() if "site-packages" in file]
    foreign = {name.partition(".")[0] for name in modules} - {*sys.stdlib_module_names, "__main__"}
    assert foreign == {"jupyter_gpudeploy"}
    assert not {"asyncio", "subprocess", "http", "urllib.request", "socket", "hashlib"} & modules.keys()


def test_the_supervisor_holds_nothing_of_the_kernel(local):
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    ref = local.launch(SLEEP)
    os.close(inherited)
    local.wait_for(ref, lambda status: 0 in status.tasks)
    who = local.supervisor(ref)
    stat = Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()
    parent, session, terminal = int(stat[1]), int(stat[3]), int(stat[4])
    assert parent != os.getpid()
    assert (session, terminal) == (who.pid, 0)
    links = {int(entry.name): str(entry.readlink()) for entry in Path(f"/proc/{who.pid}/fd").iterdir()}
    assert links[0] == "/dev/null"
    log = str(local.backend.folder(ref).supervisor_log)
    assert (links[1], links[2]) == (log, log)
    own = str(local.backend.folder(ref).path)
    rest = [link for number, link in links.items() if number > 2]
    assert all(link.startswith((own, "anon_inode:", "pipe:")) for link in rest)


def test_a_task_gets_no_descriptor_but_its_output_and_default_signals(local):
    program = """
import os, signal
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:3], len(os.listdir("/proc/self/fd")))
print(os.read(0, 1), os.getsid(0) == os.getpid())
print([int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith(("SigBlk",))])
ignored = int([line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn")][0], 16)
print([number for number in (1, 2, 15) if ignored >> (number - 1) & 1])
"""
    ref = local.launch(program)
    local.wait(ref)
    assert local.lines(ref) == ["[0, 1, 2] 4", "b'' True", "[0]", "[]"]


def test_a_second_supervisor_of_a_run_leaves_at_once(local, backend):
    ref = local.launch(SLEEP)
    first = local.supervisor(ref)
    for _ in range(3):
        claim.start_supervisor(backend.folder(ref))
    local.wait_for(ref, lambda status: 0 in status.tasks)
    assert local.supervisor(ref) == first
    assert len([change for change in local.events(ref) if getattr(change, "task", 1) is None]) == 1


def test_an_ended_run_gets_no_second_end_from_a_late_supervisor(local, backend):
    ref = local.launch("print(1)")
    local.wait(ref)
    events = local.events(ref)
    until(lambda: not processes.is_alive(local.supervisor(ref)))
    claim.start_supervisor(backend.folder(ref))
    until(lambda: not processes.is_alive(local.supervisor(ref)))
    assert local.events(ref) == events


def test_the_slots_are_kept_full(local, tmp_path):
    program = f"""
import os, time
running = os.path.join({str(tmp_path)!r}, os.environ["GPUDEPLOY_TASK"])
open(running, "w").close()
deadline = time.monotonic() + 20
while len(os.listdir({str(tmp_path)!r})) < 4 and int(os.environ["GPUDEPLOY_TASK"]) < 3:  # home and three of us
    assert time.monotonic() < deadline, "never three at a time"
    time.sleep(0.005)
print(len(os.listdir({str(tmp_path)!r})))
"""
    status = local.wait(local.launch(*[program] * 3, parallelism=3))
    assert status.state is State.SUCCEEDED


def test_many_short_tasks_all_end(local):
    status = local.wait(local.launch(*["print(1)"] * 40, parallelism=4), seconds=60)
    assert status.counts() == {State.SUCCEEDED: 40}


def test_a_program_that_is_not_there_is_a_failure_with_a_reason(local, tmp_path):
    (tmp_path / "plain").write_text("text")
    tasks = (
        Task(0, "no", (word("no-such-program"),)),
        Task(1, "not executable", (word(str(tmp_path / "plain")),)),
        Task(2, "nul", (word(Slot.PYTHON), word("a\0b"))),
    )
    status = local.wait(local.launch(tasks=tasks, kind="sweep", retries=3))
    assert status.reason == "3 of 3 trials failed"
    assert status.tasks[0].reason == "no program 'no-such-program' on PATH"
    assert status.tasks[1].reason == f"{tmp_path}/plain cannot be started: Permission denied"
    assert "null" in status.tasks[2].reason


def test_a_death_by_signal_is_told_by_its_name(local):
    status = local.wait(local.launch("import os; os.kill(os.getpid(), 9)"))
    assert (status.tasks[0].reason, status.tasks[0].exit_code) == ("killed by SIGKILL", 137)
    assert status.reason == "killed by SIGKILL"


def test_tasks_inherit_the_kernels_environment_and_find_its_programs_first(local, monkeypatch):
    monkeypatch.setenv("HF_HOME", "/somewhere")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    program = "import os, shutil; e = os.environ; print(e['HF_HOME'], shutil.which('python'), sorted({'MPLBACKEND', 'JPY_PARENT_PID'} & e.keys()))"
    ref = local.launch(program)
    local.wait(ref)
    assert local.lines(ref) == [f"/somewhere {Path(sys.executable).parent}/python []"]


def test_the_nearer_environment_wins(local, monkeypatch):
    monkeypatch.setenv("A", "kernel")
    program = "import os; print(*(os.environ[name] for name in 'ABC'))"
    task = Task(0, "t", (word(Slot.PYTHON), word("-c"), word(program)), environment={"C": "task"})
    ref = local.launch(tasks=(task,), kind="job", environment={"B": "plan", "C": "plan"})
    local.wait(ref)
    assert local.lines(ref) == ["kernel plan task"]


@pytest.mark.fault(69)
def test_secrets_reach_the_task_and_no_file(local, backend, monkeypatch, tmp_path):
    monkeypatch.setenv("TOKEN_SOURCE", "canary-1f")
    (tmp_path / "secret").write_text("canary-2f\n")
    program = "import os; print(len(os.environ['A'] + os.environ['B']), os.environ['A'][-2:])"
    secrets = {"A": SecretRef("env", "TOKEN_SOURCE"), "B": SecretRef("file", str(tmp_path / "secret"))}
    ref = local.launch(program, secrets=secrets)
    assert local.wait(ref).state is State.SUCCEEDED
    assert local.lines(ref) == ["18 1f"]
    written = [file for file in backend.root.rglob("*") if file.is_file()]
    assert len(written) > 5
    assert not [file for file in written if b"canary" in file.read_bytes()]


def test_a_secret_that_is_not_there_is_said_and_not_tried_again(local):
    status = local.wait(local.launch("print(1)", secrets={"A": SecretRef("env", "NO_SUCH")}, retries=5))
    assert status.tasks[0].reason == "secret A: the environment variable NO_SUCH is not set"


def test_an_edit_after_the_launch_is_said_once(local, tmp_path):
    import hashlib

    script = tmp_path / "train.py"
    script.write_text("print('old')")
    source = Source(str(script), hashlib.sha256(script.read_bytes()).hexdigest())
    argv = (word(Slot.PYTHON), word(str(script)))
    gate = tmp_path / "gate"
    waits = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    tasks = (Task(0, "t0", (word(Slot.PYTHON), word("-c"), word(waits))), *(Task(n, f"t{n}", argv) for n in (1, 2)))
    ref = local.launch(tasks=tasks, kind="sweep", sources=(source,))
    local.wait_for(ref, lambda status: 0 in status.tasks)
    script.write_text("print('new')")
    gate.touch()
    local.wait(ref)
    assert local.lines(ref, 1) == ["new"]
    assert local.notices(ref) == ["train.py was changed after the launch: trial 1 and later run the new text"]


def test_warm_tasks_are_forked_and_end_like_any_other(local):
    program = "import os, sys; print(os.environ['GPUDEPLOY_TASK'], 'json' in sys.modules, sys.argv[1:])\nraise SystemExit(int(sys.argv[1]))"
    argv = (word(Slot.PYTHON), word(Slot.CODE, "/cell.py"))
    tasks = tuple(Task(n, f"t{n}", (*argv, word(str(n)))) for n in range(3))
    warm = Warm(word(Slot.CODE, "/cell.py"), ("json",))
    ref = local.launch(tasks=tasks, kind="sweep", files={"cell.py": program}, warm=warm, parallelism=2)
    status = local.wait(ref)
    assert {number: task.exit_code for number, task in status.tasks.items()} == {0: 0, 1: 1, 2: 2}
    assert local.lines(ref, 2) == ["2 True ['2']"]
    assert not local.notices(ref)


def test_a_warm_start_that_cannot_be_is_said_and_tasks_start_cold(local):
    argv = (word(Slot.PYTHON), word(Slot.CODE, "/cell.py"))
    warm = Warm(word(Slot.CODE, "/cell.py"), ("no_such_module",))
    ref = local.launch(tasks=(Task(0, "t", argv),), kind="job", files={"cell.py": "print(1)"}, warm=warm)
    assert local.wait(ref).state is State.SUCCEEDED
    (notice,) = local.notices(ref)
    assert "no_such_module" in notice
    assert "afresh" in notice


def test_a_warm_run_can_be_stopped_while_it_prepares(local, tmp_path):
    (tmp_path / "slow_import.py").write_text("import time; time.sleep(600)")
    argv = (word(Slot.PYTHON), word(str(tmp_path / "script.py")))
    (tmp_path / "script.py").write_text("print(1)")
    warm = Warm(word(str(tmp_path / "script.py")), ("slow_import",))
    ref = local.launch(tasks=(Task(0, "t", argv),), kind="job", warm=warm)
    local.wait_for(ref, lambda status: status.state is State.RUNNING)
    local.backend.stop(ref, 1)
    assert local.wait(ref, 10).state is State.STOPPED
    assert not processes.tree(ref.uid)


def test_when_the_template_dies_its_tasks_end_as_they_would_and_the_rest_start_cold(local, tmp_path):
    gate = tmp_path / "gate"
    program = f"import os, time\nprint('up', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\nraise SystemExit(7)"
    tasks = tuple(Task(n, f"t{n}", (word(Slot.PYTHON), word(Slot.CODE, "/cell.py"))) for n in range(3))
    warm = Warm(word(Slot.CODE, "/cell.py"), ("json",))
    ref = local.launch(tasks=tasks, kind="sweep", files={"cell.py": program}, warm=warm)
    until(lambda: local.lines(ref, 0) == ["up"])
    for pid in processes.children(local.supervisor(ref).pid):
        if b"_template.py" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getsid(pid) != pid:
            processes.send(processes.identity(pid), 9)
    gate.touch()
    status = local.wait(ref)
    assert {number: task.exit_code for number, task in status.tasks.items()} == {0: 7, 1: 7, 2: 7}
    assert any("afresh" in notice for notice in local.notices(ref))


def test_a_trial_whose_number_is_above_a_thousand_is_a_trial_like_any_other(local):
    program = "import os, sys; sys.exit(os.environ['GPUDEPLOY_ATTEMPT'] == '1')"
    tasks = tuple(Task(n, f"t{n}", (word(Slot.PYTHON), word("-c"), word(program))) for n in (999, 1000, 1001))
    status = local.wait(local.launch(tasks=tasks, kind="sweep", retries=1, parallelism=3))
    assert {n: (task.state, task.attempt) for n, task in status.tasks.items()} == dict.fromkeys(
        (999, 1000, 1001), (State.SUCCEEDED, 2)
    )


def test_a_reason_of_any_length_leaves_an_end_that_is_found(tmp_path):
    folder = LocalFolder(tmp_path)
    chronicle = Chronicle(folder)
    chronicle.task(0, State.FAILED, reason="\N{GRINNING FACE}" * 100_000)
    chronicle.run(State.FAILED, "\N{GRINNING FACE}" * 100_000)
    chronicle.close()
    assert has_final_record(folder.events_file)
    reasons = [event.reason for event in JournalReader(folder.events_file).poll()]
    assert [len(reason) for reason in reasons] == [2000, 2000]
    assert all(reason.endswith("\N{GRINNING FACE}…") for reason in reasons)
