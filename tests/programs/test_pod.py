from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from pods import UID, Pod, record, tarball, until

from jupyter_gpudeploy.events.receive import Receiver
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.trackers.files import EXPORT as FILES

LINES = 200_000
CANARY = "hf_CANARYCANARYCANARY"


def job(tmp_path, code, *, files=None, **fields) -> Pod:
    return Pod(tmp_path / "gpudeploy", record(code, **fields), files=files)


def home(pod, tmp_path, task=0, **options) -> RunFolder:
    """Return the folder of the run that the records of the pod make."""
    (tmp_path / "mirror").mkdir(exist_ok=True)
    folder = RunFolder(tmp_path / "mirror")
    receiver = Receiver(folder, task, **options)
    pod.events = [event for item in pod.found()[1] for event in receiver.receive(item)]
    return folder


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def test_a_task_runs_with_its_environment_and_its_code_ends_the_pod(tmp_path):
    code = """
import os, sys
print({name: os.environ[name] for name in sorted(os.environ) if name.startswith("GPUDEPLOY_")})
print(os.getcwd(), sys.argv, os.environ["ONE"], os.environ["TWO"], sys.stdin.read() == "")
print("to stderr", file=sys.stderr)
import helper
sys.exit(3)
"""
    argv = [[{"slot": "python"}], [{"slot": "code"}, "/main.py"], ["--out=", {"slot": "output"}], [{"slot": "sources"}]]
    task = {"argv": argv, "parameters": {"lr": 0.1}, "environment": {"TWO": "2", "PYTHONPATH": "lib"}}
    files = {"work/sub/lib/helper.py": "print('helped')"}
    pod = job(tmp_path, code, files=files, task=task, environment={"ONE": "1"}, working_dir="/home/me/book/sub").run(
        GPUDEPLOY_FAILURES="2", GPUDEPLOY_IGNORED_FAILURES="", GPUDEPLOY_POD="digits-0-x", GPUDEPLOY_NODE="n1"
    )
    root = pod.root
    assert pod.code == 3
    first, *others = pod.text.splitlines()
    assert ast.literal_eval(first) == {
        "GPUDEPLOY_RUN": UID,
        "GPUDEPLOY_RUN_NAME": "digits",
        "GPUDEPLOY_TASK": "0",
        "GPUDEPLOY_TASK_NAME": "main",
        "GPUDEPLOY_ATTEMPT": "3",
        "GPUDEPLOY_OUTPUT": f"{root}/out/0",
        "GPUDEPLOY_METRICS": f"{root}/metrics/0.jsonl",
        "GPUDEPLOY_PARAMETERS": '{"lr": 0.1}',
    }
    where = f"{root}/work/sub ['{root}/code/main.py', '--out={root}/out/0', '{root}/work'] 1 2 True"
    assert others == [where, "to stderr", "helped"]
    (began,), (ended,) = pod.records("began"), pod.records("ended")
    assert (began["attempt"], began["pod"], began["node"]) == (3, "digits-0-x", "n1")
    assert began["python"].startswith("3.")
    assert (ended["attempt"], ended["exit_code"], ended["reason"]) == (3, 3, "")
    assert pod.last_word() == {"exit_code": 3, "reason": "", "attempt": 3, "metrics": {}}


def test_each_index_runs_its_own_trial_and_a_given_number_wins(tmp_path):
    tasks = [
        {"number": n, "name": f"t{n}", "argv": [["echo"], [f"trial {n}"]], "environment": {}, "parameters": {}}
        for n in range(3)
    ]
    for given, said in (
        ({"JOB_COMPLETION_INDEX": "2"}, "trial 2"),
        ({"GPUDEPLOY_TASK": "1"}, "trial 1"),
        ({}, "trial 0"),
    ):
        pod = job(tmp_path, "", tasks=tasks, kind="sweep").run(**given)
        assert pod.text == said + "\n"
        pod.remove()


