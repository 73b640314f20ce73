"""Results come home from real pods and real volumes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jupyter_gpudeploy import launching
from jupyter_gpudeploy.backends.kubernetes import marks
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.types import State

PATIENCE = 120
MAKE = """
import hashlib, json, os, pathlib, random
out = pathlib.Path(os.environ["GPUDEPLOY_OUTPUT"])
(out / "deep").mkdir(exist_ok=True)
(out / "metrics.json").write_text(json.dumps({"acc": 0.5}))
(out / "deep" / "model.bin").write_bytes(random.Random(int(os.environ["GPUDEPLOY_TASK"])).randbytes(5_000_000))
(out / "latest").unlink(missing_ok=True)
(out / "latest").symlink_to("deep/model.bin")
print(hashlib.sha256((out / "deep" / "model.bin").read_bytes()).hexdigest(), flush=True)
"""


@pytest.fixture
def person(namespace, kubeconfig, python_image, tmp_path, monkeypatch):
    """A person whose one profile is the cluster of the tests and a fresh namespace; the notebook's folder."""
    context = json.loads(kubeconfig.read_text())["current-context"]
    profile = {"kubeconfig": str(kubeconfig), "context": context, "namespace": namespace, "image": python_image}
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"default_cluster": "here", "clusters": {"here": profile}}))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_CONFIG", str(file))
    monkeypatch.setenv("JUPYTER_GPUDEPLOY_HOME", str(tmp_path / "home"))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(launching, "_backends", {})
    yield folder
    for backend in launching._backends.values():
        backend.close()


@pytest.fixture
def claim(api, namespace):
    """A claim that is bound, to a folder of the node: the cluster of the tests makes no volumes by itself."""
    from kubernetes import client

    core = client.CoreV1Api(api)
    folder = Path("/var/lib/gpudeploy-cluster/volumes") / namespace
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    named = {"name": namespace}
    size = {"storage": "1Gi"}
    rest = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    path = {"hostPath": {"path": str(folder)}, "persistentVolumeReclaimPolicy": "Retain"}
    refers = {"claimRef": {"namespace": namespace, "name": "results"}}
    core.create_persistent_volume({"metadata": named, "spec": {"capacity": size, **rest, **path, **refers}})
    body = {"metadata": {"name": "results"}, "spec": {"resources": {"requests": size}, "volumeName": namespace, **rest}}
    core.create_namespaced_persistent_volume_claim(namespace, body)
    yield "claim:results"
    core.delete_persistent_volume(namespace)
    shutil.rmtree(folder)


def launch(cell, folder):
    return launching.launch(cell, base_dir=folder, backend="kubernetes")


