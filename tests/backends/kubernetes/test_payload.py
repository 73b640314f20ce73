"""What goes along to the pods, and what never does."""

import io
import os
import socket
import stat
import tarfile

import pytest
from rendered import plan_of, pod_of, without_our_sources

from jupyter_gpudeploy.backends.kubernetes.manifests import archives, attached, payload, tree
from jupyter_gpudeploy.backends.kubernetes.manifests.archives import Member, pack, spread
from jupyter_gpudeploy.backends.kubernetes.manifests.ignore import Ignore, is_secret
from jupyter_gpudeploy.backends.kubernetes.manifests.render import objects_of, render
from jupyter_gpudeploy.errors import PlanError

JOB = "name: one\n---\nprint(1)\n"


def write(folder, path, content=b"x"):
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def sent(plan, runs=None):
    """The members of the archive that goes along: path -> (bytes, mode)."""
    archive, upload = payload.work(plan, plan.cluster, runs or {})
    assert upload is None
    if archive is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive.data)) as opened:
        return {one.name: (opened.extractfile(one).read(), one.mode) for one in opened.getmembers()}


def chosen(cell, base):
    plan = plan_of(cell, base)
    found = payload.choose(plan, plan.cluster)
    return {entry.path for entry in found.tree.entries}, {one.path: one.reason for one in found.tree.skipped}, found


# --- the notebook's folder


def test_a_small_folder_goes_along_whole(tmp_path):
    write(tmp_path, "data/train.csv", b"a,b\n")
    write(tmp_path, "tool.sh").chmod(0o755)
    write(tmp_path, "notes.ipynb")
    found = sent(plan_of(JOB, tmp_path))
    assert set(found) == {"code/cell.py", "work/data/train.csv", "work/tool.sh"}
    assert found["work/data/train.csv"] == (b"a,b\n", 0o644)
    assert found["work/tool.sh"][1] == 0o755


@pytest.mark.fault(58)
def test_what_versions_tools_and_environments_leave_is_not_even_looked_at(tmp_path):
    junk = (
        ".git/objects/a",
        "pkg/__pycache__/a.pyc",
        "venv/lib/b",
        ".venv/c",
        "node_modules/d/e",
        "out/f",
        ".ipynb_checkpoints/g",
    )
    for path in junk:
        write(tmp_path, path, b"x" * 1000)
    write(tmp_path, "deep/out/kept.txt")
    paths, skipped, _ = chosen(JOB, tmp_path)
    assert paths == {"deep/out/kept.txt"}
    assert not skipped


@pytest.mark.fault(58)
def test_of_a_large_folder_only_programs_go_along_and_it_is_said(tmp_path):
    write(tmp_path, "data.bin", b"\0" * 3_000_000)
    write(tmp_path, "train.py", b"print(1)")
    write(tmp_path, "lib/model.py", b"print(2)")
    paths, _, found = chosen(JOB, tmp_path)
    assert paths == {"train.py", "lib/model.py"}
    (note,) = found.notes
    assert "2.86 MiB" in note.message
    assert "only the *.py files go along (2 files, 16 B)" in note.message
    assert "upload:" in note.hint


def test_the_programs_own_files_go_along_from_the_largest_folder(tmp_path):
    for number in range(30):
        write(tmp_path, f"gen/{number}.py", b"#" * 100_000)
    write(tmp_path, "data.bin", b"\0" * 3_000_000)
    write(tmp_path, "suite/main.py", b"print(1)")
    write(tmp_path, "suite/table.json", b"{}")
    write(tmp_path, "top.py", b"")
    paths, _, _ = chosen("run: suite\nentry_point: main.py\n", tmp_path)
    assert paths == {"suite/main.py", "suite/table.json", "top.py"}


@pytest.mark.fault(58)
def test_a_folder_of_too_many_files_is_not_walked_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tree, "MOST_FILES", 20)
    write(tmp_path, "near.py")
    for number in range(50):
        write(tmp_path, f"far/{number}.py")
    paths, _, found = chosen(JOB, tmp_path)
    assert paths == {"near.py"}
    assert "more than" in found.notes[0].message


