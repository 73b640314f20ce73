"""A run whose folder the test writes itself: the real files and the real readers, and no process."""

from __future__ import annotations

import json
import time

from jupyter_gpudeploy.collect import Collector
from jupyter_gpudeploy.events.samples import SampleWriter
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.store import Journal, JournalReader, RunFolder
from jupyter_gpudeploy.events.types import State, StateChange
from jupyter_gpudeploy.notebook.card.feed import Feed
from jupyter_gpudeploy.notebook.card.session import Session
from jupyter_gpudeploy.notebook.card.tail import LogTail
from jupyter_gpudeploy.summary import summarize


class Written:
    """What Run promises to a feed."""

    def __init__(self, path, tasks=1, kind="sweep"):
        self.name, self.uid, self.notes = "written", "u1", []
        self.folder = path
        self.files = RunFolder(path)
        for name in ("logs", "metrics"):
            (path / name).mkdir(parents=True)
        record = {
            "name": "written", "title": "Written", "uid": "u1", "kind": kind, "backend": "local", "parallelism": 2,
            "metric": {"name": "loss", "goal": "minimize"},
            "tasks": [{"number": number, "name": f"lr={number}", "parameters": {"lr": number}} for number in range(tasks)],
        }  # fmt: skip
        self.files.record_file.write_text(json.dumps(record))
        self._record = record
        self._status = Status.of(range(tasks))
        self._collector = Collector(self.files)
        self._reader = JournalReader(self.files.events_file)
        self._journal = Journal(self.files.events_file)
        self._samples = None
        self.stopped = 0
        self.failure = None

    def change(self, state, task=None, **more):
        self._journal.append(StateChange(more.pop("time", time.time()), state, task, **more))

    def begin(self, *tasks):
        self.change(State.RUNNING)
        for task in tasks:
            self.change(State.RUNNING, task)
            self.files.log_file(task).touch()

    def print(self, text, task=0, attempt=1):
        with self.files.log_file(task, attempt).open("ab") as stream:
            stream.write(text if isinstance(text, bytes) else text.encode())

    def measure(self, *samples):
        if self._samples is None:
            self._samples = SampleWriter(self.files.samples_file)
        self._samples.write(samples)

    def close(self):
        self._journal.close()
        if self._samples is not None:
            self._samples.close()

    def parts(self):
        if self.failure:
            raise self.failure
        self._status.feed(self._reader.poll())
        self._collector.poll(self._status)
        return self._record, self._status, self._collector

    def summary(self, *, log_lines=3):
        del log_lines
        record, status, collector = self.parts()
        best = collector.best_task("loss", "minimize")
        return summarize(record, status, collector.latest(), now=time.time(), best=best)

    def stop(self):
        self.stopped += 1
        if self.failure:
            raise self.failure


class Views:
    """A session on a feed, and what its views were sent. Time goes by when the test says so."""

    def __init__(self, run, is_deaf=lambda: False):
        self.run = run
        self.now = 1000.0
        self.sent = []
        self.feed = Feed(run)
        self.session = Session(self.feed, self._take, lambda: None, is_deaf)
        self.feed.sessions.append(self.session)
        self.feed.look()
        self.acks = True
        self.seq = 0

    def _take(self, message, buffers):
        json.dumps(message, allow_nan=False)
        self.seq = message["seq"]
        self.sent.append((self.now, message, buffers))

    def say(self, kind, **more):
        self.session.receive({"type": kind, **more})

    def go(self, seconds=0.12, *, look=False):
        """Let time pass, a tick every 0.12 s."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.12
            if look:
                self.feed.look()
            self.feed.pump(self.now)
            self.session.tick(self.now)
            if self.acks and self.seq and int(self.now) != int(self.now - 0.12):
                self.say("ack", seq=self.seq)

    def hello(self):
        self.say("hello", view="v")
        self.go()
        return self.take("snapshot")

    def take(self, kind):
        """Return the last message of a kind and forget all."""
        found = [message for _, message, _ in self.sent if message["type"] == kind]
        self.sent.clear()
        assert found, f"no {kind}"
        return found[-1]

    def messages(self, kind):
        return [message for _, message, _ in self.sent if message["type"] == kind]

    def answer(self, kind, **more):
        """Ask, and wait for the answer, which comes from a thread."""
        deadline = time.monotonic() + 30
        self.say(kind, request=7, **more)
        while not self.messages("log"):
            assert time.monotonic() < deadline
            self.go()
            time.sleep(0.01)
        found = self.take("log")
        assert found["request"] == 7
        return found["log"]


def texts(log_or_lines):
    lines = log_or_lines["lines"] if isinstance(log_or_lines, dict) else log_or_lines
    return [line[5] for line in lines]


def tail_of(file, task=0, begun=None):
    """A tail that has seen what is there."""
    tail = LogTail(task, 1, file, begun)
    tail.catch_up()
    return tail