def until(what, condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def readers(api, namespace):
    from kubernetes import client

    return client.CoreV1Api(api).list_namespaced_pod(namespace, label_selector=marks.selector(part=marks.READER)).items


def sha(file):
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@pytest.mark.timeout(300)
def test_small_results_come_without_the_cluster_and_large_ones_say_where_they_went(person, tmp_path):
    run = launch(f"name: small\nupload: false\n---\n{MAKE}", person).wait(PATIENCE)
    assert run.state is State.SUCCEEDED
    assert run.download(tmp_path / "a", 0, "metrics.json") == [tmp_path / "a/metrics.json"]
    with pytest.raises(BackendError, match=r"deep/model.bin \(4.77 MiB\) did not fit") as caught:
        run.download(tmp_path / "b", 0)
    assert "storage: 10Gi" in caught.value.hint
    assert (tmp_path / "b/metrics.json").is_file()


@pytest.mark.timeout(300)
def test_a_living_pod_gives_its_files(person, tmp_path):
    run = launch(f"name: living\nupload: false\n---\n{MAKE}\nimport time; time.sleep(600)", person)
    until("the file is there", lambda: run.state is State.RUNNING and len(run.logs(0)) == 64)
    seen = []
    files = run.download(tmp_path / "a", 0, progress=lambda *both: seen.append(both))
    assert {file.name for file in files} == {"metrics.json", "model.bin"}
    assert sha(tmp_path / "a/deep/model.bin") == run.logs(0)
    assert seen[-1][0] == seen[-1][1] > 5_000_000
    before = (tmp_path / "a/deep/model.bin").stat().st_ino
    run.download(tmp_path / "a", 0)
    assert (tmp_path / "a/deep/model.bin").stat().st_ino == before
    run.stop(1)


@pytest.mark.timeout(300)
def test_a_volume_gives_what_its_runs_left_when_their_pods_are_gone(person, claim, api, namespace, tmp_path):
    cell = f"name: kept\nupload: false\nstorage: {claim}\nparameters: {{seed: [1, 2]}}\nparallelism: 2\n---\n{MAKE}"
    run = launch(cell, person).wait(PATIENCE)
    assert run.state is State.SUCCEEDED, run.status()
    files = run.download(tmp_path / "a")
    assert len(files) == 4
    for task in (0, 1):
        assert sha(tmp_path / f"a/{task}/deep/model.bin") == run.logs(task)
    until("the reader is gone", lambda: not readers(api, namespace))
    root = run._backend._cluster_of(run.ref)
    assert root.get("ConfigMap", "kept.run")["metadata"]["uid"] == run.uid


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_round_of_a_schedule_has_a_folder_of_its_own_on_the_volume(person, claim, namespace, tmp_path):
    big = "out = __import__('pathlib').Path(__import__('os').environ['GPUDEPLOY_OUTPUT'])"
    code = f"import os, random\n{big}\n(out / 'model.bin').write_bytes(random.randbytes(3_000_000))\nprint('done')"
    cell = f'name: minutely\nupload: false\nschedule: "* * * * *"\nstorage: {claim}\n---\n{code}'
    run = launch(cell, person)
    until("two rounds", lambda: run.logs(0).split().count("done") == 2 and run.state is State.READY, 200)
    run.stop(1)
    folder = Path("/var/lib/gpudeploy-cluster/volumes") / namespace / "runs" / run.uid / "rounds"
    kept = sorted(folder.glob("minutely-*/minutely/0/model.bin"), key=lambda file: file.stat().st_mtime)
    assert len(kept) == 2
    assert sha(kept[0]) != sha(kept[1])
    assert [file.name for file in run.download(tmp_path / "a", 0)] == ["model.bin"]
    assert sha(tmp_path / "a/model.bin") == sha(kept[1])


@pytest.mark.timeout(300)
def test_a_reader_goes_though_the_download_is_interrupted(person, claim, api, namespace, tmp_path):
    run = launch(f"name: cut\nupload: false\nstorage: {claim}\n---\n{MAKE}", person).wait(PATIENCE)

    def interrupt(done, total):
        if done:
            (pod,) = readers(api, namespace)
            assert pod.metadata.owner_references[0].uid == run.uid
            assert pod.spec.security_context.run_as_non_root
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.download(tmp_path / "a", 0, progress=interrupt)
    assert not [file for file in (tmp_path / "a").rglob("*") if file.is_file() and file.name != "metrics.json"]
    until("the reader is gone", lambda: not readers(api, namespace))
    run.download(tmp_path / "a", 0)
    assert sha(tmp_path / "a/deep/model.bin") == run.logs(0)


USE = "import hashlib, pathlib\nprint(hashlib.sha256(pathlib.Path('data/big.bin').read_bytes()).hexdigest())\n"


@pytest.fixture
def big(person):
    """A file of the notebook's folder that no ConfigMap holds."""
    (person / "data").mkdir()
    (person / "data/big.bin").write_bytes(os.urandom(20_000_000))
    return person / "data/big.bin"


@pytest.mark.timeout(300)
def test_what_configmaps_do_not_hold_is_uploaded_to_the_pod(person, big):
    run = launch(f"name: heavy\nupload: [data]\n---\n{USE}", person).wait(PATIENCE)
    assert run.state is State.SUCCEEDED, run.status()
    assert run.logs(0) == sha(big)
    assert any("uploaded 1 file, 19.1 MiB" in notice.message for notice in run.status().notices)


@pytest.mark.timeout(300)
def test_with_a_volume_one_upload_serves_all_trials(person, big, claim, namespace):
    cell = f"name: many\nupload: [data]\nstorage: {claim}\nparameters: {{x: [1, 2, 3]}}\nparallelism: 3\n---\n{USE}"
    run = launch(cell, person).wait(PATIENCE)
    assert run.state is State.SUCCEEDED, run.status()
    assert [run.logs(task) for task in range(3)] == [sha(big)] * 3
    kept = list((Path("/var/lib/gpudeploy-cluster/volumes") / namespace / "code").iterdir())
    assert [file.suffix for file in kept] == [".gz"]
    assert sum("uploaded" in notice.message for notice in run.status().notices) == 1
    again = launch(cell.replace("many", "again"), person).wait(PATIENCE)
    assert again.state is State.SUCCEEDED
    assert not any("uploaded" in notice.message for notice in again.status().notices)


KILLED = """
import os, signal, sys
from jupyter_gpudeploy import launching
from jupyter_gpudeploy.backends.kubernetes.files import uploading

framed = uploading.framed

def half(pieces):
    for number, piece in enumerate(framed(pieces)):
        if number == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece

uploading.framed = half
launching.launch(sys.argv[1], base_dir=sys.argv[2], backend="kubernetes").wait(100)
"""


@pytest.mark.timeout(300)
def test_a_kernel_killed_in_the_middle_of_an_upload_is_followed_by_the_next(person, big):
    cell = f"name: killed\nupload: [data]\n---\n{USE}"
    done = subprocess.run([sys.executable, "-c", KILLED, cell, str(person)], check=False, timeout=PATIENCE)
    assert done.returncode == -9
    run = launch(cell, person)
    assert run.origin == "found"
    run.wait(PATIENCE)
    assert run.state is State.SUCCEEDED, run.status()
    assert run.logs(0) == sha(big)