def test_a_point_that_was_chosen_meanwhile_is_the_task_and_stays_out_of_its_environment(tmp_path):
    tasks = [{"number": n, "name": "not chosen yet", "argv": [], "environment": {}, "parameters": {}} for n in range(3)]
    shown = "import os; print([os.environ.get(f'GPUDEPLOY_{name}') for name in ('TASK', 'PARAMETERS', 'POINT')])"
    argv = [[{"slot": "python"}], ["-c"], [shown]]
    point = {"number": 2, "name": "lr=0.5", "argv": argv, "environment": {}, "parameters": {"lr": 0.5}}
    pod = job(tmp_path, "", tasks=tasks, kind="sweep").run(GPUDEPLOY_POINT=json.dumps(point), JOB_COMPLETION_INDEX="0")
    assert pod.text == "['2', '{\"lr\": 0.5}', None]\n"


def test_servers_are_told_their_port(tmp_path):
    code = "import os, sys; print(sys.argv[1:], os.environ['PORT'], os.environ['HOST'])"
    argv = [[{"slot": "python"}], [{"slot": "code"}, "/main.py"], [{"slot": "host"}, ":", {"slot": "port"}]]
    pod = job(tmp_path, code, task={"argv": argv}, kind="server", service={"port": 8123}).run()
    assert pod.text == "['0.0.0.0:8123'] 8123 0.0.0.0\n"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([["no-such-program"]], 127, "no program 'no-such-program' on PATH"),
        ([["/no/such/file"]], 127, "'/no/such/file' cannot be started"),
        ([["/etc/passwd"]], 126, "'/etc/passwd' cannot be started"),
        ([["nul\0"]], 126, "cannot be started"),
        ([["sh"], ["-c"], ["kill -SEGV $$"]], 128 + signal.SIGSEGV, "ended by SIGSEGV"),
        ([["sh"], ["-c"], ["kill -KILL $$"]], 137, "ended by SIGKILL"),
    ],
)
def test_what_went_wrong_is_said_and_has_the_code_of_a_shell(tmp_path, argv, code, words):
    pod = job(tmp_path, "", task={"argv": argv}).run()
    assert pod.code == code
    assert words in pod.last_word()["reason"]
    assert pod.records("ended")[0]["reason"] == pod.last_word()["reason"]
    if code in (126, 127):
        assert words in pod.text


@pytest.mark.parametrize("minor", [8, 9, 10])
def test_the_image_may_have_an_older_python(tmp_path, minor):
    python = shutil.which(f"python3.{minor}")
    if python is None or subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip(f"no Python 3.{minor} here")
    code = """
import sys
import time
from jupyter_gpudeploy import log, output_dir
log(step=1, loss=0.5)
(output_dir() / "version").write_text("%d.%d" % sys.version_info[:2])
print(sys.version_info[1])
"""
    content = record(code, secrets={"TOKEN": {"source": "env", "key": "TOKEN"}}, task={"metric_files": [["x.csv"]]})
    pod = Pod(tmp_path / "gpudeploy", content, files={"work/x.csv": "loss\n1\n"}, python=python).run(TOKEN=CANARY)
    assert (pod.code, pod.text) == (0, f"{minor}\n")
    folder = home(pod, tmp_path)
    assert json.loads(folder.metrics_file(0).read_text())["metrics"] == {"loss": 0.5}
    assert (folder.output(0) / "version").read_text() == f"3.{minor}"
    assert (folder.output(0) / "x.csv").read_text() == "loss\n1\n"


# Signals, orphans, zombies


def test_a_signal_reaches_the_task_which_may_end_in_peace(tmp_path):
    code = """
import signal, sys, time
def end(number, frame):
    print("saving")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready")
time.sleep(1000)
"""
    pod = job(tmp_path, code).start()
    until(lambda: b"ready\n" in pod.stdout)
    os.kill(pod.process.pid, signal.SIGTERM)
    assert pod.wait() == 143, "a pod that was evicted must not pass for one that is done"
    assert pod.text == "ready\nsaving\n"
    assert pod.last_word()["reason"] == "stopped by SIGTERM"


