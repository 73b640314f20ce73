"""Results come home whole or not at all, and nothing a pod sends reaches anything else."""

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from strict import check

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.base import RunRef
from jupyter_gpudeploy.backends.kubernetes import marks, reach
from jupyter_gpudeploy.backends.kubernetes.api.channels import ExecResult
from jupyter_gpudeploy.backends.kubernetes.api.errors import NotFoundError, UnreachableError
from jupyter_gpudeploy.backends.kubernetes.api.objects import Listing
from jupyter_gpudeploy.backends.kubernetes.files import results, transfer
from jupyter_gpudeploy.backends.kubernetes.files.arrivals import Arrivals, drafts
from jupyter_gpudeploy.backends.kubernetes.files.reader import reader_pod
from jupyter_gpudeploy.backends.kubernetes.files.transfer import Source, Transfer
from jupyter_gpudeploy.backends.kubernetes.layout import MirrorFolder
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.store import Journal, JournalReader, RunFolder
from jupyter_gpudeploy.events.types import State, StateChange

OUTBOX = Path(jupyter_gpudeploy.__file__).parent / "programs" / "outbox.py"


# --- archives that want out


def block(name, kind=tarfile.REGTYPE, content=b"", **fields):
    """One member, its content and the sum behind it, as a pod would send it."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, len(content)
    for field, value in fields.items():
        setattr(entry, field, value)
    padding = b"\0" * (-len(content) % 512)
    said = {"GPUDEPLOY.sha256": hashlib.sha256(content).hexdigest()}
    return entry.tobuf(tarfile.PAX_FORMAT) + content + padding + tarfile.TarInfo.create_pax_global_header(said)


END = b"\0" * 1024


@pytest.fixture
def place(tmp_path):
    """A folder to be written to, in one with something to be spared."""
    (tmp_path / "spared").write_bytes(b"spared")
    return tmp_path / "target"


def arrive(place, data, wanted, step=None):
    """Feed an archive; return the Arrivals. Whatever happened, nothing is outside of the target, or half."""
    before = sorted(path for path in place.parent.rglob("*") if place not in path.parents and path != place)
    with drafts(place) as folder:
        arrivals = Arrivals(wanted, place, folder)
        try:
            for start in range(0, len(data), step or len(data)):
                arrivals.feed(data[start : start + (step or len(data))])
        finally:
            assert before == sorted(
                path for path in place.parent.rglob("*") if place not in path.parents and path != place
            )
            assert (place.parent / "spared").read_bytes() == b"spared"
    assert not list(place.glob(".*"))
    for path in place.rglob("*"):
        assert stat.S_ISREG(path.lstat().st_mode) or stat.S_ISDIR(path.lstat().st_mode)
    return arrivals


def whys(arrivals):
    return {one.path: one.why for one in arrivals.refused}


@pytest.mark.parametrize("step", [1, 7, 512, 513, None])
def test_files_arrive_whole_however_the_stream_is_cut(place, step):
    long = "deep/" * 30 + "ü" * 80 + ".bin"
    content = os.urandom(3000)
    data = block("a.txt", content=b"hello") + block(long, content=content) + block("empty") + END
    arrivals = arrive(place, data, {"a.txt": 5, long: 3000, "empty": 0}, step)
    assert arrivals.arrived == ["a.txt", long, "empty"]
    assert not arrivals.refused
    assert not arrivals.missing
    assert (place / long).read_bytes() == content
    assert (place / "empty").read_bytes() == b""


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    ("name", "why"),
    [("../spared", "leads out"), ("a/../../spared", "leads out"), ("/etc/evil", "absolute"), ("./a", "no name"), ("a//b", "no name"), ("a\0b", "not asked")],
)  # fmt: skip
def test_no_name_leads_out(place, name, why):
    data = block(name, content=b"evil") + block("good", content=b"good") + END
    arrivals = arrive(place, data, {"good": 4})
    assert arrivals.arrived == ["good"]
    (said,) = whys(arrivals).values()
    assert why in said


@pytest.mark.fault(61)
@pytest.mark.parametrize("name", ["../spared", "/etc/evil"])
def test_no_name_leads_out_though_it_was_announced(place, name):
    arrivals = arrive(place, block(name, content=b"evil") + END, {name: 4})
    assert not arrivals.arrived
    assert set(whys(arrivals)) == {name}


@pytest.mark.fault(61)
@pytest.mark.parametrize(
    ("kind", "why"),
    [(tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a hard link"), (tarfile.FIFOTYPE, "a pipe"), (tarfile.CHRTYPE, "a device"), (tarfile.BLKTYPE, "a device"), (tarfile.DIRTYPE, "no plain file"), (b"Z", "no plain file")],
)  # fmt: skip
def test_what_is_no_plain_file_is_named_and_passed_over(place, kind, why):
    wanted = {"x": 4, "good": 4}
    data = block("x", kind, linkname="../spared") + block("good", content=b"good") + END
    arrivals = arrive(place, data, wanted)
    assert arrivals.arrived == ["good"]
    assert whys(arrivals) == {"x": why}
    assert arrivals.missing == ["x"]


@pytest.mark.fault(61)
def test_a_file_behind_a_link_of_its_folder_lies_in_a_folder(place):
    data = block("a", tarfile.SYMTYPE, linkname="..") + block("a/spared", content=b"evil") + END
    arrivals = arrive(place, data, {"a": 1, "a/spared": 4})
    assert arrivals.arrived == ["a/spared"]
    assert (place / "a/spared").read_bytes() == b"evil"


@pytest.mark.fault(61)
def test_links_that_lie_in_the_target_are_not_followed(place):
    place.mkdir()
    (place.parent / "other").mkdir()
    (place / "a").symlink_to("../other")
    (place / "b").symlink_to("../spared")
    with drafts(place) as folder:
        arrivals = Arrivals({"a/x": 4, "b": 4}, place, folder)
        arrivals.feed(block("a/x", content=b"evil") + block("b", content=b"evil") + END)
    assert not arrivals.arrived
    assert set(whys(arrivals)) == {"a/x", "b"}
    assert not list((place.parent / "other").iterdir())
    assert (place.parent / "spared").read_bytes() == b"spared"


@pytest.mark.fault(61)
def test_modes_are_ours(place):
    data = block("a", content=b"1", mode=0o6777) + block("b", content=b"2", mode=0o000) + END
    arrive(place, data, {"a": 1, "b": 1})
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((place / "b").stat().st_mode) == 0o666 & ~mask


@pytest.mark.fault(61)
def test_of_two_equal_names_the_first_stays(place):
    data = block("a", content=b"first") + block("a", content=b"other") + END
    arrivals = arrive(place, data, {"a": 5})
    assert (place / "a").read_bytes() == b"first"
    assert whys(arrivals) == {"a": "it came twice"}


@pytest.mark.fault(61)
def test_bombs_go_off_nowhere(place):
    wanted = {"a": 4}
    with pytest.raises(BackendError, match="more than it announced"):
        arrive(place, block("b", content=b"\0" * 3_000_000), wanted, 65536)
    with pytest.raises(BackendError, match="no archive"):
        arrive(place, gzip.compress(block("b", content=os.urandom(2000))), wanted)
    with pytest.raises(BackendError, match="no archive"):
        arrive(place, tarfile.TarInfo.create_pax_global_header({"x": "y" * 100_000}), wanted)
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(2**40), "GNU.sparse.name": "a"}
    entry = tarfile.TarInfo("a")
    entry.size, entry.pax_headers = 4, sparse
    arrivals = arrive(place, entry.tobuf(tarfile.PAX_FORMAT) + b"1234".ljust(512, b"\0") + END, wanted)
    assert whys(arrivals) == {"a": "a file with holes"}


def test_a_wrong_sum_a_wrong_size_and_a_file_without_a_sum_are_not_taken(place):
    entry = tarfile.TarInfo("nosum")
    entry.size = 4
    bad = tarfile.TarInfo.create_pax_global_header({"GPUDEPLOY.sha256": "0" * 64})
    changed = tarfile.TarInfo.create_pax_global_header({"GPUDEPLOY.error": "it changed while it was read"})
    plain = lambda name: block(name, content=b"1234")[:-1024]  # noqa: E731 - the sum is cut off
    data = plain("nosum") + plain("bad") + bad + plain("moved") + changed + block("long", content=b"12345") + END
    arrivals = arrive(place, data, dict.fromkeys(("nosum", "bad", "moved", "long"), 4))
    assert whys(arrivals) == {
        "nosum": "it came without its sum",
        "bad": "its sum is wrong",
        "moved": "it changed while it was read",
        "long": "5 bytes came of 4",
    }
    assert not list(place.iterdir())


def test_a_stream_that_is_cut_off_leaves_no_half_file(place):
    data = block("a", content=b"1234") + block("b", content=b"5" * 5000)
    arrivals = arrive(place, data[: len(data) - 3000], {"a": 4, "b": 5000, "c": 1})
    assert arrivals.arrived == ["a"]
    assert arrivals.missing == ["b", "c"]
    assert [path.name for path in place.iterdir()] == ["a"]


def test_what_a_killed_process_left_half_done_goes_with_the_next_download(place):
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from jupyter_gpudeploy.backends.kubernetes.files.arrivals import drafts\n"
        "with drafts(Path(sys.argv[1])) as folder:\n"
        "    (folder / '1').write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(place)], check=False)
    (left,) = place.iterdir()
    with drafts(place) as held, drafts(place):
        assert not left.exists()
        assert held.exists()
    assert not list(place.iterdir())


# --- both ends of a transfer


class Pod:
    """A cluster of one container, which is this machine. `cut`: break each connection after so many bytes of it."""

    def __init__(self, cut=None, change=None):
        self.asked = []
        self.sent = 0
        self.cut = cut
        self.change = change or (lambda data: data)

    def execute(self, pod, container, argv, *, stdin, on_output, timeout):
        given = b"".join(stdin)
        wish = json.loads(given[int(argv[3]) :])
        self.asked.append(wish)
        done = subprocess.run([sys.executable, *argv[1:]], input=given, capture_output=True, check=False)
        out = self.change(done.stdout) if wish["action"] == "send" else done.stdout
        if wish["action"] == "send":
            self.sent += len(out)
        if self.cut and wish["action"] == "send":
            on_output(1, out[: self.cut])
            self.cut = None
            raise UnreachableError("the connection broke off")
        for start in range(0, len(out), 32768):
            on_output(1, out[start : start + 32768])
        if done.stderr:
            on_output(2, done.stderr)
        return ExecResult(done.returncode)


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "pod"
    (folder / "model/deep").mkdir(parents=True)
    (folder / "model/best.pt").write_bytes(os.urandom(300_000))
    (folder / "model/deep/ü.json").write_text("{}")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def bring(pod, output, target, path="", near=None, progress=lambda *_: None):
    near = near or target.parent / "nothing"
    return Transfer(pod, Source("pod", "main", str(output)), path, target, near, progress).run()


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def test_a_folder_comes_home_as_it_is(output, tmp_path):
    seen = []
    files = bring(Pod(), output, tmp_path / "t", progress=lambda *both: seen.append(both))
    assert tree(tmp_path / "t") == tree(output)
    assert {file.relative_to(tmp_path / "t").as_posix() for file in files} == set(tree(output))
    assert os.access(tmp_path / "t/run.sh", os.X_OK)
    total = sum(map(len, tree(output).values()))
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)


def test_a_part_of_it_is_named_by_its_path(output, tmp_path):
    assert bring(Pod(), output, tmp_path / "a", "model/best.pt") == [tmp_path / "a/best.pt"]
    bring(Pod(), output, tmp_path / "b", "model")
    assert set(tree(tmp_path / "b")) == {"best.pt", "deep/ü.json"}
    with pytest.raises(BackendError, match="nothing is not there") as caught:
        bring(Pod(), output, tmp_path / "c", "nothing")
    assert caught.value.hint == "there is: model, run.sh"


def test_what_is_here_and_the_same_is_not_sent_again(output, tmp_path):
    bring(Pod(), output, tmp_path / "t")
    again = Pod()
    before = (tmp_path / "t/model/best.pt").stat().st_ino
    assert len(bring(again, output, tmp_path / "t")) == 3
    assert not again.sent
    assert (tmp_path / "t/model/best.pt").stat().st_ino == before
    content = bytearray((output / "model/best.pt").read_bytes())
    content[7] ^= 1
    (tmp_path / "t/model/best.pt").write_bytes(content)
    bring(again, output, tmp_path / "t")
    assert [wish["files"] for wish in again.asked if wish["action"] == "send"] == [[["model/best.pt", 300_000]]]
    assert tree(tmp_path / "t") == tree(output)


def test_what_came_through_the_log_is_not_sent_again(output, tmp_path):
    near = tmp_path / "mirror"
    (near / "model").mkdir(parents=True)
    (near / "model/best.pt").write_bytes((output / "model/best.pt").read_bytes())
    (near / "run.sh").write_bytes(b"?" * 10)
    pod = Pod()
    bring(pod, output, tmp_path / "t", near=near)
    assert pod.sent < 100_000
    assert tree(tmp_path / "t") == tree(output)


def test_a_broken_connection_is_taken_up_where_it_broke(output, tmp_path):
    for number in range(20):
        (output / f"{number:02d}.bin").write_bytes(os.urandom(20_000))
    pod = Pod(cut=250_000)
    seen = []
    bring(pod, output, tmp_path / "t", progress=lambda *both: seen.append(both))
    assert tree(tmp_path / "t") == tree(output)
    first, second = (wish["files"] for wish in pod.asked if wish["action"] == "send")
    assert 0 < len(second) < len(first)
    assert seen[-1][0] == seen[-1][1]


def test_a_file_that_was_changed_on_the_way_is_named_and_the_others_are_kept(output, tmp_path):
    best = (output / "model/best.pt").read_bytes()
    pod = Pod(change=lambda data: data.replace(best[:1000], b"\0" * 1000))
    with pytest.raises(BackendError, match=r"1 of 3 files did not come from pod: model/best.pt \(its sum is wrong\)"):
        bring(pod, output, tmp_path / "t")
    assert set(tree(tmp_path / "t")) == {"model/deep/ü.json", "run.sh"}
    bring(Pod(), output, tmp_path / "t")
    assert tree(tmp_path / "t") == tree(output)


def test_links_pipes_and_holes_are_left_out_and_named(output, tmp_path, caplog):
    (output / "latest").symlink_to("model/best.pt")
    (output / "folder").symlink_to("/etc")
    os.mkfifo(output / "pipe")
    (output / "holes").touch()
    os.truncate(output / "holes", 10 * 2**30)
    bring(Pod(), output, tmp_path / "t")
    assert set(tree(tmp_path / "t")) == {"model/best.pt", "model/deep/ü.json", "run.sh"}
    for name in ("latest (a link)", "folder (a link)", "pipe (no plain file)", "holes (a file with holes: 10 GiB"):
        assert name in caplog.text


def test_a_disk_without_room_is_told_before_anything_is_sent(output, tmp_path, monkeypatch):
    usage = transfer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    pod = Pod()
    with pytest.raises(BackendError, match="has room for 1000 B"):
        bring(pod, output, tmp_path / "t")
    assert not pod.sent


def test_a_pod_that_answers_nonsense_is_not_believed(output, tmp_path):
    class Liar(Pod):
        def execute(self, *arguments, on_output, **more):
            on_output(1, self.answer)
            return ExecResult(0)

    liar = Liar()
    for answer in (
        b"",
        b"x\n",
        b"[]\n",
        b'{"file": "a"}\n',
        b'{"file": "a", "size": -1, "stored": 0}\n{"end": 1}\n',
        b'{"end"',
    ):
        liar.answer = answer
        with pytest.raises(BackendError, match="no answer that can be read"):
            bring(liar, output, tmp_path / "t")


def test_an_image_without_python_says_so(output, tmp_path):
    class Bare(Pod):
        def execute(self, *arguments, on_output, **more):
            on_output(2, b"exec: python3: not found\n")
            return ExecResult(127)

    with pytest.raises(BackendError, match="cannot be read: exec: python3: not found"):
        bring(Bare(), output, tmp_path / "t")


def test_a_file_that_is_rewritten_while_it_is_read_is_not_taken_for_whole(tmp_path):
    sys.path.insert(0, str(OUTBOX.parent))
    try:
        import outbox
    finally:
        sys.path.pop(0)
    file = tmp_path / "a"
    file.write_bytes(b"x" * 10)
    out = io.BytesIO()
    outbox.send(str(tmp_path), [("a", 20), ("gone", 5)], out)
    said = out.getvalue()
    assert said.count(b"GPUDEPLOY.error=it changed while it was read") == 1
    assert b"GPUDEPLOY.error=No such file or directory" in said
    assert len(said) % 512 == 0


# --- where it is looked for


@pytest.fixture
def mirror(tmp_path):
    """The mirror of a job that left one file that was sent and one that was not."""
    folder = RunFolder(tmp_path / "mirror")
    folder.output(0).mkdir(parents=True)
    (folder.output(0) / "small.json").write_text("{}")
    record = {"kind": "job", "tasks": [{"number": 0}], "cluster": {"storage": None}, "service": None}
    folder.record_file.write_text(json.dumps(record))
    balance = {"attempt": 1, "files": [["small.json", 2, "0"]], "left": [["big.bin", 5_000_000]], "left_count": 1}
    folder.balance_file(0).write_text(json.dumps(balance))
    journal = Journal(folder.events_file)
    journal.append(StateChange(1.0, State.RUNNING, 0, details={"pod": "job-0-x"}))
    journal.append(StateChange(2.0, State.SUCCEEDED, 0))
    journal.append(StateChange(2.0, State.SUCCEEDED))
    journal.close()
    return folder


REF = RunRef("kubernetes", "job", "u", "f", 1.0, "here/ml")


class Empty:
    """A cluster on which nothing of the run is left. `asked` counts how often somebody looked."""

    asked = 0

    def list(self, *_, **__):
        self.asked += 1
        return Listing([], "1")


def fetch(mirror, cluster, target, path=""):
    return results.Results(lambda: cluster, lambda: None, REF, mirror).download(0, target, path, None)


def test_what_came_through_the_log_is_had_without_the_cluster(mirror, tmp_path):
    cluster = Empty()
    assert fetch(mirror, cluster, tmp_path / "t", "small.json") == [tmp_path / "t/small.json"]
    assert not cluster.asked


def test_what_went_with_its_pod_is_named_and_what_came_is_kept(mirror, tmp_path):
    with pytest.raises(
        BackendError, match=r"big.bin \(4.77 MiB\) did not fit into its log and went with its pod"
    ) as caught:
        fetch(mirror, Empty(), tmp_path / "t")
    assert caught.value.hint == "storage: 10Gi in the cell keeps what its tasks leave"
    assert set(tree(tmp_path / "t")) == {"small.json"}


def test_a_mirror_that_lacks_what_was_sent_is_not_whole(mirror, tmp_path):
    (mirror.output(0) / "small.json").unlink()
    with pytest.raises(BackendError):
        fetch(mirror, cluster := Empty(), tmp_path / "t", "small.json")
    assert cluster.asked


def test_results_of_an_earlier_attempt_are_not_taken_for_the_last(mirror, tmp_path):
    balance = json.loads(mirror.balance_file(0).read_text())
    mirror.balance_file(0).write_text(json.dumps({**balance, "attempt": 0, "left": [], "left_count": 0}))
    cluster = Empty()
    fetch(mirror, cluster, tmp_path / "t")
    assert cluster.asked


def test_many_tasks_have_the_journal_read_once_and_the_pods_listed_once(mirror, tmp_path, monkeypatch):
    read = []
    poll = JournalReader.poll
    monkeypatch.setattr(JournalReader, "poll", lambda reader: read.extend(found := poll(reader)) or found)
    for task in range(1, 40):
        mirror.output(task).mkdir()
        (mirror.output(task) / "small.json").write_text("{}")
        balance = {"attempt": 1, "files": [["small.json", 2, "0"]], "left": [["big.bin", 5]], "left_count": 1}
        mirror.balance_file(task).write_text(json.dumps(balance))
    cluster = Empty()
    found = results.Results(lambda: cluster, lambda: None, REF, mirror)
    for task in range(40):
        with pytest.raises(BackendError, match="went with its pod"):
            found.download(task, tmp_path / str(task), "", None)
    assert len(read) == 3
    assert cluster.asked == 1
    assert found.is_of(REF, mirror)
    assert not found.is_of(REF._replace(uid="v"), mirror)
    assert not found.is_of(REF, RunFolder(tmp_path / "moved"))


class Lively(Empty):
    """A cluster on which the pod of a task runs, until somebody wants something of it; then its successor does."""

    def __init__(self, mirror):
        self.mirror = mirror
        self.wanted = []

    def list(self, *_, **fields):
        self.asked += 1
        assert fields["fields"] == "status.phase=Running"
        name = f"pod-{len(self.wanted)}"
        running = {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}
        return Listing([{"metadata": {"name": name}, "status": running}], "1")

    def execute(self, pod, *_, **__):
        self.wanted.append(pod)
        journal = Journal(self.mirror.events_file)
        journal.append(StateChange(4.0, State.RUNNING, 0, 2, details={"pod": f"pod-{len(self.wanted)}"}))
        journal.close()
        raise NotFoundError(f"no pod {pod}", status=404)


def test_a_pod_that_went_since_they_were_listed_is_looked_for_once_more(mirror, tmp_path):
    journal = Journal(mirror.events_file)
    journal.append(StateChange(3.0, State.RUNNING))
    journal.append(StateChange(3.0, State.RUNNING, 0, 2, details={"pod": "pod-0"}))
    journal.close()
    cluster = Lively(mirror)
    found = results.Results(lambda: cluster, lambda: None, REF, mirror)
    with pytest.raises(NotFoundError):
        found.download(0, tmp_path / "t", "", None)
    assert (cluster.wanted, cluster.asked) == (["pod-0"], 1)
    with pytest.raises(NotFoundError):
        found.download(0, tmp_path / "t", "", None)
    assert (cluster.wanted, cluster.asked) == (["pod-0", "pod-1"], 2)


def test_a_forward_waits_for_what_can_be_ready_and_takes_a_job_as_it_runs(mirror):
    journal = Journal(mirror.events_file)
    journal.append(StateChange(3.0, State.RUNNING))
    journal.append(StateChange(3.0, State.STARTING, 0, 2, details={"pod": "pod-1"}))
    journal.close()
    folder = MirrorFolder(mirror.path)
    way = reach.Reach(None, REF, folder)
    assert way.ready_pod(0, wait=0, states=reach.LIVING) == "pod-1"
    with pytest.raises(BackendError, match="its task 0 is starting"):
        way.ready_pod(0, wait=0)
    journal = Journal(mirror.events_file)
    journal.append(StateChange(4.0, State.RUNNING, 0, 2))
    journal.close()
    assert way.ready_pod(0, wait=0) == "pod-1"
    mirror.record_file.write_text(json.dumps({**mirror.record(), "kind": "server"}))
    with pytest.raises(BackendError, match="its task 0 is running"):
        reach.Reach(None, REF, folder).ready_pod(0, wait=0)


@pytest.mark.fault(59)
@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a//b"])
def test_a_path_that_leads_out_is_refused(mirror, path, tmp_path):
    with pytest.raises(BackendError, match="is no path below the task's output folder"):
        fetch(mirror, Empty(), tmp_path / "t", path)


def test_a_reader_pod_is_restricted_ends_by_itself_and_belongs_to_the_run():
    ref = RunRef("kubernetes", "a" * 60, "u", "f", 1.0, "here/ml")
    options = {"image": "python:3.12", "storage": "claim:data", "tolerations": ["team=a:NoSchedule"]}
    pod = reader_pod(ref, {"cluster": options, "target": {"flavour": "openshift"}}, is_owned=True)
    check(pod)
    assert len(pod["metadata"]["name"]) <= 63
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert marks.UID not in pod["metadata"]["labels"]
    assert pod["spec"]["activeDeadlineSeconds"] == 6 * 3600
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert "runAsUser" not in pod["spec"]["securityContext"]
    assert pod["spec"]["volumes"] == [{"name": "storage", "persistentVolumeClaim": {"claimName": "data"}}]
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    own = reader_pod(ref, {"cluster": {**options, "storage": "10Gi"}}, is_owned=False)
    assert "ownerReferences" not in own["metadata"]
    assert own["spec"]["securityContext"]["runAsNonRoot"] is True
    assert own["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "a" * 60
