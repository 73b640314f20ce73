"""A pod gets what was uploaded whole, or says that it did not."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

import jupyter_gpudeploy
from jupyter_gpudeploy.backends.kubernetes.files.uploading import framed
from jupyter_gpudeploy.backends.kubernetes.manifests.archives import Member, pack
from jupyter_gpudeploy.backends.kubernetes.manifests.uploads import Part, upload_of

PROGRAM = Path(jupyter_gpudeploy.__file__).parent / "programs" / "receive.py"
NOISE = os.urandom(3_000_000)
FILES = {"work/noise.bin": NOISE, "code/cell.py": b"print(1)", "work/ü/empty": b"", "work/tool.sh": b"#!/bin/sh\n"}


@pytest.fixture
def upload():
    parts = [Part(path, len(data), path.endswith(".sh"), partial(iter, [data])) for path, data in FILES.items()]
    return upload_of(parts)


@pytest.fixture
def pod(tmp_path):
    """Start the program in a pod of its own: `pod("wait", ...)`."""
    started = []

    def start(*words, root="pod"):
        process = subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GPUDEPLOY_POD_ROOT": str(tmp_path / root)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):
                stream.close()


def files_below(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in ("code", "work", "runtime", "home")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def put(pod, digest, folder, data, **more):
    """Send frames and leave stdin open, as a server does that cannot tell its end. Return (code, what it said)."""
    process = pod("put", digest, folder, **more)
    with suppress(BrokenPipeError):  # it may refuse before it has read all
        process.stdin.write(data)
        process.stdin.flush()
    code = process.wait(30)
    return code, process.stderr.read().decode()


def test_what_is_uploaded_is_unpacked_where_it_is_waited_for(pod, upload, tmp_path):
    folder = tmp_path / "pod/state/upload"
    waiting = pod("wait", upload.digest, folder, 30)
    assert waiting.stderr.readline() == b"waiting for the program: the notebook uploads it now\n"
    assert put(pod, upload.digest, folder, b"".join(framed(upload.pieces()))) == (0, "")
    assert waiting.wait(30) == 0
    assert files_below(tmp_path / "pod") == FILES
    assert os.access(tmp_path / "pod/work/tool.sh", os.X_OK)
    assert not list(folder.iterdir())
    assert pod("wait", upload.digest, folder, 0).wait(30) == 0


def test_on_a_volume_one_upload_serves_every_pod(pod, upload, tmp_path):
    folder = tmp_path / "volume/code"
    waiting = [pod("wait", upload.digest, folder, 30, root=f"pod{number}") for number in range(3)]
    assert put(pod, upload.digest, folder, b"".join(framed(upload.pieces())), root="pod1")[0] == 0
    assert [one.wait(30) for one in waiting] == [0, 0, 0]
    assert all(files_below(tmp_path / f"pod{number}") == FILES for number in range(3))
    (kept,) = folder.iterdir()
    assert kept.name == f"{upload.digest}.tar.gz"
    assert pod("wait", upload.digest, folder, 0, root="later").wait(30) == 0
    assert files_below(tmp_path / "later") == FILES


def test_an_upload_that_breaks_off_is_thrown_away_and_can_be_made_again(pod, upload, tmp_path):
    folder = tmp_path / "volume/code"
    data = b"".join(framed(upload.pieces()))
    first = pod("put", upload.digest, folder)
    first.stdin.write(data[:2_000_000])
    first.stdin.flush()
    second, said = put(pod, upload.digest, folder, b"")
    assert (second, said) == (17, "another upload is at work\n")
    first.stdin.close()
    assert first.wait(30) == 1
    assert "broke off" in first.stderr.read().decode()
    assert not list(folder.iterdir())
    assert put(pod, upload.digest, folder, data)[0] == 0


@pytest.mark.fault(61)
def test_what_is_not_what_was_to_come_is_not_kept(pod, upload, tmp_path):
    folder = tmp_path / "volume/code"
    code, said = put(pod, "0" * 64, folder, b"".join(framed(upload.pieces())))
    assert code == 1
    assert upload.digest in said
    for path in ("../evil", "/evil", "runtime/jupyter_gpudeploy/x.py", "work/../../evil"):
        archive = pack([Member(path, b"evil")])
        code, said = put(pod, archive.digest, folder, b"".join(framed([archive.data])))
        assert code == 1
        assert "no file of a program" in said
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        link = tarfile.TarInfo("work/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    assert put(pod, "0" * 64, folder, b"".join(framed([out.getvalue()])))[0] == 1
    assert put(pod, "0" * 64, folder, b"".join(framed([b"no archive" * 100])))[0] == 1
    assert not list(folder.iterdir())


def test_an_archive_of_the_volume_that_was_changed_starts_nothing(pod, upload, tmp_path):
    folder = tmp_path / "volume/code"
    folder.mkdir(parents=True)
    (folder / f"{upload.digest}.tar.gz").write_bytes(pack([Member("work/evil", b"evil")]).data)
    waiting = pod("wait", upload.digest, folder, 5)
    assert waiting.wait(30) == 1
    assert "is not what was uploaded" in waiting.stderr.read().decode()


def test_who_waits_in_vain_says_so_and_who_is_told_to_end_ends(pod, upload, tmp_path):
    waiting = pod("wait", upload.digest, tmp_path / "u", 0.2)
    assert waiting.wait(30) == 1
    assert "run the cell again" in waiting.stderr.read().decode().splitlines()[-1]
    waiting = pod("wait", upload.digest, tmp_path / "u", 60)
    waiting.stderr.readline()
    began = time.monotonic()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(30) == 143
    assert time.monotonic() - began < 20


def test_the_digest_is_that_of_an_archive_of_the_same_files(upload):
    assert upload.digest == pack([Member(path, data, path.endswith(".sh")) for path, data in FILES.items()]).digest
    assert upload.files == len(FILES)