def test_what_does_not_listen_is_left_to_the_node_and_what_it_has_is_sent_in_time(tmp_path):
    code = """
import os, pathlib, signal, subprocess, sys, time
from jupyter_gpudeploy import log, output_dir
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'%d ' % os.getpid()); time.sleep(1000)"
for kind in ({"start_new_session": True}, {}):
    subprocess.Popen([sys.executable, "-c", child], **kind)
(output_dir() / "checkpoint").write_text("half")
log(step=1)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
(output_dir() / "checkpoint").write_text("whole")
sys.exit(3)
"""
    pod = job(tmp_path, code).start(GPUDEPLOY_GRACE_SECONDS="0.5")
    pids = until(lambda: (found := pod.found()[0].split()) and len(found) == 2 and [int(pid) for pid in found])
    until(lambda: pod.records("metrics"))
    os.kill(pod.process.pid, signal.SIGTERM)
    (end,) = until(lambda: pod.records("ended"))
    reason = "killed: it had not ended 0.5 s after SIGTERM"
    assert (end["exit_code"], end["reason"]) == (137, reason)
    assert (home(pod, tmp_path).output(0) / "checkpoint").read_text() == "half"
    until(pod.termination.read_text)
    assert pod.last_word()["reason"] == reason
    assert pod.process.poll() is None
    assert all(map(is_running, pids))
    (pod.root / "work" / "go").touch()
    assert pod.wait() == 143
    assert [end["exit_code"] for end in pod.records("ended")] == [137, 3]
    assert pod.last_word()["reason"] == "stopped by SIGTERM"
    assert (home(pod, tmp_path).output(0) / "checkpoint").read_text() == "whole"
    assert not any(map(is_running, pids))


def leave_word(pod, seconds):
    return subprocess.run(
        pod.command("grace", seconds), env=pod.environment({}), capture_output=True, check=False
    ).returncode


def test_a_grace_that_was_left_word_of_is_kept_by_pid_1_itself(tmp_path):
    code = """
import os, pathlib, signal, time
from jupyter_gpudeploy import output_dir
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(output_dir() / "checkpoint").write_text("half")
pathlib.Path("begun").touch()
time.sleep(1000)
"""
    pod = job(tmp_path, code).start(GPUDEPLOY_GRACE_SECONDS="1000")
    until((pod.root / "work" / "begun").exists)
    assert leave_word(pod, "1") == 0
    begun = time.monotonic()
    os.kill(pod.process.pid, signal.SIGTERM)
    assert pod.wait() == 143
    assert 0.9 < time.monotonic() - begun < 20
    assert pod.records("ended")[-1]["exit_code"] == 137
    assert (home(pod, tmp_path).output(0) / "checkpoint").read_text() == "half"
    assert leave_word(pod, "soon") == 1


@pytest.mark.parametrize("place", ["out", "state/starts", "in/run.json.gz"])
def test_a_pod_that_cannot_go_on_itself_says_why_and_fails(tmp_path, place):
    pod = job(tmp_path, "print('ran')")
    (pod.root / place).unlink(missing_ok=True)
    if place == "out":
        (pod.root / place).touch()  # no folder, and none can be made
    else:
        (pod.root / place).mkdir(parents=True)
    pod.run(GPUDEPLOY_FAILURES="2")
    assert pod.code == 1
    assert "ran\n" not in pod.text
    (end,) = pod.records("ended")
    assert (end["exit_code"], end["attempt"]) == (1, 3)
    assert end["reason"].startswith("the pod cannot run its task: ")
    assert str(pod.root / place) in end["reason"]
    word = pod.last_word()
    assert (word["exit_code"], word["reason"], word["attempt"]) == (1, end["reason"], 3)


