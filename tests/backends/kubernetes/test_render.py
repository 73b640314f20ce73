"""What a plan becomes on a cluster, decision by decision."""

import base64
import gzip
import io
import json
import tarfile

import pytest
from rendered import IMAGE, container_of, objects, plan_of, pod_of, variables, without_our_sources
from strict import check

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.manifests.advice import advice
from jupyter_gpudeploy.backends.kubernetes.manifests.environment import literal
from jupyter_gpudeploy.backends.kubernetes.manifests.render import (
    is_complete,
    objects_in,
    objects_of,
    render,
    root,
    stamp,
    unpacked,
)
from jupyter_gpudeploy.backends.kubernetes.manifests.scheduling import toleration
from jupyter_gpudeploy.backends.kubernetes.manifests.shapes import shape
from jupyter_gpudeploy.errors import PlanError
from jupyter_gpudeploy.names import safe_name
from jupyter_gpudeploy.plan.types import Health, Service

SWEEP = "parameters: {lr: [0.1, 0.2, 0.3]}\n---\nprint(lr)\n"
JOB = "name: one\n---\nprint(1)\n"
VLLM = "serve: vllm\nmodel: Qwen/Qwen3-0.6B\n"


@pytest.fixture(autouse=True)
def _without_our_sources(monkeypatch):
    without_our_sources(monkeypatch)


def notes(cell, base, **known):
    return {(note.level, note.field): str(note) for note in advice(plan_of(cell, base, **known))}


# --- text and objects


def test_the_same_plan_gives_the_same_text(tmp_path):
    plan = plan_of(SWEEP, tmp_path)
    assert render(plan) == render(plan)


def test_what_is_shown_is_what_is_applied_with_archives_put_in(tmp_path):
    rendering = render(plan_of(JOB, tmp_path))
    shown = "".join(rendering.files.values())
    assert "work.tar.gz: 1 file, " in shown
    code = objects_of(rendering)[0]
    data = {key: base64.b64decode(text, validate=True) for key, text in code["binaryData"].items()}
    assert data["boot.py"] == b"boot"
    with tarfile.open(fileobj=io.BytesIO(data["work.tar.gz"])) as archive:
        assert archive.getnames() == ["code/cell.py"]


def test_a_template_without_a_value_for_a_name_is_an_error():
    import jinja2

    with pytest.raises(jinja2.UndefinedError, match="'labels' is undefined"):
        shape("pdb", name="a", selector={})


@pytest.mark.parametrize(
    "text", ["a: b", "no", "{{ x }}", "'\"\n---\n- x", "# no comment", "&a *a !!x", "Übung 🎉", "\x7f\x85\u2028\ufeff\t", "1e-3", "$(HOME)"]
)  # fmt: skip
def test_no_text_can_change_the_shape_that_it_is_put_into(text):
    made = shape("pdb", name=text, labels={text: text}, selector={"app": text})
    assert made["metadata"] == {"name": text, "labels": {text: text}}
    assert made["spec"]["selector"]["matchLabels"] == {"app": text}


def test_what_is_none_is_left_out(tmp_path):
    assert "null" not in json.dumps(objects_of(render(plan_of(JOB, tmp_path))))


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    "title", ["Übung #1", "🎉", ".", "-x", "UPPER", "x" * 80, "lr=0.1", "lr=0-1", "a.b", "9lives", "vllm"]
)
def test_any_title_makes_valid_names_and_is_kept_beside_them(title, tmp_path):
    cell = f"name: {json.dumps(title, ensure_ascii=False)}\nschedule: 0 6 * * *\n---\nprint(1)\n"
    rendering = render(plan_of(cell, tmp_path))
    body = root(rendering)
    assert body["metadata"]["annotations"][marks.TITLE] == title
    for one in [*objects_of(rendering), body]:
        check(one)
        assert len(one["metadata"]["name"]) <= 63
        assert one["metadata"]["labels"][marks.RUN] == safe_name(title)
    names = [one["metadata"]["name"] for one in objects_of(rendering) if one["kind"] == "CronJob"]
    assert all(len(name) <= 52 for name in names)


# --- root and stamp


