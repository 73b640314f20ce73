"""A journal that is closed wakes whoever waits for that."""

import threading

from jupyter_gpudeploy.events import closing
from jupyter_gpudeploy.events.closing import Closing

PATIENCE = 60


def waiter(watch: Closing, seconds: float) -> threading.Thread:
    thread = threading.Thread(target=watch.wait, args=(seconds,), daemon=True)
    thread.start()
    return thread


def test_who_waits_is_woken_when_the_journal_is_closed_and_not_when_it_is_written(tmp_path):
    with (tmp_path / "events.jsonl").open("w") as journal, Closing(tmp_path) as watch:
        waiting = waiter(watch, 10 * PATIENCE)
        journal.write("a record\n")
        journal.flush()
        waiting.join(0.2)
        assert waiting.is_alive()
        journal.close()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()


def test_a_close_before_the_wait_counts(tmp_path):
    with Closing(tmp_path) as watch:
        (tmp_path / "events.jsonl").write_text("a record\n")
        waiting = waiter(watch, 10 * PATIENCE)
        waiting.join(PATIENCE)
        assert not waiting.is_alive()


def test_without_anything_that_tells_the_time_is_waited_out(tmp_path, monkeypatch):
    monkeypatch.setattr(closing, "_library", lambda: None)
    for folder in (tmp_path, tmp_path / "gone"):
        with Closing(folder) as watch:
            watch.wait(0.01)
    monkeypatch.undo()
    with Closing(tmp_path / "gone") as watch:
        watch.wait(0.01)