def test_what_a_task_leaves_behind_ends_with_it_and_zombies_are_reaped(tmp_path):
    code = """
import os, subprocess, sys, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)  # an orphan that ends: somebody must wait for it
        os._exit(0)
    os.wait()
script = "trap 'echo in peace > $GPUDEPLOY_OUTPUT/asked; exit' TERM; sleep 1000 & echo $!; wait"
daemon = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
print(daemon.stdout.readline().decode().strip(), daemon.pid)
def zombies():
    stats = [open(f"/proc/{name}/stat").read().rpartition(")")[2].split() for name in os.listdir("/proc") if name.isdigit()]
    return [stat for stat in stats if stat[0] == "Z" and stat[1] == str(os.getppid())]
deadline = time.monotonic() + 30
while True:
    try:
        left = zombies()
    except OSError:
        continue
    if not left or time.monotonic() > deadline:
        break
    time.sleep(0.01)
print(len(left))
"""
    pod = job(tmp_path, code).run()
    assert pod.code == 0
    pids, zombies = pod.text.splitlines()
    assert zombies == "0"
    assert not any(is_running(int(pid)) for pid in pids.split())
    assert (pod.root / "out" / "0" / "asked").read_text() == "in peace\n"


def test_a_signal_while_it_boots_ends_the_pod(tmp_path):
    pod = job(tmp_path, "print('ran')")
    (pod.root / "in" / "runtime.tar.gz").unlink()
    os.mkfifo(pod.root / "in" / "runtime.tar.gz")
    pod.start()
    with (pod.root / "in" / "runtime.tar.gz").open("wb"):  # it is reading
        os.kill(pod.process.pid, signal.SIGTERM)
        assert pod.wait() == 143


# What is sent home


@pytest.mark.parametrize("secrets", [{}, {"TOKEN": {"source": "cluster", "key": "hf/token"}}], ids=["direct", "masked"])
def test_a_flood_of_lines_comes_through_unharmed_between_records(tmp_path, secrets):
    code = f"""
import os, sys
from jupyter_gpudeploy import log
for number in range({LINES}):
    os.write(1, b"line %d " % number)
    if number % 1000 == 0:
        log(step=number, loss=1 / (1 + number))
    os.write(1, b"goes on\\n")
os.write(1, bytes(range(256)) * 100 + b"the end")
"""
    pod = job(tmp_path, code, secrets=secrets).run(TOKEN=CANARY)
    assert pod.code == 0
    expected = b"".join(b"line %d goes on\n" % number for number in range(LINES)) + bytes(range(256)) * 100 + b"the end"
    assert pod.found()[0] == expected
    rows = [row for payload in pod.records("metrics") for row in payload["rows"]]
    assert [row["step"] for row in rows] == list(range(0, LINES, 1000))


@pytest.mark.fault(21)
def test_what_is_logged_comes_from_every_process_until_death(tmp_path):
    code = """
import multiprocessing, os, signal, subprocess, sys
from jupyter_gpudeploy import log
log(step=0, parent=1)
pid = os.fork()
if pid == 0:
    log(step=1, forked=1)
    os._exit(0)
os.waitpid(pid, 0)
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
child = "from jupyter_gpudeploy import log; log(step=2, started=1)"
subprocess.run([sys.executable, "-c", child], check=True, **quiet)
print("unfinished", end="", flush=True)
log({f"m/{index}": index for index in range(1000)}, step=3)
log(step=4, last=float("nan"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    pod = job(tmp_path, code).run(GPUDEPLOY_FAILURES="1")
    assert pod.code == 137
    assert pod.text == "unfinished"
    lines = home(pod, tmp_path).metrics_file(0).read_text().splitlines()
    assert lines == (pod.root / "metrics" / "0.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert {json.loads(line)["attempt"] for line in lines} == {2}
    last = pod.last_word()
    assert (last["exit_code"], last["reason"], last["attempt"]) == (137, "ended by SIGKILL", 2)
    assert last["metrics"]["parent"] == 1
    assert pod.termination.stat().st_size <= 4096


def test_metrics_come_while_the_task_runs(tmp_path):
    code = "import time; from jupyter_gpudeploy import log; log(loss=1); time.sleep(1000)"
    pod = job(tmp_path, code).start()
    until(lambda: pod.records("metrics"), "the metric")
    os.kill(pod.process.pid, signal.SIGTERM)
    assert pod.wait() == 143


@pytest.mark.fault(69)
def test_no_secret_leaves_the_pod(tmp_path):
    code = """
import os, sys, time
from jupyter_gpudeploy import log, output_dir
token = os.environ["HF_TOKEN"]
print("the token is", token)
for letter in token + "\\n":
    os.write(1, letter.encode())
    time.sleep(0.002)
