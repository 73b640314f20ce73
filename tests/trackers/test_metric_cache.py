"""What was read of a task that has ended is kept, and read again from there for as long as it holds."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.trackers import _cache

LINES = 3000


def status_of(state, attempt=1):
    return Status.of([0], [StateChange(1.0, state, 0, attempt=attempt)])


DONE = status_of(State.SUCCEEDED)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    for name in ("logs", "metrics", "out/0"):
        (folder.path / name).mkdir(parents=True)
    tasks = [{"number": 0, "metric_files": [[{"slot": "output"}, "/m.csv"]]}]
    folder.record_file.write_text(json.dumps({"tasks": tasks}))
    folder.log_file(0).write_text("".join(f"step={i} loss={i / 7} acc=nan\n" for i in range(LINES)))
    folder.metrics_file(0).write_text('{"time": 5.5, "attempt": 1, "step": 1, "metrics": {"lr": 0.5}}\n')
    (folder.output(0) / "m.csv").write_text("val\n0.25\n")
    return folder


def collected(folder, status=DONE):
    collector = Collector(folder)
    collector.poll(status)
    return collector


def told(collector):
    return [tuple(map(repr, point)) for point in collector.points()]


def falsify(folder):
    """Change what the log says, so that it cannot be told from its size and time: who says the same read the cache."""
    file = folder.log_file(0)
    before = file.stat()
    file.write_text(file.read_text().replace("loss", "LOST"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_was_read_is_not_parsed_again(folder):
    first = collected(folder)
    assert len(first.points()) == 2 * LINES + 2
    falsify(folder)
    second = collected(folder)
    assert told(second) == told(first)
    assert second.names() == first.names()
    assert repr(second.latest()) == repr(first.latest())
    assert second.best("loss", "maximize") == first.best("loss", "maximize") == {0: (LINES - 1) / 7}


def test_of_a_task_that_only_printed_the_same_holds(folder):
    folder.metrics_file(0).unlink()
    (folder.output(0) / "m.csv").unlink()
    first = collected(folder)
    falsify(folder)
    assert told(collected(folder)) == told(first)


def test_one_who_read_along_keeps_the_same(folder):
    log = folder.log_file(0)
    whole = log.read_text()
    log.write_text(whole[: len(whole) // 2])
    first = Collector(folder)
    first.poll(status_of(State.RUNNING))
    assert not folder.cache_file(0).exists(), "what still runs is not kept"
    with log.open("a") as stream:
        stream.write(whole[len(whole) // 2 :])
    first.poll(DONE)
    falsify(folder)
    assert told(collected(folder)) == told(first)


@pytest.mark.parametrize("change", ["longer", "rewritten", "metrics", "file", "attempt", "version"])
def test_what_has_changed_is_read_anew(folder, change, monkeypatch):
    collected(folder)
    falsify(folder)
    status = DONE
    if change == "longer":
        with folder.log_file(0).open("a") as stream:
            stream.write("x=1.5\n")
    elif change == "rewritten":
        shutil.copy(folder.log_file(0), folder.path / "copy")
        (folder.path / "copy").replace(folder.log_file(0))
    elif change == "metrics":
        folder.metrics_file(0).write_text("")
    elif change == "file":
        (folder.output(0) / "m.csv").unlink()
    elif change == "attempt":
        folder.log_file(0, 2).write_text("")
        status = status_of(State.SUCCEEDED, attempt=2)
    else:
        monkeypatch.setattr(_cache, "__version__", "0.0.0")
    assert "LOST" in collected(folder, status).names()


def test_a_torn_cache_is_none_at_any_length(folder):
    first = collected(folder)
    whole = folder.cache_file(0).read_bytes()
    for end in [*range(0, 400, 7), *range(400, len(whole), len(whole) // 50), len(whole) - 1]:
        folder.cache_file(0).write_bytes(whole[:end])
        assert told(collected(folder)) == told(first)
    folder.cache_file(0).write_bytes(whole[:-20] + b"x" * 20)
    falsify(folder)
    assert "LOST" in collected(folder).names()


def test_it_may_be_deleted_and_is_made_again(folder):
    first = collected(folder)
    shutil.rmtree(folder.cache_file(0).parent)
    assert told(collected(folder)) == told(first)
    assert folder.cache_file(0).exists()


def test_where_it_cannot_be_written_nothing_is_kept(folder):
    folder.cache_file(0).parent.write_text("in the way")
    assert told(collected(folder)) == told(collected(folder))


def test_little_is_not_kept(folder):
    folder.log_file(0).write_text("loss=1\n")
    collected(folder)
    assert not folder.cache_file(0).parent.exists()


def test_of_a_folder_that_is_gone_none_is_made(folder):
    collector = Collector(folder)
    collector.poll(status_of(State.RUNNING))
    shutil.rmtree(folder.path)
    collector.poll(DONE)
    assert not folder.path.exists()


def test_what_lost_its_keeper_may_write_on_and_is_not_kept(folder):
    collected(folder, status_of(State.LOST))
    assert not folder.cache_file(0).exists()