def test_the_root_holds_the_record_the_cell_and_every_object(tmp_path):
    rendering = render(plan_of(SWEEP, tmp_path))
    body = root(rendering, {marks.DRIVER: "me"})
    check(body)
    assert body["metadata"]["name"] == f"{rendering.name}.run"
    assert body["metadata"]["annotations"][marks.FINGERPRINT] == rendering.fingerprint
    assert body["metadata"]["annotations"][marks.DRIVER] == "me"
    assert len(json.loads(unpacked(body, places.RECORD))["tasks"]) == 3
    assert unpacked(body, places.CELL).decode() == SWEEP
    assert objects_in(body) == objects_of(rendering)
    assert all(is_complete(one) for one in objects_in(body))


def test_a_root_that_would_be_too_large_leaves_the_archives_out(tmp_path):
    (tmp_path / "noise.bin").write_bytes(_noise(1_000_000))
    rendering = render(plan_of(JOB, tmp_path))
    body = root(rendering)
    kept = objects_in(body)
    assert [one["kind"] for one in kept if not is_complete(one)] == ["ConfigMap"] * 2
    assert [one["metadata"]["name"] for one in kept] == [one["metadata"]["name"] for one in objects_of(rendering)]
    assert sum(len(base64.b64decode(text)) for text in body["binaryData"].values()) < 2**20


def test_ten_thousand_trials_are_one_job_and_fit_into_the_root(tmp_path):
    cell = (
        "method: random\nmax_runs: 10000\nparallelism: 1000\nparameters: {lr: {min: 0.0, max: 1.0}}\n---\nprint(lr)\n"
    )
    rendering = render(plan_of(cell, tmp_path))
    found = objects_of(rendering)
    assert [one["kind"] for one in found] == ["ConfigMap", "Job"]
    assert found[1]["spec"]["completions"] == 10_000
    assert found[1]["spec"]["parallelism"] == 1_000
    assert sum(map(len, root(rendering)["binaryData"].values())) < 2**20


def test_a_record_that_is_too_large_by_itself_is_refused(tmp_path):
    rendering = render(plan_of(JOB, tmp_path))
    large = rendering._replace(files={**rendering.files, "cell.txt": _noise(2_000_000).hex()})
    with pytest.raises(PlanError, match=r"the record of one is .* bytes, packed"):
        root(large)