print(token, file=sys.stderr, flush=True)
log({token: 1})
(output_dir() / "config.json").write_text(token)
(output_dir() / "good.txt").write_text("fine")
open("history.csv", "w").write("loss,token\\n1," + token)
os.system("echo " + token)
sys.stdout.write(token[:10])
"""
    fields = {
        "secrets": {"HF_TOKEN": {"source": "env", "key": "HF_TOKEN"}},
        "task": {"metric_files": [["history.csv"]]},
    }
    pod = job(tmp_path, code, **fields).run(HF_TOKEN=CANARY)
    assert pod.code == 0
    files = pod.records("file")
    sent = [zlib.decompress(base64.b64decode(payload["data"])) for payload in files]
    everything = [
        pod.stdout,
        pod.termination.read_bytes(),
        *sent,
        json.dumps([r.payload for r in pod.found()[1]]).encode(),
    ]
    assert not any(CANARY.encode() in data for data in everything)
    assert [payload["path"] for payload in files] == ["good.txt"]
    assert pod.text.count("••••••") == 4
    assert pod.text.endswith("hf_CANARYC")
    told = " ".join(payload["message"] for payload in pod.records("notice"))
    assert "history.csv" in told
    assert "config.json" in told


def test_metric_files_and_results_come_home_as_they_are(tmp_path):
    code = """
import json, os, sys, time
from pathlib import Path
from jupyter_gpudeploy import output_dir
out = output_dir()
(out / "deep").mkdir()
(out / "deep" / "empty").touch()
(out / "deep" / "model.bin").write_bytes(bytes(range(256)) * 300)
(out / "huge.bin").write_bytes(os.urandom(2_000_000))
os.symlink("/etc/passwd", out / "link")
os.symlink("/etc", out / "folder")
with open("history.csv", "w") as stream:
    stream.write("step,loss\\n")
    for step in range(40):
        stream.write(f"{step},{1 / (step + 1)}\\n")
        stream.flush()
        Path("scores.json").write_text(json.dumps({"step": step, "acc": 1}))
        time.sleep(0.05)
(out / "rows.jsonl").write_text('{"loss": 1}\\n' * 50_000)
"""
    words = [["history.csv"], ["scores.json"], [{"slot": "output"}, "/rows.jsonl"], ["never.csv"]]
    pod = job(tmp_path, code, task={"metric_files": words}).run()
    assert pod.code == 0
    assert sum(payload["path"] == "history.csv" for payload in pod.records("file")) >= 2, "not sent while it grew"
    folder = home(pod, tmp_path)
    out = folder.output(0)
    content = record("", task={"metric_files": words})
    folder.record_file.write_text(json.dumps(content))
    points = FILES.reader(folder, content["tasks"][0]).poll(ended=True)
    assert len(points) == 40 + 1 + 50_000
    assert pod.events == [event for event in pod.events if "huge.bin (2 MB)" in event.message]
    assert len(pod.events) == 1
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if not path.is_dir()}
    assert sorted(found) == ["deep/empty", "deep/model.bin", "history.csv", "rows.jsonl", "scores.json"]
    balance = json.loads(folder.balance_file(0).read_text())
    assert balance["left"] == [["huge.bin", 2_000_000]]
    assert [(name, size) for name, size, _ in sorted(balance["files"])] == [
        ("deep/empty", 0), ("deep/model.bin", 76_800), ("rows.jsonl", 600_000)
    ]  # fmt: skip
    for name, path in found.items():
        original = pod.root / ("work" if name in ("history.csv", "scores.json") else "out/0") / name
        assert path.read_bytes() == original.read_bytes(), name
        assert path.stat().st_mode & 0o7111 == 0


def test_results_stay_on_the_volume_of_the_run_too(tmp_path):
    code = "from jupyter_gpudeploy import output_dir; (output_dir() / 'x').write_text('here')"
    pod = job(tmp_path, code, cluster={"storage": "10Gi"}).run()
    assert (pod.root / "out" / "digits" / "0" / "x").read_text() == "here"
    assert [payload["path"] for payload in pod.records("file")] == ["x"]


def test_a_file_that_is_rewritten_is_sent_anew(tmp_path):
    code = """
