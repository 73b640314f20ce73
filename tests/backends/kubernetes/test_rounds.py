"""Each round of a schedule has results of its own."""

import base64
import hashlib
import zlib

from jupyter_gpudeploy.backends.kubernetes.mirror.copies import LogCopy
from jupyter_gpudeploy.backends.kubernetes.mirror.rounds import KEPT_ROUNDS, RoundFolder
from jupyter_gpudeploy.events.store import RunFolder
from jupyter_gpudeploy.events.wire import encode

UID = "0d9a2f6e"


def sent(name, text):
    data = text.encode()
    payload = {"path": name, "size": len(data), "data": base64.b64encode(zlib.compress(data)).decode()}
    return b"".join(encode(UID, "file", {**payload, "sha256": hashlib.sha256(data).hexdigest()}))


def stamped(data):
    return b"".join(b"2026-11-24T06:00:00.000000001Z " + line for line in data.splitlines(keepends=True))


def copied(folder, attempt, *files, renumbers=True):
    copy = LogCopy(folder, 0, attempt, UID, renumbers=renumbers)
    copy.restore(f"pod-{attempt}", "c")
    copy.begin()
    for name, text in files:
        copy.write(stamped(sent(name, text)))
    copy.finish()


def test_a_round_overwrites_nothing_and_the_newest_is_where_results_always_are(tmp_path):
    folder = RunFolder(tmp_path)
    copied(folder, 1, ("a.txt", "first"), ("only.txt", "1"))
    assert (folder.output(0) / "a.txt").read_text() == "first"
    copied(folder, 2, ("a.txt", "second"))
    assert (folder.output(0) / "a.txt").read_text() == "second"
    assert not (folder.output(0) / "only.txt").exists()
    assert (tmp_path / "rounds" / "0.1" / "a.txt").read_text() == "first"


def test_an_earlier_round_that_is_read_later_stays_the_earlier_one(tmp_path):
    folder = RunFolder(tmp_path)
    copied(folder, 2, ("a.txt", "second"))
    copied(folder, 1, ("a.txt", "first"))
    assert (folder.output(0) / "a.txt").read_text() == "second"
    assert (tmp_path / "rounds" / "0.1" / "a.txt").read_text() == "first"


def test_only_the_last_rounds_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    for attempt in range(1, KEPT_ROUNDS + 4):
        copied(folder, attempt, ("a.txt", str(attempt)))
    kept = sorted(int(entry.name.removeprefix("0.")) for entry in (tmp_path / "rounds").iterdir() if entry.is_dir())
    assert kept == [*range(4, KEPT_ROUNDS + 4)]
    assert (folder.output(0) / "a.txt").read_text() == str(KEPT_ROUNDS + 3)


def test_what_lay_there_before_is_moved_and_not_lost(tmp_path):
    folder = RunFolder(tmp_path)
    folder.output(0).mkdir(parents=True)
    (folder.output(0) / "old.txt").write_text("old")
    RoundFolder(tmp_path, 5).begin(0)
    RoundFolder(tmp_path, 5).begin(0)
    assert (tmp_path / "rounds" / "0.before-5" / "old.txt").read_text() == "old"
    assert list(folder.output(0).iterdir()) == []


def test_other_runs_keep_one_folder(tmp_path):
    copied(RunFolder(tmp_path), 2, ("a.txt", "x"), renumbers=False)
    assert not (tmp_path / "rounds").exists()
    assert not (tmp_path / "out" / "0").is_symlink()


def test_a_folder_that_is_moved_as_a_whole_still_leads_to_the_newest(tmp_path):
    (tmp_path / "runs").mkdir()
    copied(RunFolder(tmp_path / "runs"), 1, ("a.txt", "x"))
    (tmp_path / "runs").rename(tmp_path / "replaced")
    assert (tmp_path / "replaced" / "out" / "0" / "a.txt").read_text() == "x"