@pytest.mark.parametrize("cell", [SWEEP, VLLM + "replicas: 2\n", "schedule: 0 6 * * *\n---\nprint(1)\n"])
def test_a_stamp_gives_every_object_its_owner_and_every_pod_its_uid(cell, tmp_path):
    rendering = render(plan_of(cell, tmp_path))
    before = objects_of(rendering)
    stamped = stamp(before, "u-1", f"{rendering.name}.run")
    assert before == objects_of(rendering)
    for one in stamped:
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["name"], owner["uid"]) == (f"{rendering.name}.run", "u-1")
        assert owner["controller"] is owner["blockOwnerDeletion"] is False
        assert one["metadata"]["labels"][marks.UID] == "u-1"
        check(one)
    by_kind = {one["kind"]: one for one in stamped}
    assert pod_of(by_kind)["metadata"]["labels"][marks.UID] == "u-1"
    if "Deployment" in by_kind:
        spec = by_kind["Deployment"]["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert by_kind["Service"]["spec"]["selector"] == spec["selector"]["matchLabels"]
        assert by_kind["PodDisruptionBudget"]["spec"]["selector"] == spec["selector"]
        (constraint,) = spec["template"]["spec"]["topologySpreadConstraints"]
        assert constraint["labelSelector"] == spec["selector"]


def test_a_volume_is_kept_after_its_run(tmp_path):
    rendering = render(plan_of("storage: 1Gi\n" + JOB, tmp_path))
    (claim,) = [one for one in stamp(objects_of(rendering), "u-1", "one.run") if one["kind"] == "PersistentVolumeClaim"]
    assert "ownerReferences" not in claim["metadata"]
    assert marks.UID not in claim["metadata"]["labels"]


# --- jobs


def test_each_trial_has_its_own_retries_and_a_disruption_is_none(tmp_path):
    spec = objects("retries: 2\n" + SWEEP, tmp_path)["Job"]["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["backoffLimitPerIndex"] == 2
    assert "maxFailedIndexes" not in spec
    assert spec["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_nothing_runs_for_ever(tmp_path):
    spec = objects(SWEEP, tmp_path)["Job"]["spec"]
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 7 * 86400
    assert 7 * 86400 < spec["activeDeadlineSeconds"] <= 365 * 86400
    assert spec["ttlSecondsAfterFinished"] == 7 * 86400
    assert "each task is ended after" in notes(SWEEP, tmp_path)["info", "max_hours"]
    timed = objects("max_hours: 0.5\nkeep_hours: 2\n" + SWEEP, tmp_path)["Job"]["spec"]
    assert timed["template"]["spec"]["activeDeadlineSeconds"] == 1800
    assert timed["ttlSecondsAfterFinished"] == 7200
    assert ("info", "max_hours") not in notes("max_hours: 0.5\n" + SWEEP, tmp_path)


def test_a_queued_job_waits_suspended(tmp_path):
    job = objects("queue: team-a\n" + JOB, tmp_path, kinds=frozenset({"LocalQueue"}))["Job"]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert "no Kueue" in notes("queue: team-a\n" + JOB, tmp_path, kinds=frozenset())["error", "queue"]
    assert ("error", "queue") not in notes("queue: team-a\n" + JOB, tmp_path, kinds=None)


def test_a_schedule_names_its_time_zone_and_queues_each_job(tmp_path):
    cell = "schedule: 0 6 * * *\nqueue: team-a\n" + JOB
    cron = objects(cell, tmp_path)["CronJob"]
    assert cron["spec"]["timeZone"] == "Etc/UTC"
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    assert cron["spec"]["jobTemplate"]["spec"]["suspend"] is True
    assert cron["spec"]["jobTemplate"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert ("info", "time_zone") in notes(cell, tmp_path)
    assert ("error", "schedule") in notes("schedule: 0 6 * * *\n" + VLLM, tmp_path)


def test_machines_of_one_task_find_each_other(tmp_path):
    cell = "name: train\nnodes: 4\ngpus: 2\n---\nprint(1)\n"
    found = objects(cell, tmp_path)
    assert found["Service"]["spec"]["clusterIP"] == "None"
    assert found["Service"]["spec"]["publishNotReadyAddresses"] is True
    assert pod_of(found)["spec"]["subdomain"] == found["Service"]["metadata"]["name"]
    assert found["Job"]["spec"]["completions"] == found["Job"]["spec"]["parallelism"] == 4
    assert found["Job"]["spec"]["maxFailedIndexes"] == 0
    given = variables(container_of(found))
    assert given["MASTER_ADDR"] == given["PET_MASTER_ADDR"] == "train-0.train"
    assert (given["PET_NNODES"], given["PET_NPROC_PER_NODE"]) == ("4", "2")
    assert "RANK" not in given


def test_machines_start_and_fail_together_where_the_cluster_has_jobsets(tmp_path):
    cell = "name: train\nnodes: 4\nretries: 3\n---\nprint(1)\n"
    found = objects(cell, tmp_path, kinds=frozenset({"JobSet"}))
    assert "Service" not in found
    spec = found["JobSet"]["spec"]
    assert spec["failurePolicy"] == {"maxRestarts": 3}
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    assert "backoffLimitPerIndex" not in job
    check({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job})
    given = variables(container_of(found))
    assert given["MASTER_ADDR"] == "train-node-0-0.train"
    assert given["WORLD_SIZE"] == "4"


@pytest.mark.parametrize(
    "cell",
    ["nodes: 2\n" + SWEEP, "nodes: 2\n" + VLLM, "nodes: 2\nschedule: 0 6 * * *\n" + JOB, "nodes: 2\nmode: manual\n"],
)
def test_what_several_machines_cannot_do_is_an_error_of_the_plan(cell, tmp_path):
    assert "error" in {level for level, _ in notes(cell, tmp_path, kinds=frozenset())}


def test_a_server_on_several_machines_is_a_leader_and_workers_that_know_it(tmp_path):
    cell = "name: big\nnodes: 2\nreplicas: 3\ngpus: 8\nexpose: ingress\nhost: x.y\n" + VLLM
    found = objects(cell, tmp_path, kinds=frozenset({"LeaderWorkerSet"}))
    assert not {"Deployment", "PodDisruptionBudget"} & set(found)
    spec = found["LeaderWorkerSet"]["spec"]
    assert (spec["replicas"], spec["leaderWorkerTemplate"]["size"]) == (3, 2)
    leader, worker = (spec["leaderWorkerTemplate"][f"{role}Template"]["spec"] for role in ("leader", "worker"))
    for template in (leader, worker):
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template})
    first, other = leader["containers"][0], worker["containers"][0]
    together = "--nnodes 2 --node-rank $(LWS_WORKER_INDEX) --master-addr $(LWS_LEADER_ADDRESS) --master-port 29500"
    assert "--tensor-parallel-size 8 --pipeline-parallel-size 2" in " ".join(first["args"])
    assert " ".join(first["args"]).endswith(together)
    assert " ".join(other["args"]).endswith(f"{together} --headless")
    assert "readinessProbe" in first
    assert not {"readinessProbe", "livenessProbe", "startupProbe"} & set(other)
    # The LeaderWorkerSet makes a Service of its own name.
    service = found["Service"]
    assert service["metadata"]["name"] == "big-server"
    assert service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"
    backend = found["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == "big-server"


@pytest.mark.parametrize(
    ("cell", "field"),
    [
        (VLLM, ""),
        ("serve: tgi\nmodel: a/b\n", "nodes"),
        ("max_hours: 1\n" + VLLM, "max_hours"),
        ("serve: command\nrun: python -m http.server {port}\n", ""),
    ],
)
def test_a_server_on_several_machines_needs_a_kind_for_it_and_a_server_that_can(cell, field, tmp_path):
    there = frozenset({"LeaderWorkerSet"})
    errors = {name for level, name in notes("nodes: 2\n" + cell, tmp_path, kinds=there) if level == "error"}
    assert errors == ({field} if field else set())
    missing = notes("nodes: 2\n" + cell, tmp_path, kinds=frozenset())["error", "nodes"]
    assert "no LeaderWorkerSet" in missing or field == "nodes"


def test_a_queue_that_the_namespace_has_not_is_a_warning(tmp_path):
    known = {"kinds": frozenset({"LocalQueue"}), "queues": frozenset({"team-b", "team-c"})}
    assert "queue: team-b, team-c" in notes("queue: team-a\n" + JOB, tmp_path, **known)["warning", "queue"]
    assert ("warning", "queue") not in notes("queue: team-b\n" + JOB, tmp_path, **known)
    assert ("warning", "queue") not in notes("queue: team-a\n" + JOB, tmp_path, **{**known, "queues": None})


# --- pods


def test_a_pod_asks_for_what_the_cell_says(tmp_path):
    found = objects("gpus: 2\ncpu: 0.5\nmemory: 16Gi\n" + JOB, tmp_path)
    assert container_of(found)["resources"] == {
        "requests": {"cpu": "500m", "memory": "16Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "16Gi", "nvidia.com/gpu": "2"},
    }
    assert pod_of(found)["spec"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert "resources" not in container_of(objects(JOB, tmp_path))


@pytest.mark.parametrize(
    ("resource", "taint"),
    [("amd.com/gpu", "amd.com/gpu"), ("nvidia.com/mig-1g.10gb", "nvidia.com/gpu"), ("gpu.intel.com/xe", "gpu.intel.com/i915")],
)  # fmt: skip
def test_gpus_of_other_makes_and_parts_of_gpus(resource, taint, tmp_path):
    found = objects(f"gpus: 1\ngpu_resource: {resource}\n" + JOB, tmp_path)
    assert container_of(found)["resources"]["limits"] == {resource: "1"}
    assert pod_of(found)["spec"]["tolerations"][0]["key"] == taint


def test_gpus_by_resource_claims(tmp_path):
    found = objects("gpus: 2\ngpu_resource: device-class:gpu.nvidia.com\n" + JOB, tmp_path)
    request = found["ResourceClaimTemplate"]["spec"]["spec"]["devices"]["requests"][0]
    assert request["exactly"] == {"deviceClassName": "gpu.nvidia.com", "count": 2}
    assert container_of(found)["resources"] == {"claims": [{"name": "gpu"}]}
    claim = pod_of(found)["spec"]["resourceClaims"][0]
    assert claim["resourceClaimTemplateName"] == found["ResourceClaimTemplate"]["metadata"]["name"]


@pytest.mark.parametrize(
    ("cell", "size"),
    [("gpus: 1\n", "8Gi"), ("gpus: 1\nmemory: 4Gi\n", "2Gi"), ("shm: 1Gi\n", "1Gi"), ("memory: 4Gi\n", None)],
)
def test_shared_memory(cell, size, tmp_path):
    spec = pod_of(objects(cell + JOB, tmp_path))["spec"]
    sizes = [volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if volume["name"] == "shm"]
    assert sizes == ([size] if size else [])
    assert any(mount["mountPath"] == "/dev/shm" for mount in spec["containers"][0]["volumeMounts"]) == bool(size)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gpu", {"key": "gpu", "operator": "Exists"}),
        ("team=a", {"key": "team", "operator": "Equal", "value": "a"}),
        ("team=a:NoSchedule", {"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}),
        ("x/y:NoExecute", {"key": "x/y", "operator": "Exists", "effect": "NoExecute"}),
    ],
)
def test_tolerations_as_people_write_them(text, found):
    assert toleration(text) == found


@pytest.mark.fault(70)
def test_secrets_are_references_and_never_values(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "very-secret-value")
    (tmp_path / "token").write_text("another-secret")
    cell = "secrets: {HF_TOKEN: hf-token/token, WANDB_API_KEY: env:WANDB_API_KEY, T: file:token}\nupload: false\n" + JOB
    rendering = render(plan_of(cell, tmp_path))
    text = str(rendering) + json.dumps(objects_of(rendering)) + json.dumps(root(rendering))
    assert "very-secret" not in text
    assert "another-secret" not in text
    assert b"secret" not in b"".join(rendering.payload.values())
    given = variables(container_of({one["kind"]: one for one in objects_of(rendering)}))
    assert given["HF_TOKEN"] == {"name": "hf-token", "key": "token"}
    assert given["WANDB_API_KEY"] == {"name": "one.secrets", "key": "WANDB_API_KEY"}
    assert given["T"] == {"name": "one.secrets", "key": "T"}


def test_requirements_are_installed_by_the_same_image_as_the_same_user(tmp_path):
    found = objects("requirements: [numpy, '$(HOME)x']\n" + JOB, tmp_path)
    (installer,) = pod_of(found)["spec"]["initContainers"]
    assert installer["image"] == container_of(found)["image"] == IMAGE
    assert installer["command"][-2:] == ["numpy", "$$(HOME)x"]
    assert variables(container_of(found))["PYTHONUSERBASE"] == variables(installer)["PYTHONUSERBASE"]


@pytest.mark.parametrize(("text", "kept"), [("$(A)", "$$(A)"), ("a$$b", "a$$$$b"), ("$5 and $HOME", "$5 and $HOME")])
def test_a_text_with_dollars_is_told_so_that_kubernetes_leaves_it_alone(text, kept):
    assert literal(text) == kept


def test_what_the_cluster_gives_goes_into_every_pod(tmp_path):
    spec = pod_of(
        objects(
            "priority: high\nservice_account: me\nimage_pull_secrets: [mine]\nnode_selector: {a: b}\n" + JOB,
            tmp_path,
            image_pull_secrets=("theirs",),
            node_selector={"pool": "gpu"},
            tolerations=("pool=gpu:NoSchedule",),
        )
    )["spec"]
    assert spec["priorityClassName"] == "high"
    assert spec["serviceAccountName"] == "me"
    assert spec["imagePullSecrets"] == [{"name": "theirs"}, {"name": "mine"}]
    assert spec["nodeSelector"] == {"pool": "gpu", "a": "b"}
    assert spec["tolerations"] == [{"key": "pool", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("cell", "modes"),
    [(JOB, ["ReadWriteOnce"]), ("parallelism: 2\n" + SWEEP, ["ReadWriteMany"]), (VLLM, ["ReadWriteOnce"])],
)
def test_a_volume_that_several_pods_share_says_so(cell, modes, tmp_path):
    claim = objects("storage: 20Gi\n" + cell, tmp_path)["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == modes
    assert claim["spec"]["resources"] == {"requests": {"storage": "20Gi"}}


def test_outputs_of_a_run_have_a_folder_of_their_own_in_a_shared_claim(tmp_path):
    found = objects("storage: claim:models\n" + JOB, tmp_path)
    assert "PersistentVolumeClaim" not in found
    mounts = {mount["mountPath"]: mount for mount in container_of(found)["volumeMounts"]}
    assert mounts[places.OUT]["subPathExpr"] == "runs/$(GPUDEPLOY_RUN)"
    assert places.output_folder("one", "u-1") == "runs/u-1/one"


# --- servers


def test_a_model_server_runs_behind_the_entry_point_of_its_image(tmp_path):
    container = container_of(objects(VLLM + "gpus: 2\nport: 8080\n", tmp_path))
    assert container["image"].startswith("docker.io/vllm/vllm-openai:")
    assert "command" not in container
    assert container["args"][:5] == ["Qwen/Qwen3-0.6B", "--host", "0.0.0.0", "--port", "8080"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]


@pytest.mark.parametrize("image", ["docker.io/vllm/vllm-openai:v0.34.0-cu129", "docker.io/vllm/vllm-openai@sha256:ab"])
def test_another_tag_of_the_servers_image_has_the_same_entry_point(image, tmp_path):
    assert "command" not in container_of(objects(f"image: {image}\n" + VLLM, tmp_path))


def test_an_image_that_is_not_known_is_given_the_whole_command(tmp_path):
    container = container_of(objects("image: registry.example:5000/vllm\n" + VLLM, tmp_path))
    assert container["command"][:3] == ["vllm", "serve", "Qwen/Qwen3-0.6B"]
    assert "args" not in container
    assert "--shutdown-timeout" not in container["command"]


def test_a_server_without_numbers_runs_as_its_images_own_user(tmp_path):
    assert pod_of(objects(VLLM, tmp_path))["spec"]["securityContext"]["runAsUser"] == 2000
    assert pod_of(objects(JOB, tmp_path))["spec"]["securityContext"]["runAsUser"] == 1000


def test_no_code_goes_to_a_server_of_its_own_image(tmp_path):
    found = objects(VLLM, tmp_path)
    assert "ConfigMap" not in found
    assert {volume["name"] for volume in pod_of(found)["spec"]["volumes"]} == {"gpudeploy"}
    assert ("warning", "requirements") in notes(VLLM + "requirements: [numpy]\n", tmp_path)


@pytest.mark.parametrize(
    ("server", "variable"), [("vllm", "VLLM_API_KEY"), ("llamacpp", "LLAMA_API_KEY"), ("sglang", "GPUDEPLOY_API_KEY")]
)
def test_a_server_that_knows_keys_gets_one_from_its_secret(server, variable, tmp_path):
    container = container_of(objects(f"name: chat\nserve: {server}\nmodel: m/m\n", tmp_path))
    assert variables(container)[variable] == {"name": "chat.key", "key": places.KEY}
    plan = plan_of(f"name: chat\nserve: {server}\nmodel: m/m\n", tmp_path)
    assert json.loads(render(plan).files["run.json"])["api_key"] == "chat.key"
    if server == "sglang":
        assert container["args"][-2:] == ["--api-key", "$(GPUDEPLOY_API_KEY)"]


def test_a_key_of_the_cells_own_wins(tmp_path):
    container = container_of(objects(VLLM + "secrets: {VLLM_API_KEY: keys/chat}\n", tmp_path))
    assert [one["valueFrom"] for one in container["env"] if one["name"] == "VLLM_API_KEY"] == [
        {"secretKeyRef": {"name": "keys", "key": "chat"}}
    ]
    given = plan_of(VLLM + "secrets: {VLLM_API_KEY: keys/chat}\n", tmp_path)
    assert json.loads(render(given).files["run.json"])["api_key"] is None
    own = container_of(objects("name: c\nserve: sglang\nmodel: m/m\nargs: --api-key x\n", tmp_path))
    assert own["args"].count("--api-key") == 1


def test_no_service_is_called_so_that_vllm_cannot_start_beside_it(tmp_path):
    found = objects("name: vllm\nroute: true\nexpose: route\n" + VLLM, tmp_path, kinds=frozenset({"Route"}))
    assert found["Service"]["metadata"]["name"] == "vllm-server"
    assert found["Route"]["spec"]["to"]["name"] == "vllm-server"
    assert pod_of(found)["spec"]["enableServiceLinks"] is False


def test_probes_wait_for_slow_loads_and_see_quick_starts_at_once(tmp_path):
    container = container_of(objects(VLLM, tmp_path))
    startup = container["startupProbe"]
    assert startup["httpGet"] == {"path": "/health", "port": "http"}
    assert startup["periodSeconds"] * startup["failureThreshold"] == 3600
    found = objects("serve: fastapi\n---\napp = 1\n", tmp_path)
    assert container_of(found)["startupProbe"]["periodSeconds"] == 2
    assert container_of(found)["startupProbe"]["tcpSocket"] == {"port": "http"}
    deployment = objects(VLLM, tmp_path)["Deployment"]["spec"]
    assert deployment["progressDeadlineSeconds"] > 3600


def test_a_path_that_the_cell_names_decides_readiness_and_not_life(tmp_path):
    found = container_of(objects("serve: fastapi\nhealth: /health\n---\napp = 1\n", tmp_path))
    assert found["readinessProbe"]["httpGet"]["path"] == "/health"
    assert "tcpSocket" in found["livenessProbe"]
    sglang = container_of(objects("serve: sglang\nmodel: m/m\n", tmp_path))
    assert sglang["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert sglang["livenessProbe"]["httpGet"]["path"] == "/health"


def test_a_server_is_let_go_gently(tmp_path):
    spec = pod_of(objects(VLLM, tmp_path))["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= pause + 90
    assert spec["containers"][0]["args"][-2:] == ["--shutdown-timeout", "90"]


def test_a_rollout_needs_no_gpu_that_is_not_there(tmp_path):
    found = objects(VLLM, tmp_path)
    assert found["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert found["PodDisruptionBudget"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert found["Service"]["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    assert objects("mode: manual\n", tmp_path)["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("expose: route\n", "Route"), ("expose: httproute\ngateway: g/w\n", "HTTPRoute"), ("expose: ingress\nhost: a.b\n", "Ingress")],
)  # fmt: skip
def test_ways_in_from_outside(cell, kind, tmp_path):
    ways = {"Route", "HTTPRoute", "Ingress"}
    assert ways & set(objects(cell + VLLM, tmp_path)) == {kind}
    assert not ways & set(objects(VLLM, tmp_path))


def test_a_load_balancer_is_the_service_itself(tmp_path):
    assert objects("expose: loadbalancer\n" + VLLM, tmp_path)["Service"]["spec"]["type"] == "LoadBalancer"


def test_a_probe_without_path_asks_whether_the_port_listens():
    from jupyter_gpudeploy.backends.kubernetes.manifests.probes import probes
    from jupyter_gpudeploy.plan.program import preset

    found = probes(Service(8000, Health(None, startup_seconds=10)), preset("command"))
    assert [one["tcpSocket"] for one in found] == [{"port": "http"}] * 3


def test_a_plan_for_this_machine_is_refused(tmp_path):
    with pytest.raises(PlanError, match="not for a cluster"):
        render(plan_of(JOB, tmp_path)._replace(cluster=None))


def test_sources_outside_the_notebooks_folder_are_an_error(tmp_path):
    base = tmp_path / "nb"
    base.mkdir()
    (tmp_path / "train.py").write_text("print(1)")
    found = notes(f"run: {tmp_path}/train.py\nallow_outside: true\n", base)
    assert "outside the notebook's folder" in found["error", "run"]


def _noise(size):
    import random

    return random.Random(1).randbytes(size)


def test_the_record_in_the_root_is_gzip_that_never_changes(tmp_path):
    rendering = render(plan_of(JOB, tmp_path))
    assert root(rendering) == root(rendering)
    assert gzip.decompress(base64.b64decode(root(rendering)["binaryData"][places.RECORD]))[:1] == b"{"


HOSTILE = [
    "{{ 7 * 7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "a\nhostPID: true",
    "a\n      hostNetwork: true\n      x: y",
    "a: {b: c}",
    "*anchor",
    "&anchor x",
    "!!python/object/apply:os.system [id]",
    "'\"`$(id)",
    "- item",
    "null",
    "# no comment",
    "\u2028\u0085",
]


@pytest.mark.fault(65, 66)
@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_person_writes_is_text_whatever_it_looks_like(tmp_path, text):
    def rendered(value):
        cell = (
            f"{VLLM}name: any\nenv: {{GREETING: {json.dumps(value)}}}\nnode_selector: {{pool: {json.dumps(value)}}}\n"
        )
        made = plan_of(cell, tmp_path)._replace(title=value)
        return {one["kind"]: one for one in objects_of(render(made))}

    def shape_of(value):
        if isinstance(value, dict):
            return {key: shape_of(part) for key, part in value.items() if key != "binaryData"}
        return [shape_of(part) for part in value] if isinstance(value, list) else type(value)

    found, plain = rendered(text), rendered("plain")
    assert {kind: shape_of(body) for kind, body in found.items()} == {k: shape_of(body) for k, body in plain.items()}
    assert pod_of(found)["spec"]["nodeSelector"] == {"pool": text}
    assert pod_of(found)["metadata"]["annotations"]["jupyter-gpudeploy/title"] == text
    assert variables(container_of(found))["GREETING"] == literal(text)