@pytest.mark.fault(58)
def test_what_is_asked_for_and_too_large_is_refused_with_its_largest_files(tmp_path):
    write(tmp_path, "data/a.bin", os.urandom(3_000_000))
    write(tmp_path, "data/b.bin", os.urandom(1_000_000))
    plan = plan_of("upload: [data]\nname: one\nparameters: {x: [1, 2]}\n---\nprint(x)\n", tmp_path)
    with pytest.raises(PlanError) as caught:
        payload.work(plan, plan.cluster, {})
    said = "more than 3 MiB, packed, cannot be uploaded to each of 2 pods: the largest: data/a.bin 2.86 MiB, data/b.bin"
    assert said in str(caught.value)
    assert ".gpudeployignore" in caught.value.hint
    assert "storage:" in caught.value.hint


@pytest.mark.parametrize(
    ("more", "can"),
    [
        ("", True),
        ("parameters: {x: [1]}\n", True),
        ("parameters: {x: [1, 2]}\nstorage: 1Gi\n", True),
        ("schedule: 0 6 * * *\n", False),
        ("schedule: 0 6 * * *\nstorage: 1Gi\n", False),
    ],
)
def test_more_than_configmaps_hold_is_uploaded_where_that_can_be(more, can, tmp_path):
    write(tmp_path, "data/a.bin", os.urandom(4_000_000))
    plan = plan_of(f"upload: [data]\nname: one\n{more}---\nx = 1\n", tmp_path)
    if not can:
        with pytest.raises(PlanError, match="when the clock starts it"):
            render(plan)
        return
    rendering = render(plan)
    upload = rendering.upload
    assert (upload.files, upload.size) == (1, 4_000_000)
    assert any(place.endswith("/work.tar.gz") for place in rendering.payload)
    assert render(plan).files == rendering.files
    (receiver,) = pod_of({one["kind"]: one for one in objects_of(rendering)})["spec"]["initContainers"]
    folder = "/gpudeploy/storage/code" if "storage" in more else "/gpudeploy/state/upload"
    assert receiver["command"] == [
        "python3", "-u", "/gpudeploy/in/receive.py", "wait", upload.digest, folder, "1800"
    ]  # fmt: skip
    assert any(place.endswith("/receive.py") for place in rendering.payload)
    (tmp_path / "data/a.bin").write_bytes(os.urandom(4_000_000))
    assert render(plan).upload.digest != upload.digest


def test_a_person_is_told_what_is_uploaded(tmp_path):
    from jupyter_gpudeploy.backends.kubernetes.manifests.advice import advice

    write(tmp_path, "data/a.bin", b"")
    told = {}
    for size in (2_000_000, 50_000_000, 100_000_000, 5 * 2**30):
        os.truncate(tmp_path / "data/a.bin", size)
        plan = plan_of("upload: [data]\n" + JOB, tmp_path)
        told[size] = [note for note in advice(plan) if note.field == "upload"][1:]
    assert not told[2_000_000]
    assert "where they are more than 3 MiB packed" in told[50_000_000][0].message
    assert (
        told[100_000_000][0].message
        == "the files are uploaded when the pod starts, and anew when it has to start again"
    )
    assert (told[5 * 2**30][0].level, told[5 * 2**30][0].message[:30]) == ("error", "5 GiB would go along, 2 GiB ca")


def test_five_gigabytes_are_refused_without_being_read(tmp_path):
    write(tmp_path, "data/huge.bin", b"")
    os.truncate(tmp_path / "data/huge.bin", 5 * 2**30)
    plan = plan_of("upload: [data]\n" + JOB, tmp_path)
    with pytest.raises(PlanError, match="5 GiB would go along"):
        payload.work(plan, plan.cluster, {})


