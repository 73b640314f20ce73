from __future__ import annotations

import json
import math
import os
import pickle
import threading
from pathlib import Path

import pytest

from jupyter_gpudeploy.backends.local.backend import LocalBackend
from jupyter_gpudeploy.events.store import Journal, RunFolder
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.plan.types import Plan, Slot, Task, word
from jupyter_gpudeploy.trackers.files import EXPORT


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.output(0).mkdir(parents=True)
    (folder.path / "logs").mkdir()
    (folder.path / "run.json").write_text(json.dumps({"working_dir": str(tmp_path / "work")}))
    (tmp_path / "work").mkdir()
    return folder


def reader_of(folder, *names):
    return EXPORT.reader(folder, {"number": 0, "metric_files": [[{"slot": "output"}, f"/{name}"] for name in names]})


def told(points):
    return [(point.name, point.value, point.step, point.epoch) for point in points]


def written(file, text):
    """Write a whole file, and make sure that its time is not the one it had."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    if file.stat().st_mtime_ns == before:
        os.utime(file, ns=(before + 1, before + 1))


def test_a_csv_is_read_as_it_grows(folder):
    file = folder.output(0) / "m.csv"
    reader = reader_of(folder, "m.csv")
    assert told(reader.poll(ended=False)) == []
    file.write_text("epoch,step,loss,acc\n0,1,0.5,\n0,2,,0.")
    assert told(reader.poll(ended=False)) == [("loss", 0.5, 1, 0)]
    with file.open("a") as stream:
        stream.write("25\n1,3,nan,inf")
    assert told(reader.poll(ended=False)) == [("acc", 0.25, 2, 0)]
    points = reader.poll(ended=True)
    assert math.isnan(points[0].value)
    assert (points[1].name, points[1].value, points[1].line, points[1].source) == ("acc", math.inf, 4, "file")
    assert reader.generation == 0


def test_a_header_that_is_rewritten_makes_the_file_new(folder):
    file = folder.output(0) / "metrics.csv"
    reader = reader_of(folder, "metrics.csv")
    written(file, "step,loss\n1,0.5\n")
    assert told(reader.poll(ended=False)) == [("loss", 0.5, 1, None)]
    written(file, "acc,step,loss\n,1,0.5\n0.9,2,0.25\n")
    assert told(reader.poll(ended=False)) == [("loss", 0.5, 1, None), ("acc", 0.9, 2, None), ("loss", 0.25, 2, None)]
    assert reader.generation == 1


@pytest.mark.parametrize("text", ["step,loss\n1,9\n", "step,loss\n1,0.7\n2,0.6\n"])
def test_a_file_that_shrinks_or_changes_in_place_is_read_again(folder, text):
    file = folder.output(0) / "m.csv"
    reader = reader_of(folder, "m.csv")
    written(file, "step,loss\n1,0.5\n2,0.4\n")
    reader.poll(ended=False)
    written(file, text)
    assert [point.value for point in reader.poll(ended=False)] == [
        float(line.split(",")[1]) for line in text.splitlines()[1:]
    ]
    assert reader.generation == 1


def test_csv_of_other_tools(folder):
    (folder.output(0) / "a.csv").write_text(
        "                  epoch,     train/box_loss,metrics/mAP50-95(B)\n    1,   1.25,   0.5\n"
    )
    (folder.output(0) / "b.csv").write_text('\ufeffepoch;loss;note\n1;0.5;"a;b"\n')
    (folder.output(0) / "c.tsv").write_text("step\tloss\n1\t0.25\n")
    assert told(reader_of(folder, "a.csv", "b.csv", "c.tsv").poll(ended=True)) == [
        ("train/box_loss", 1.25, None, 1),
        ("metrics/mAP50-95(B)", 0.5, None, 1),
        ("loss", 0.5, None, 1),
        ("loss", 0.25, 1, None),
    ]


def test_jsonl_with_a_torn_end(folder):
    file = folder.output(0) / "m.jsonl"
    reader = reader_of(folder, "m.jsonl")
    file.write_text(
        '{"step": 1, "loss": 0.5}\nno json\n[1]\n{"global_step": "2", "val": {"loss": "0.25"}, "text": "x"}\n{"step": 3, "lo'
    )
    assert told(reader.poll(ended=False)) == [("loss", 0.5, 1, None), ("val/loss", 0.25, 2, None)]
    assert told(reader.poll(ended=True)) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}, 3], [("loss", 0.5, None, 1), ("loss", 0.25, None, 2)]),
        ({"loss": [0.5, 0.25], "acc": [0.1]}, [("loss", 0.5, 0, None), ("acc", 0.1, 0, None), ("loss", 0.25, 1, None)]),
        ({"epoch": [1, 2], "loss": [0.5, 0.25]}, [("loss", 0.5, None, 1), ("loss", 0.25, None, 2)]),
        (
            {
                "results": {"hellaswag": {"acc,none": 0.25, "alias": "h", "acc_stderr,none": "N/A"}},
                "ok": True,
                "acc": 1,
            },
            [("results/hellaswag/acc,none", 0.25, None, None), ("acc", 1.0, None, None)],
        ),
        (
            {
                "best_metric": None,
                "epoch": 2,
                "log_history": [{"step": 10, "epoch": 1.0, "loss": 0.5}, {"step": 20, "eval_loss": 0.25}],
            },
            [("loss", 0.5, 10, 1), ("eval_loss", 0.25, 20, None)],
        ),
        ({}, []),
        ([], []),
        (3, []),
        ("text", []),
    ],
)
def test_json_in_its_shapes(folder, content, expected):
    (folder.output(0) / "m.json").write_text(json.dumps(content))
    assert told(reader_of(folder, "m.json").poll(ended=True)) == expected


def test_json_is_read_again_only_when_it_has_changed_and_keeps_its_values_while_it_is_half_written(folder):
    file = folder.output(0) / "m.json"
    reader = reader_of(folder, "m.json")
    written(file, '{"loss": 0.5')
    assert told(reader.poll(ended=False)) == []
    written(file, '{"loss": 0.5}')
    assert told(reader.poll(ended=False)) == [("loss", 0.5, None, None)]
    assert (told(reader.poll(ended=False)), reader.generation) == ([], 0)
    written(file, '{"loss": ')
    assert (told(reader.poll(ended=False)), reader.generation) == ([], 0)
    written(file, '{"loss": NaN, "acc": 1}')
    points = reader.poll(ended=False)
    assert [point.name for point in points] == ["loss", "acc"]
    assert math.isnan(points[0].value)
    assert reader.generation == 1


def test_when_one_file_is_new_all_are_given_again(folder):
    reader = reader_of(folder, "a.csv", "b.json")
    written(folder.output(0) / "a.csv", "step,loss\n1,0.5\n")
    written(folder.output(0) / "b.json", '{"acc": 1}')
    assert len(reader.poll(ended=False)) == 2
    written(folder.output(0) / "b.json", '{"acc": 2}')
    assert told(reader.poll(ended=False)) == [("loss", 0.5, 1, None), ("acc", 2.0, None, None)]
    assert reader.generation == 1


def test_a_relative_path_lies_under_the_working_directory(folder, tmp_path):
    (tmp_path / "work" / "m.csv").write_text("loss\n1\n")
    reader = EXPORT.reader(folder, {"number": 0, "metric_files": [["m.csv"], [str(tmp_path / "work"), "/", "m.csv"]]})
    assert [point.value for point in reader.poll(ended=True)] == [1.0, 1.0]


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.fault(77)
@pytest.mark.parametrize("name", ["m.json", "m.jsonl", "m.csv", "m.pkl", "m.pt", "m.npy", "m"])
def test_nothing_is_unpickled(folder, tmp_path, name):
    canary = tmp_path / "canary"
    (folder.output(0) / name).write_bytes(pickle.dumps(Canary(canary)))
    assert list(reader_of(folder, name).poll(ended=True)) == []
    assert not canary.exists()


def test_what_is_no_plain_file_is_left_alone(folder):
    os.mkfifo(folder.output(0) / "pipe.csv")
    (folder.output(0) / "folder.json").mkdir()
    (folder.output(0) / "loop.csv").symlink_to("loop.csv")
    assert list(reader_of(folder, "pipe.csv", "folder.json", "loop.csv", "none.csv").poll(ended=True)) == []


def test_a_file_belongs_to_the_attempt_that_wrote_to_it_last(folder):
    file = folder.output(0) / "m.csv"
    reader = reader_of(folder, "m.csv")
    folder.log_file(0, 1).touch()
    written(file, "step,loss\n1,0.5\n")
    assert [point.attempt for point in reader.poll(ended=False)] == [1]
    journal = Journal(folder.events_file)
    start = file.stat().st_mtime
    journal.append(StateChange(start - 10, State.RUNNING, 0))
    journal.append(StateChange(start + 10, State.RUNNING, 0, attempt=2))
    journal.close()
    folder.log_file(0, 2).touch()
    assert list(reader.poll(ended=False)) == [], "the second attempt has not written yet"
    assert [point.attempt for point in reader_of(folder, "m.csv").poll(ended=False)] == [1]
    with file.open("a") as stream:
        stream.write("2,0.25\n")
    os.utime(file, (start + 20, start + 20))
    assert [(point.value, point.attempt) for point in reader.poll(ended=False)] == [(0.5, 2), (0.25, 2)]
    assert reader.generation == 1


def test_what_the_first_attempt_of_a_run_wrote_is_the_firsts_when_the_second_wrote_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    program = (
        "import os, sys\nprint('attempt', os.environ['GPUDEPLOY_ATTEMPT'])\n"
        "if os.environ['GPUDEPLOY_ATTEMPT'] == '2': sys.exit()\n"
        "open(os.environ['GPUDEPLOY_OUTPUT'] + '/m.csv', 'w').write('step,loss\\n1,0.5\\n')\nsys.exit(1)"
    )
    task = Task(0, "t", (word(Slot.PYTHON), word("-c"), word(program)), metric_files=(word(Slot.OUTPUT, "/m.csv"),))
    made = Plan("run", "Run", "job", "local", (task,), "f0", working_dir=str(tmp_path), retries=1)
    backend = LocalBackend()
    ref = backend.launch(backend.render(made))
    ends = [event for event in backend.states(ref, threading.Event()) if event.state.is_final]
    assert [(event.task, event.state, event.attempt) for event in ends] == [
        (0, State.SUCCEEDED, 2),
        (None, State.SUCCEEDED, 1),
    ]
    folder = backend.folder(ref)
    assert len(folder.log_files(0)) == 2
    points = EXPORT.reader(folder, folder.record()["tasks"][0]).poll(ended=True)
    assert [(point.value, point.attempt) for point in points] == [(0.5, 1)]


def test_a_task_without_files_costs_nothing(folder):
    reader = EXPORT.reader(folder, {"number": 0})
    assert list(reader.poll(ended=True)) == []


def problems_of(folder, name, content=None):
    if content is not None:
        (folder.output(0) / name).write_text(content)
    reader = reader_of(folder, name)
    reader.poll(ended=True)
    return [(Path(problem.file).name, problem.what, problem.is_missing) for problem in reader.problems()]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("m.jsonl", '{"loss": 1}\n\nepoch 2 done\n{"loss": 2}\nmore\n', "line 3 is no JSON object"),
        ("m.jsonl", '{"loss": 1}\n{"loss": ', "line 2 is no JSON object"),
        ("m.json", '{"loss": [1,\n 2', "line 2 is no JSON: it ends too early, or is damaged"),
        ("m.json", "loss: 1", "line 1 is no JSON: it ends too early, or is damaged"),
        ("m.json", '["a", "b"]', "no number is in it"),
        ("m.json", '"text"', "it is neither an object nor a list"),
        ("m.csv", "0.5,0.25\n0.4,0.2\n", "line 1 holds numbers, where the names of the columns belong"),
        ("m.csv", "step loss\nx y\n", "line 2 has no number below the names of the columns"),
        ("m.csv", "", "no number is in it"),
        ("m.txt", "loss=1", "only .csv, .tsv, .jsonl, .ndjson and .json are read"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_first_line(folder, name, content, what):
    assert problems_of(folder, name, content) == [(name, what, False)]


@pytest.mark.parametrize("content", ["phase,step,loss\ntrain,1,0.5\nval,1,\n\n", "loss\nnan\n"])
def test_texts_and_empty_cells_are_no_problem(folder, content):
    assert problems_of(folder, "m.csv", content) == []


def test_a_file_that_was_never_written_is_told(folder):
    assert problems_of(folder, "m.csv") == [("m.csv", "it was never written", True)]
    (folder.output(0) / "d.json").mkdir()
    assert problems_of(folder, "d.json") == [("d.json", "it is no plain file", False)]


def test_a_json_file_that_became_whole_is_no_problem(folder):
    file = folder.output(0) / "m.json"
    reader = reader_of(folder, "m.json")
    file.write_text('{"loss": ')
    reader.poll(ended=False)
    file.write_text('{"loss": 1.5}')
    reader.poll(ended=True)
    assert reader.problems() == []