import sys, time
from pathlib import Path
file = Path("history.csv")
for content in ("loss\\n" + "1\\n" * 100, "loss\\n" + "2\\n" * 50, "loss\\n3\\n"):
    file.write_text(content)
    time.sleep(1.5)
"""
    pod = job(tmp_path, code, task={"metric_files": [["history.csv"]]}).run()
    (tmp_path / "mirror").mkdir(exist_ok=True)
    folder = RunFolder(tmp_path / "mirror")
    receiver, seen = Receiver(folder, 0), []
    for item in pod.found()[1]:
        assert receiver.receive(item) == []
        if item.kind == "file":
            seen.append((folder.output(0) / "history.csv").read_text())
    assert list(dict.fromkeys(seen)) == ["loss\n" + "1\n" * 100, "loss\n" + "2\n" * 50, "loss\n3\n"]


@pytest.mark.fault(30)
def test_a_container_that_starts_again_is_a_further_attempt_and_finds_its_files(tmp_path):
    code = """
import os, signal
from pathlib import Path
from jupyter_gpudeploy import log
log(step=int(os.environ["GPUDEPLOY_ATTEMPT"]))
note = Path("note")
print(note.read_text() if note.exists() else "nothing")
note.write_text("left by " + os.environ["GPUDEPLOY_ATTEMPT"])
Path(os.environ["GPUDEPLOY_OUTPUT"], "main.py").write_text("x")
"""
    pod = job(tmp_path, code, files={"work/note": "sent"}).run()
    assert pod.text == "sent\n"
    first = pod.found()[1]
    pod.run()
    assert pod.text == "left by 1\n"
    assert pod.records("began")[0]["attempt"] == 2
    (tmp_path / "mirror").mkdir(exist_ok=True)
    folder = RunFolder(tmp_path / "mirror")
    receiver = Receiver(folder, 0)
    for item in [*first, *pod.found()[1]]:
        receiver.receive(item)
    assert [json.loads(line)["attempt"] for line in folder.metrics_file(0).read_text().splitlines()] == [1, 2]


# Manual runs


@pytest.fixture
def manual(tmp_path):
    pod = job(tmp_path, "", kind="manual", tasks=[], secrets={"TOKEN": {"source": "env", "key": "TOKEN"}})
    pod.start(TOKEN=CANARY, GPUDEPLOY_GRACE_SECONDS="1")
    until((pod.root / "requests").is_dir)
    yield pod
    pod.kill()


def ended(pod, number):
    return until(
        lambda: [payload for payload in pod.records("ended") if payload.get("exec") == number], f"end of {number}"
    )[0]


def test_commands_of_a_manual_run_come_home_with_their_lines_and_ends(tmp_path, manual):
    code = (
        "import os, sys; from jupyter_gpudeploy import log, output_dir; log(a=1); (output_dir() / 'f').write_text('x');"
        "os.write(1, b'\\xff\\xc3'); os.write(1, b'\\xa9 ' + os.environ['TOKEN'].encode() + b'\\nunfinished'); sys.exit(4)"
    )
    assert manual.ask(1000, manual.python, "-c", code).returncode == 0
    assert manual.ask(1001, "no-such-program").returncode == 0
    assert manual.ask(1002, "sh", "-c", "sleep 1000 & echo started").returncode == 0
    assert manual.ask(1000, "true").returncode == 17
    assert [ended(manual, number)["exit_code"] for number in (1000, 1001, 1002)] == [4, 127, 0]
    assert manual.ask(1003, "sleep", "1000").returncode == 0
    until(lambda: any(payload["exec"] == 1003 for payload in manual.records("exec")))
    os.kill(manual.process.pid, signal.SIGTERM)
    assert manual.wait() == 0
    assert ended(manual, 1003)["reason"] == "stopped by SIGTERM"
    assert manual.found()[0] == b""
    folder = home(manual, tmp_path, executes=True)
    assert folder.log_file(1000).read_bytes() == b"\xff\xc3\xa9 " + "••••••".encode() + b"\nunfinished"
    assert folder.log_file(1002).read_text() == "started\n"
    assert "no program" in folder.log_file(1001).read_text()
    assert json.loads(folder.metrics_file(1000).read_text())["metrics"] == {"a": 1}
    assert (folder.output(1000) / "f").read_text() == "x"
    states = [(event.task, str(event.state), event.exit_code) for event in manual.events]
    assert states[:1] == [(1000, "running", None)]
    assert {(1000, "failed", 4), (1001, "failed", 127), (1002, "succeeded", 0), (1003, "failed", 143)} <= set(states)


def test_a_command_that_ran_when_the_container_ended_is_told_to_have_ended(tmp_path, manual):
    assert manual.ask(1000, "sleep", "1000").returncode == 0
    (pid,) = until(lambda: children(manual.process.pid))
    os.kill(manual.process.pid, signal.SIGKILL)
    manual.wait()
    os.kill(pid, signal.SIGKILL)
    manual.start()
    assert ended(manual, 1000)["reason"] == "ended with its container"
    assert manual.records("began")[0]["attempt"] == 2


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("words", [["x", '["a"]'], ["1000"], ["1000", "[]"], ["1000", '"a"'], ["1000", "[1]"]])
def test_a_command_that_is_none_is_refused(manual, words):
    done = subprocess.run(
        manual.command("exec", *words), env=manual.environment({}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "usage" in done.stderr


def test_a_job_takes_no_commands(tmp_path):
    pod = job(tmp_path, "")
    assert "takes no commands" in pod.ask(1000, "true").stderr


# Unpacking


def test_an_archive_in_parts_is_put_together_and_checked(tmp_path):
    pod = job(tmp_path, "import big; print(len(big.text))", files={"work/big.py": "text = '" + "x" * 50_000 + "'"})
    data = (pod.root / "in" / "work.tar.gz").read_bytes()
    (pod.root / "in" / "work.tar.gz").unlink()
    size = -(-len(data) // 12)
    for index in range(12):
        (pod.root / "in" / f"work.tar.gz.{index:03}").write_bytes(data[index * size : (index + 1) * size])
    pod.run(PYTHONPATH=str(pod.root / "work"))
    assert pod.text == "50000\n"
    pod.remove()
    broken = job(tmp_path, "print('ran')")
    (broken.root / "in" / "work.tar.gz.sha256").write_text(hashlib.sha256(b"other").hexdigest())
    broken.run()
    assert broken.code == 1
    assert "work.tar.gz is not what was sent" in broken.text
    assert "work.tar.gz is not what was sent" in broken.last_word()["reason"]


@pytest.mark.parametrize("torn", [b"", b'{"work.tar', b"[]", b"\xff"])
def test_a_torn_note_of_what_was_unpacked_is_as_none(tmp_path, torn):
    pod = job(tmp_path, "print('ran')").run()
    note = pod.root / "state" / "unpacked.json"
    whole = json.loads(note.read_text())
    assert set(whole) == {"runtime.tar.gz", "work.tar.gz"}
    assert [file.name for file in note.parent.iterdir() if file.name.startswith(".")] == []
    note.write_bytes(torn)
    assert pod.run().code == 0
    assert json.loads(note.read_text()) == whole


def _link(kind):
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("work/x")
        member.type = kind
        member.linkname = "/etc/passwd"
        archive.addfile(member)
    return stream.getvalue()


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    "data",
    [
        *(tarball({name: "x"}) for name in ("../evil", "work/../../evil", "/evil", "evil", "work//evil", "in/boot.py")),
        *(_link(kind) for kind in (b"1", b"2", b"3", b"6")),
        b"no archive",
    ],
    ids=range(11),
)
def test_an_archive_with_anything_but_files_in_their_place_is_refused(tmp_path, data):
    pod = job(tmp_path, "print('ran')")
    pod.put("evil.tar.gz", data)
    pod.run()
    assert pod.code == 1
    assert "cannot be unpacked" in pod.text
    assert not list(tmp_path.rglob("evil"))