def test_the_ignore_file_decides_for_both_sides(tmp_path):
    write(tmp_path, ".gpudeployignore", b"# mine\n*.csv\n!keep.csv\n/only-here/\nlogs/**/old\n!*.ipynb\n")
    for path in (
        "a.csv",
        "keep.csv",
        "x/b.csv",
        "only-here/c",
        "x/only-here/d",
        "logs/1/2/old/e",
        "logs/new",
        "n.ipynb",
    ):
        write(tmp_path, path)
    paths, _, _ = chosen(JOB, tmp_path)
    assert paths == {"keep.csv", "x/only-here/d", "logs/new", "n.ipynb"}


@pytest.mark.parametrize(
    ("line", "path", "is_left_out"),
    [
        ("*.log", "a/b.log", True),
        ("*.log", "b.logs", False),
        ("/a", "a", True),
        ("/a", "x/a", False),
        ("a/b", "a/b", True),
        ("a/b", "x/a/b", False),
        ("**/b", "x/y/b", True),
        ("a/**", "a/x/y", True),
        ("f?o", "foo", True),
        ("f?o", "f/o", False),
        ("[a-c].txt", "b.txt", True),
        ("[!a-c].txt", "b.txt", False),
        ("[", "[", True),
        ("a[", "a[", True),
        (r"\#x", "#x", True),
        ("# x", "# x", False),
        ("", "", False),
        ("a.b", "axb", False),
        ("(x|y)+", "(x|y)+", True),
    ],
)
def test_patterns_mean_what_they_mean_to_git(line, path, is_left_out):
    assert Ignore([line], defaults=False).leaves_out(path, is_folder=False) is is_left_out


def test_a_pattern_with_a_slash_at_its_end_is_for_folders_alone():
    ignore = Ignore(["a/"], defaults=False)
    assert ignore.leaves_out("x/a", is_folder=True)
    assert not ignore.leaves_out("x/a", is_folder=False)


# --- what is asked for


def test_upload_names_files_folders_and_patterns(tmp_path):
    for path in ("a.txt", "src/x.py", "src/y/z.py", "data/1.csv", "data/2.bin", "out/model.bin"):
        write(tmp_path, path)
    paths, _, found = chosen("upload: [a.txt, src, 'data/*.csv', out]\n" + JOB, tmp_path)
    assert paths == {"a.txt", "src/x.py", "src/y/z.py", "data/1.csv", "out/model.bin"}
    assert "as asked" in found.notes[0].message


def test_no_upload_still_takes_the_program_itself(tmp_path):
    write(tmp_path, "train.py")
    write(tmp_path, "other.py")
    paths, _, _ = chosen("run: train.py\nupload: false\n", tmp_path)
    assert paths == {"train.py"}


@pytest.mark.fault(59)
@pytest.mark.parametrize("pattern", ["../secret", "/etc/passwd", "~/.ssh", "a/../../b", "link/passwd", "li*/passwd"])
def test_upload_never_leaves_the_folder(pattern, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(PlanError, match="lies outside"):
        chosen(f"upload: ['{pattern}']\n" + JOB, tmp_path)


@pytest.mark.parametrize("pattern", ["nothing", "*.nothing"])
def test_upload_of_nothing_is_an_error(pattern, tmp_path):
    with pytest.raises(PlanError, match="is not there"):
        chosen(f"upload: ['{pattern}']\n" + JOB, tmp_path)


# --- what is no plain file


@pytest.mark.fault(60)
def test_links_that_lead_out_loop_or_lead_nowhere_are_listed_and_not_followed(tmp_path):
    base = tmp_path / "nb"
    write(base, "real.txt", b"inside")
    write(base, "folder/f.txt")
    write(tmp_path, "outside.txt", b"outside")
    links = {
        "out": "../outside.txt",
        "abs": "/etc/passwd",
        "loop": "loop",
        "gone": "nothing",
        "dir": "folder",
        "up": "..",
        "ok": "real.txt",
    }
    for name, target in links.items():
        (base / name).symlink_to(target)
    paths, skipped, found = chosen(JOB, base)
    assert paths == {"real.txt", "folder/f.txt", "ok"}
    assert set(skipped) == set(links) - {"ok"}
    assert "leads out" in skipped["out"]
    assert "leads out" in skipped["abs"]
    assert "to a folder" in skipped["dir"]
    assert found.notes[1].level == "warning"
    assert "abs (a link that leads out of the notebook's folder)" in found.notes[1].message
    assert sent(plan_of(JOB, base))["work/ok"][0] == b"inside"


@pytest.mark.fault(59)
def test_pipes_and_sockets_are_listed_and_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("sock")
        paths, skipped, _ = chosen(JOB, tmp_path)
    assert paths == set()
    assert skipped == {"pipe": "a pipe", "sock": "a socket"}
    assert set(chosen("upload: [pipe]\n" + JOB, tmp_path)[1]) == {"pipe"}


def test_a_file_that_became_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
    file = write(tmp_path, "a.txt")
    plan = plan_of(JOB, tmp_path)
    choose = payload.choose

    def then_swap(*arguments):
        found = choose(*arguments)
        file.unlink()
        os.mkfifo(file)
        return found

    monkeypatch.setattr(payload, "choose", then_swap)
    with pytest.raises(PlanError, match="no plain file any more"):
        payload.work(plan, plan.cluster, {})


@pytest.mark.fault(60)
@pytest.mark.parametrize(
    "name", [".env", ".env.local", "id_rsa", "id_ed25519.pub", "server.pem", "tls.key", ".netrc", "kubeconfig", "credentials.json", ".ENV"]
)  # fmt: skip
def test_secrets_stay_at_home_whoever_asks(name, tmp_path):
    write(tmp_path, f"x/{name}", b"hush")
    (tmp_path / "innocent").symlink_to(f"x/{name}")
    paths, skipped, _ = chosen(JOB, tmp_path)
    assert paths == set()
    assert "secrets" in skipped[f"x/{name}"]
    assert "secrets" in skipped["innocent"]
    assert chosen(f"upload: [x/{name}]\n" + JOB, tmp_path)[0] == set()
    assert not is_secret(".env.example")


def test_folders_of_keys_are_not_entered(tmp_path):
    write(tmp_path, ".ssh/config")
    write(tmp_path, ".kube/config")
    paths, skipped, _ = chosen(JOB, tmp_path)
    assert paths == set()
    assert set(skipped) == {".ssh", ".kube"}


# --- archives


def test_an_archive_is_the_same_bytes_for_the_same_files():
    members = [Member("b", b"2"), Member("a/x", b"1", is_program=True), Member("ü" * 60 + "/" + "x" * 80, b"3")]
    assert pack(members) == pack(reversed(members))
    with tarfile.open(fileobj=io.BytesIO(pack(members).data)) as archive:
        for one in archive.getmembers():
            assert (one.mtime, one.uid, one.gid, one.uname, one.isreg()) == (0, 0, 0, "", True)
            assert not one.mode & (stat.S_ISUID | stat.S_IWGRP | stat.S_IWOTH)
    assert pack(members).digest != pack([*members[:2], members[2]._replace(data=b"4")]).digest
    assert pack(members).digest != pack([members[0], members[1]._replace(is_program=False), members[2]]).digest


@pytest.mark.fault(58)
def test_an_archive_larger_than_a_configmap_is_cut_and_comes_together_again():
    import hashlib

    archive = pack([Member("noise", os.urandom(2_500_000))])
    boxes = spread({"boot.py": b"boot"}, {"work.tar.gz": archive})
    assert len(boxes) == 3
    assert all(sum(map(len, box.data.values())) <= archives.PART_BYTES for box in boxes)
    together = {key: data for box in boxes for key, data in box.data.items()}
    parts = sorted(key for key in together if key.rpartition(".")[2].isdigit())
    assert parts == ["work.tar.gz.000", "work.tar.gz.001", "work.tar.gz.002"]
    assert b"".join(together[part] for part in parts) == archive.data
    assert together["work.tar.gz.sha256"].decode() == hashlib.sha256(archive.data).hexdigest()


def test_what_is_sent_is_what_the_pods_first_program_unpacks(tmp_path):
    from jupyter_gpudeploy.programs import boot

    base, pod = tmp_path / "nb", tmp_path / "pod"
    write(base, "noise.bin", os.urandom(1_000_000))
    write(base, "tool.sh").chmod(0o700)
    rendering = render(plan_of(JOB, base))
    for place, data in rendering.payload.items():
        write(pod, f"in/{place.partition('/')[2]}", data)
    boot.unpack_all(pod)
    assert (pod / "work/noise.bin").read_bytes() == (base / "noise.bin").read_bytes()
    assert (pod / "work/tool.sh").stat().st_mode & 0o111
    assert (pod / "code/cell.py").read_text().endswith("print(1)\n")
    assert (pod / "runtime/jupyter_gpudeploy/trackers/log.py").is_file()
    assert (pod / "in/boot.py").read_text("utf-8").startswith('"""The first program of a pod')
    assert not (pod / "runtime/jupyter_gpudeploy/notebook").exists()
    assert not (pod / "runtime/jupyter_gpudeploy/backends/kubernetes").exists()


def test_a_change_of_a_file_is_another_configmap(tmp_path, monkeypatch):
    without_our_sources(monkeypatch)
    file = write(tmp_path, "a.txt", b"1")
    first = set(render(plan_of(JOB, tmp_path)).files)
    file.touch()
    assert set(render(plan_of(JOB, tmp_path)).files) == first
    file.write_bytes(b"2")
    assert set(render(plan_of(JOB, tmp_path)).files) != first


# --- earlier runs


def test_runs_that_the_program_attaches_to_are_found_in_its_text(tmp_path):
    write(tmp_path, "app.py", b"import jupyter_gpudeploy as g\nmodel = g.attach(name='second')\nother(attach)(x)\n")
    cell = "name: one\n---\nfrom jupyter_gpudeploy import attach\nbest = attach('digits').best()\nattach(variable)\n"
    assert attached.attached_names(plan_of(cell, tmp_path)) == ("digits",)
    served = plan_of("serve: fastapi\nrun: app.py\n", tmp_path)
    assert attached.attached_names(served) == ("second",)


def test_an_attached_run_is_found_in_the_pod_as_a_local_one(tmp_path, monkeypatch):
    import json

    run = tmp_path / "runs" / "digits"
    write(run, "run.json", json.dumps({"name": "digits", "uid": "u", "fingerprint": "f", "created": 1.0}).encode())
    write(run, "events.jsonl", b"")
    write(run, "out/0/model.joblib", b"model")
    write(run, "logs/0.1.log", b"acc=1")
    write(run, "control/stop", b"")
    write(run, "logs/0.1.pos", b"")
    (run / "out/0/link").symlink_to("/etc/passwd")
    found = sent(plan_of(JOB, write(tmp_path, "nb/x").parent), {"digits": run})
    home = "home/.local/state/jupyter_gpudeploy/runs/digits"
    assert found[f"{home}/out/0/model.joblib"][0] == b"model"
    assert f"{home}/out/0/link" not in found
    assert f"{home}/control/stop" not in found
    assert json.loads(found[f"{home}/ref.json"][0]) == {
        "name": "digits",
        "uid": "u",
        "fingerprint": "f",
        "created": 1.0,
    }


def test_an_attached_run_that_is_too_large_is_refused(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "digits"
    write(run, "run.json", b"{}")
    write(run, "out/0/model.bin", b"\0" * 2000)
    monkeypatch.setattr(attached, "MOST_BYTES", 1000)
    with pytest.raises(PlanError, match=r"attach\('digits'\): the run's files are 1.96 KiB"):
        list(attached.members({"digits": run}))
