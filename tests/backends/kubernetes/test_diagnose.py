"""Why: what the cluster said, as it was recorded on a real one or as its source has it, and what a person is told."""

import json
from pathlib import Path

import pytest
from nodes import UID, at, deployment, event, job, pod, record, root

from jupyter_gpudeploy.backends.kubernetes.diagnosis.explain import Finding, explain
from jupyter_gpudeploy.backends.kubernetes.mirror.states import States
from jupyter_gpudeploy.events.status import Status
from jupyter_gpudeploy.events.types import State, StateChange

SAMPLES = Path(__file__).parent / "samples"
SIGN_IN = "image_pull_secrets: [NAME of the Secret that opens the registry]"
ONE_THAT_EXISTS = "image: one that the registry has"
NOT_ROOT = "image: one whose USER is a number other than 0"
KEPT = "storage: 20Gi: what it writes then goes to a volume"
OWN_TOKEN = "secrets: {HF_TOKEN: env:HF_TOKEN}, or make the Secret: it is looked for again"
REGISTRY = "localhost:45990"
TOO_MUCH = "evicted: Pod ephemeral local storage usage exceeds the total limit of containers 4Mi."
RESTRICTED = (
    'allowPrivilegeEscalation != false (container "main" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "main" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true '
    '(pod or container "main" must set securityContext.runAsNonRoot=true), s…'
)

# name of the sample: sentence, hint, permanent
RECORDED = {
    "no-gpu": ("no node has 8 nvidia.com/gpu", "gpus: 1", True),
    "gpus-in-use": ("no node has 4 nvidia.com/gpu free", "gpus: 1", False),
    "no-memory": ("no node has 900Gi of memory", "memory: 450Gi", True),
    "no-cpu": ("no node has 500 processors", "cpu: 250", True),
    "no-label": ("no node has the label pool=h100", "node_selector: leave it out", True),
    "no-type": ("no node has a GPU of the type NVIDIA-H100", "gpu_type: leave it out", True),
    "no-claim": ("there is no volume claim missing", "storage: 20Gi makes one", True),
    "no-class": (
        "no storage was found for the volume claim no-class", "storage_class: one that the cluster has", False,
    ),
    "unknown-registry": (
        "the node finds no registry registry.invalid; it is tried again", "image: with the registry's right name", False,
    ),
    "wrong-image-name": (
        "'Bad Name::' is no name of an image: repository name (library/Bad Name) must be lowercase",
        "image: like python:3.12-slim", True,
    ),
    "registry-404": (f"there is no image {REGISTRY}/404/x:1", ONE_THAT_EXISTS, True),
    "registry-401": (
        f"the registry {REGISTRY} refuses the image {REGISTRY}/401/x:1 (no basic auth credentials)", SIGN_IN, True,
    ),
    "registry-403": (f"the registry {REGISTRY} refuses the image {REGISTRY}/403/x:1 (403 Forbidden)", SIGN_IN, True),
    "registry-429": (
        f"the registry {REGISTRY} lets no more images be pulled for now (429 Too Many Requests); it is tried again",
        SIGN_IN, False,
    ),
    "registry-500": (
        f"the node cannot get the image {REGISTRY}/500/x:1 (500 Internal Server Error); it is tried again", "", False,
    ),
    "never-pulled": (
        "the node has no image localhost/nosuch:1, and is not to fetch it", "image: one that the node may fetch", True,
    ),
    "no-python": (
        "the image localhost/gpudeploy-pause:test has no python3", "image: one with Python, like python:3.12-slim", True,
    ),
    "root-image": ("the image localhost/gpudeploy-python:test runs as root, which the cluster forbids", NOT_ROOT, True),
    "pod-security": (
        f"the namespace's Pod Security (restricted:latest) refuses its pods: {RESTRICTED}",
        "the field is securityContext.allowPrivilegeEscalation=false", True,
    ),
    "quota-pods": (
        "the quota team is used up: 1 of 1 pods used, 1 more wanted; 2 of 3 trials wait for that", "parallelism: 1", False,
    ),
    "quota-gpus": ("the quota team is too small: 2 nvidia.com/gpu wanted, 1 allowed", "gpus: 1", True),
    "quota-unsaid": ("the quota team asks every pod to say limits.memory", "memory: 8Gi", True),
    "quota-server": ("the quota team is too small: 1 pods wanted, 0 allowed", "", True),
    "limit-range": ("a container may have at most 64Mi of memory here, 1Gi asked", "memory: 64Mi", True),
    "out-of-memory": ("out of memory (limit 32Mi), exit code 137", "memory: 64Mi", False),
    "requirements": (
        "requirements: No matching distribution found for nosuchpackage-zzz",
        "requirements: without nosuchpackage-zzz, or another version of it", True,
    ),
    "no-secret": ("there is no Secret hf", OWN_TOKEN, False),
    "no-key": ("the Secret hf has no key token", OWN_TOKEN, False),
    "deadline": ("took longer than max_hours (4 s)", "max_hours: 0.002", False),
    "evicted-own-limit": (TOO_MUCH, KEPT, False),
    "evicted-succeeded": (TOO_MUCH, KEPT, False),
    "loading": ("still loading, less than a minute of 5 min: /health answers 503", "", False),
    "deaf": ("still loading, less than a minute of 5 min: nothing listens on port 8000 yet", "", False),
    "never-ready": (
        "not ready within 20 s: /health answers 503, so it was ended; started again (restart 1)",
        "health: {startup: 40s}", False,
    ),
    "crash-loop": ("exit code 3; next restart in 20s", "", False),
    "server-ended": ("the server ended by itself (exit code 0); next restart in 20s", "mode: job, if it is to end", False),
}  # fmt: skip


@pytest.mark.fault(21, 22, 23, 25, 26, 27, 28, 29, 31)
@pytest.mark.parametrize("name", sorted(RECORDED))
def test_what_a_real_cluster_said_is_put_into_one_sentence(name):
    sample = json.loads((SAMPLES / f"{name}.json").read_text())
    assert explain(sample["item"], sample["events"], sample["record"]) == Finding(*RECORDED[name])


def test_every_sample_is_expected():
    assert {file.stem for file in SAMPLES.glob("*.json")} == set(RECORDED)


def unscheduled(message, **fields):
    found = pod(**fields)
    del found["spec"]["nodeName"]
    found["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    ]
    found["spec"]["containers"][0]["resources"] = {"requests": {"nvidia.com/gpu": "8", "memory": "64Gi"}}
    return found


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    ("message", "finding"),
    [
        (
            (
                "0/3 nodes are available: 1 node(s) had untolerated taint {dedicated: ml}, 2 Insufficient nvidia.com/gpu. "
                "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found "
                "for incoming pod."
            ),
            Finding(
                "none of 3 nodes takes it: 1 with the taint dedicated=ml, 2 without 8 nvidia.com/gpu free",
                "tolerations: [dedicated=ml]",
            ),
        ),
        (
            (
                "0/2 nodes are available: 2 Insufficient memory, 2 Insufficient nvidia.com/gpu. no new claims to deallocate, "
                "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
            ),
            Finding("no node has 64Gi of memory; no node has 8 nvidia.com/gpu", "memory: 32Gi", True),
        ),
        (
            (
                "0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are available: 1 Preemption "
                "is not helpful for scheduling."
            ),
            Finding(
                "every node has a taint that it does not tolerate",
                "tolerations: [KEY]; kubectl describe nodes names the taint",
                True,
            ),
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.",
            Finding("every node is not ready"),
        ),
        (
            "0/2 nodes are available: 1 node(s) were unschedulable, 1 Too many pods.",
            Finding("none of 2 nodes takes it: 1 taken out of service, 1 with as many pods as it may"),
        ),
        (
            "0/4 nodes are available: 4 cannot allocate all claims.",
            Finding("no node has the devices of its claim free"),
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).",
            Finding("no node takes it: didn't match pod topology spread constraints (missing required label)"),
        ),
        ("no nodes available to schedule pods", Finding("the cluster has no node")),
        ("0/0 nodes are available: .", Finding("the cluster has no node")),
        (
            "running PreBind plugin: something new",
            Finding("no node takes it: running PreBind plugin: something new"),
        ),
    ],
)
def test_every_lack_of_the_nodes_is_read(message, finding):
    assert explain(unscheduled(message), (), record()) == finding


def test_the_event_is_read_where_the_condition_says_nothing():
    found = unscheduled("")
    told = event("pod-0-0", "FailedScheduling", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    assert explain(found, [told], record()).sentence == "no node has 8 nvidia.com/gpu free"


def test_the_other_gpu_types_of_the_settings_are_proposed():
    found = unscheduled("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
    found["spec"]["nodeSelector"] = {"nvidia.com/gpu.product": "NVIDIA-H100"}
    types = {"H100": "NVIDIA-H100", "A100": "NVIDIA-A100", "T4": "Tesla-T4"}
    hint = explain(found, (), record(target={"gpu_types": types, "gpu_label": "nvidia.com/gpu.product"})).hint
    assert hint == "gpu_type: A100, T4"


def waiting(reason, message, image="python:3.12", **fields):
    found = pod(state="scheduled", waiting=(reason, message), **fields)
    found["spec"]["containers"][0]["image"] = image
    return found


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    ("message", "finding"),
    [
        (
            (
                'failed to pull and unpack image "docker.io/library/nosuch:1": failed to resolve reference '
                '"docker.io/library/nosuch:1": pull access denied, repository does not exist or may require authorization: '
                "server message: insufficient_scope: authorization failed"
            ),
            Finding(
                "there is no image python:3.12, or not for everybody (pull access denied, repository does not exist or may "
                "require authorization: server message: insufficient_scope: authorization failed)",
                f"{ONE_THAT_EXISTS}, or {SIGN_IN}",
                True,
            ),
        ),
        (
            (
                'rpc error: code = NotFound desc = failed to pull and unpack image "quay.io/x:2": failed to resolve reference '
                '"quay.io/x:2": quay.io/x:2: not found'
            ),
            Finding("there is no image python:3.12", ONE_THAT_EXISTS, True),
        ),
        (
            (
                "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/x: 429 Too "
                "Many Requests - Server message: toomanyrequests: You have reached your unauthenticated pull rate limit."
            ),
            Finding(
                "the registry docker.io lets no more images be pulled for now (429 Too Many Requests - Server message: "
                "toomanyrequests: You have reached your unauthenticated pull rate limit.); it is tried again",
                SIGN_IN,
            ),
        ),
        (
            "initializing source docker://x/y:1: reading manifest 1 in x/y: manifest unknown",
            Finding("there is no image python:3.12", ONE_THAT_EXISTS, True),
        ),
        (
            "no match for platform in manifest: not found",
            Finding(
                "the image python:3.12 does not exist for the node's processor", "image: one for that processor", True
            ),
        ),
        (
            "write /var/lib/containerd/x: no space left on device",
            Finding("the node has no room for the image python:3.12; it is tried again", "image: a smaller one"),
        ),
    ],
)
def test_what_registries_and_runtimes_say_is_understood(message, finding):
    assert explain(waiting("ErrImagePull", message), (), record()) == finding


def test_a_kubelet_that_waits_without_saying_why_is_helped_out_by_its_events():
    told = event("pod-0-0", "Failed", 'Failed to pull image "python:3.12": manifest unknown')
    found = explain(waiting("ImagePullBackOff", 'Back-off pulling image "python:3.12"'), [told], record())
    assert found.sentence == "there is no image python:3.12"


@pytest.mark.parametrize(
    ("reason", "message", "sentence"),
    [
        ("CreateContainerConfigError", 'configmap "settings" not found', "there is no ConfigMap settings"),
        (
            "CreateContainerConfigError",
            "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: x)",
            "the image python:3.12 runs as 'app', and only a number tells that this is not root",
        ),
        ("CreateContainerError", "something new", "the container cannot be started: something new"),
        ("SomethingNew", "which nobody knows", "SomethingNew: which nobody knows"),
        (
            "RunContainerError",
            (
                "failed to create containerd task: OCI runtime create failed: runc create failed: unable to start container "
                'process: exec: "vllm": executable file not found in $PATH: unknown'
            ),
            "the image python:3.12 has no vllm",
        ),
    ],
)
def test_a_container_that_is_not_made_says_why(reason, message, sentence):
    assert explain(waiting(reason, message), (), record()).sentence == sentence


@pytest.mark.parametrize(
    ("reason", "message", "sentence"),
    [
        (
            "FailedMount", 'MountVolume.SetUp failed for volume "code" : configmap "digits.code-1" not found',
            "there is no ConfigMap digits.code-1, which is mounted; it is looked for again",
        ),
        (
            "FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other',
            "the volume is still used on another node; it is tried again",
        ),
        (
            "FailedMount", 'MountVolume.MountDevice failed for volume "pvc-1" : rpc error: timeout',
            'a volume cannot be mounted; it is tried again: MountVolume.MountDevice failed for volume "pvc-1" : rpc error: timeout',
        ),
        (
            "FailedCreatePodSandBox", "Failed to create pod sandbox: rpc error: code = Unknown desc = no more addresses",
            "the node cannot make the pod; it is tried again: no more addresses",
        ),
    ],
)  # fmt: skip
def test_a_pod_whose_containers_are_not_even_created_says_why(reason, message, sentence):
    found = waiting("ContainerCreating", "")
    assert explain(found, (), record()) is None
    assert explain(found, [event("pod-0-0", reason, message)], record()).sentence == sentence


def test_packages_that_are_being_installed_are_no_riddle():
    found = waiting("PodInitializing", "")
    found["status"]["initContainerStatuses"] = [{"name": "requirements", "state": {"running": {"startedAt": at(3)}}}]
    assert explain(found, (), record()).sentence == "installing the packages of requirements:"


@pytest.mark.parametrize(
    ("said", "sentence", "hint"),
    [
        (
            (
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
                "ERROR: No matching distribution found for numpy\n"
            ),
            "requirements: the pod reaches no package index: No matching distribution found for numpy",
            "image: one that has the packages",
        ),
        (
            "this image has no pip: choose one that has (image:), or one that has the packages already\n",
            "requirements: this image has no pip: choose one that has (image:), or one that has the packages already",
            "",
        ),
        ("", "requirements: exit code 1", ""),
    ],
)
def test_pips_last_line_is_the_reason(said, sentence, hint):
    crashed = {"exitCode": 1, "reason": "Error", "message": said, "startedAt": at(3), "finishedAt": at(5)}
    failed = pod(state="scheduled", phase="Failed")
    failed["status"]["initContainerStatuses"] = [{"name": "requirements", "state": {"terminated": crashed}}]
    assert explain(failed, (), record())[:2] == (sentence, hint)
    again = pod(state="scheduled", policy="Always")
    waits = {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container=requirements pod=x"}
    seen = {
        "name": "requirements",
        "state": {"waiting": waits},
        "lastState": {"terminated": crashed},
        "restartCount": 2,
    }
    again["status"]["initContainerStatuses"] = [seen]
    assert explain(again, (), record()).sentence == f"{sentence}; next restart in 20s"


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    ("message", "sentence", "hint"),
    [
        (
            (
                'pods "x-" is forbidden: unable to validate against any security context constraint: [provider "anyuid": '
                "Forbidden: not usable by user or serviceaccount, provider restricted-v2: .spec.securityContext.fsGroup: Invalid "
                "value: []int64{1000}: 1000 is not an allowed group, provider restricted-v2: .containers[0].runAsUser: Invalid "
                "value: 1000: must be in the ranges: [1000700000, 1000709999]]"
            ),
            (
                "OpenShift's security constraints refuse its pods: restricted-v2: .spec.securityContext.fsGroup: Invalid value: "
                "[]int64{1000}: 1000 is not an allowed group"
            ),
            "flavour: openshift in the settings file, so that the cluster chooses the user",
        ),
        (
            'admission webhook "validate.kyverno.svc-fail" denied the request: resource Pod/x was blocked: need label team',
            "the policy validate.kyverno.svc-fail refuses its pods: resource Pod/x was blocked: need label team",
            "",
        ),
        (
            "pods \"x-0\" is forbidden: ValidatingAdmissionPolicy 'gpus' with binding 'all' denied request: at most 4 GPUs",
            "the policy gpus refuses its pods: at most 4 GPUs",
            "",
        ),
        (
            'Internal error occurred: failed calling webhook "mutate.example": failed to call webhook: connection refused',
            "the webhook mutate.example does not answer, without it no pod is made; it is tried again",
            "",
        ),
        (
            'pods "x-" is forbidden: error looking up service account ml/trainer: serviceaccount "trainer" not found',
            "there is no ServiceAccount trainer",
            "service_account: leave it out",
        ),
        (
            'pods "x-" is forbidden: no PriorityClass with name urgent was found',
            "there is no PriorityClass urgent",
            "priority: leave it out",
        ),
        (
            'pods "x-" is forbidden: minimum cpu usage per Container is 100m, but request is 50m',
            "a container may have at least 100m of cpu here, 50m asked",
            "cpu: 100m",
        ),
        (
            'pods "x-" is forbidden: failed quota: team: must specify limits.cpu for: main; requests.memory for: main',
            "the quota team asks every pod to say limits.cpu, requests.memory",
            "a LimitRange in the namespace gives those: ask who keeps the cluster",
        ),
        (
            (
                'pods "x-" is forbidden: exceeded quota: team, requested: limits.memory=8Gi,requests.memory=8Gi, used: '
                "limits.memory=30Gi,requests.memory=30Gi, limited: limits.memory=32Gi,requests.memory=32Gi"
            ),
            "the quota team is used up: 30Gi of 32Gi memory used, 8Gi more wanted",
            "",
        ),
        ('pods "x-" is forbidden: something new', "the cluster refuses its pods: something new", ""),
    ],
)
def test_who_refuses_a_pod_is_named_with_what_to_change(message, sentence, hint):
    told = event("job", "FailedCreate", f"Error creating: {message}")
    waits = job()
    waits["spec"] |= {"completions": 1, "parallelism": 1}
    assert explain(waits, [told], record())[:2] == (sentence, hint)
    broken = deployment()
    broken["status"] = {"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "x", "message": message}]}
    assert explain(broken, (), record(kind="server"))[:2] == (sentence, hint)


def test_a_refusal_that_is_over_is_not_told_any_more():
    told = event(
        "job", "FailedCreate", "Error creating: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    )
    fine = job(active=2)
    fine["spec"] |= {"completions": 5, "parallelism": 2}
    assert explain(fine, [told], record(5)) is None
    short = job("0", active=1)
    short["spec"] |= {"completions": 5, "parallelism": 2}
    assert explain(short, [told], record(5)).sentence.endswith("; 3 of 5 trials wait for that")
    assert explain(job("0", Complete="x"), [told], record()) is None
    assert explain(deployment(), (), record(kind="server")) is None


def test_a_queue_says_where_one_stands():
    held = job(suspended=True)
    assert explain(held, (), record()).sentence == "suspended"
    held["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a"
    assert explain(held, (), record()).sentence == "waits in the queue team-a"
    message = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 2 more needed"
    reserved = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": message}
    workload = {
        "kind": "Workload",
        "metadata": {"uid": "w"},
        "spec": {"queueName": "team-a"},
        "status": {"conditions": [reserved]},
    }
    assert explain(workload, (), record()).sentence == f"waits in the queue team-a: {message}"
    workload["positionInLocalQueue"] = 3
    assert explain(workload, (), record()).sentence == f"waits in the queue team-a, 3 before it: {message}"
    reserved |= {"type": "Admitted", "status": "True"}
    assert explain(workload, (), record()) is None


@pytest.mark.parametrize(
    ("reason", "preempted", "sentence"),
    [
        ("Preempted", "InClusterQueue", "preempted by work of higher priority in the same queue"),
        ("Preempted", "InCohortReclamation", "preempted: another queue took back what it had lent"),
        ("Preempted", "Another", "preempted by other work"),
        ("PodsReadyTimeout", "", "sent back by Kueue: its pods were not ready in time"),
        ("Another", "", "sent back by Kueue (Another: the words)"),
    ],
)
def test_what_kueue_took_back_says_why(reason, preempted, sentence):
    evicted = {"type": "Evicted", "status": "True", "reason": reason, "message": "the words"}
    conditions = [evicted, {"type": "QuotaReserved", "status": "False", "message": "the words"}]
    if preempted:
        conditions.append({"type": "Preempted", "status": "True", "reason": preempted})
    workload = {"kind": "Workload", "metadata": {"uid": "w"}, "spec": {"queueName": "q"}}
    workload["status"] = {"conditions": conditions}
    assert explain(workload, (), record()).sentence == f"{sentence}; waits in the queue q"
    conditions[1]["message"] = "1 more needed"
    assert explain(workload, (), record()).sentence == f"{sentence}; waits in the queue q: 1 more needed"
    workload["spec"]["active"] = False
    found = explain(workload, (), record())
    assert (found.sentence, found.hint) == ("taken out of the queue q", "%deploy unpause queues it again")


def test_a_pod_that_a_queue_holds_says_which():
    held = pod()
    held["spec"].pop("nodeName", None)
    held["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}
    assert explain(held, (), record()).sentence == "waits for another controller to let it go"
    held["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team-a"}
    assert explain(held, (), record()).sentence == "waits in the queue team-a"


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (
            (
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: 57Mi. Container main was using "
                "3Gi, request is 0, has larger consumption of memory. "
            ),
            "memory: 3Gi: what is asked for is kept for it",
        ),
        ("The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. ", KEPT),
        ('Usage of EmptyDir volume "dshm" exceeds the limit "1Gi". ', "shm: 2Gi"),
        ("The node had condition: [PIDPressure]. ", ""),
    ],
)
def test_an_eviction_is_told_in_the_nodes_words_with_what_would_have_kept_it(message, hint):
    found = explain(pod(state="ended", code=137, status_reason="Evicted", message=message), (), record())
    assert found == Finding(f"evicted: {message.strip()}", hint)


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"disruption": "PreemptionByScheduler", "deleted": 9}, "preempted by a pod of higher priority: why"),
        (
            {"disruption": "DeletionByTaintManager", "deleted": 9},
            "node node-1 does not respond or is not to be used: why",
        ),
        ({"disruption": "EvictionByEvictionAPI", "deleted": 9}, "evicted (the node is being drained): why"),
        ({"disruption": "DeletionByPodGC", "deleted": 9}, "node node-1 is gone: why"),
        ({"deleted": 9}, "the pod was deleted outside (killed by SIGTERM)"),
    ],
)
def test_who_ended_a_pod_is_said(fields, sentence):
    assert explain(pod(state="ended", code=143, **fields), (), record()).sentence == sentence


@pytest.mark.fault(24)
def test_a_task_that_somebody_deleted_is_helped_by_a_retry():
    deleted = pod(state="ended", code=143, deleted=9)
    assert explain(deleted, (), record(retries=0)).hint == "retries: 1"
    assert explain(deleted, (), record(retries=2)).hint == ""
    assert explain(deleted, (), record(kind="server")).hint == ""


@pytest.mark.fault(24)
def test_a_pod_that_its_node_did_not_take_says_so():
    message = (
        "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. Requested: 1, Available: 0"
    )
    refused = pod(state="scheduled", phase="Failed", status_reason="UnexpectedAdmissionError", message=message)
    assert explain(refused, (), record()).sentence == f"node node-1 did not take it: {message}"
    lost = pod(state="scheduled", phase="Failed", status_reason="NodeLost", message="Node node-1 is unresponsive")
    assert explain(lost, (), record()).sentence == "node node-1 is lost: Node node-1 is unresponsive"


def ended(code, message="", **fields):
    found = pod(state="ended", code=code, **fields)
    found["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = message
    return found


@pytest.mark.parametrize(
    ("code", "said", "sentence"),
    [
        (126, "", "exit code 126: the command cannot be executed"),
        (127, "no program 'nvcc' on PATH", "exit code 127: no program 'nvcc' on PATH"),
        (127, "", "exit code 127: a command was not found"),
        (134, "", "exit code 134: the program aborted itself"),
        (135, "", "exit code 135: a bus error, as a rule /dev/shm is full"),
        (137, "ended by SIGKILL", "exit code 137: killed by SIGKILL"),
        (139, "ended by SIGSEGV", "exit code 139: a crash in compiled code (SIGSEGV)"),
        (143, "", "exit code 143: ended by SIGTERM"),
        (1, "out of memory (limit 32 MiB)", "out of memory, exit code 1"),
        (78, "a script that is not there", "a script that is not there"),
    ],
)
def test_exit_codes_of_shells_and_signals_have_words(code, said, sentence):
    message = json.dumps({"exit_code": code, "reason": said, "attempt": 1, "metrics": {}}) if said else ""
    assert explain(ended(code, message), (), record()).sentence == sentence


def test_a_programs_own_exit_code_is_left_to_it():
    assert explain(ended(3, '{"exit_code": 3, "reason": ""}'), (), record()) is None
    assert explain(ended(0), (), record()) is None
    assert explain(pod(state="running"), (), record()) is None
    assert explain({"kind": "Service", "metadata": {}}, (), record()) is None


@pytest.mark.fault(21)
def test_out_of_memory_without_a_limit_of_its_own_asks_for_one():
    found = explain(pod(state="ended", code=137, reason="OOMKilled"), (), record())
    assert found == Finding("out of memory, exit code 137", "memory: more than it uses now")


def server(**fields):
    found = pod(policy="Always", **fields)
    main = found["spec"]["containers"][0]
    main["startupProbe"] = {"httpGet": {"path": "/health"}, "periodSeconds": 10, "failureThreshold": 180}
    main["livenessProbe"] = {"httpGet": {"path": "/live"}, "periodSeconds": 20, "failureThreshold": 6}
    return found


def unhealthy(message, seconds, count=1, first=3):
    found = event("pod-0-0", "Unhealthy", message, count=count, seconds=first)
    return {**found, "lastTimestamp": at(seconds)}


@pytest.mark.fault(31)
def test_a_model_that_loads_says_for_how_long_it_has_and_may():
    loading = server(state="running")
    loading["status"]["containerStatuses"][0]["started"] = False
    assert explain(loading, (), record(kind="server")) is None
    refused = (
        'Startup probe failed: Get "http://10.1.2.3:8000/health": dial tcp 10.1.2.3:8000: connect: connection refused'
    )
    found = explain(loading, [unhealthy(refused, 3 + 14 * 60)], record(kind="server"))
    assert found == Finding("still loading, 14 min of 30 min: nothing listens on port 8000 yet")
    late = 'Startup probe failed: Get "http://10.1.2.3:8000/health": context deadline exceeded'
    found = explain(loading, [unhealthy(late, 3 + 20)], record(kind="server"))
    assert found.sentence == "still loading, less than a minute of 30 min: /health does not answer in time"


@pytest.mark.fault(31)
def test_a_server_that_fell_silent_says_what_its_probe_saw():
    silent = server(state="running")
    silent["status"]["containerStatuses"][0]["started"] = True
    told = unhealthy("Readiness probe failed: HTTP probe failed with statuscode: 500", 100)
    assert explain(silent, [told], record(kind="server")).sentence == "it does not answer: /health answers 500"


def restarted(code, began, finished, message="", back_off=None):
    found = server(
        state="scheduled" if back_off else "running", restarts=1, last=code, waiting=back_off, phase="Running"
    )
    last = found["status"]["containerStatuses"][0]["lastState"]["terminated"]
    last |= {"startedAt": at(began), "finishedAt": at(finished), "message": message}
    return found


@pytest.mark.fault(29, 31)
def test_the_end_of_a_servers_last_start_is_told_with_the_next():
    message = '{"exit_code": 143, "reason": "stopped by SIGTERM"}'
    never = unhealthy("Startup probe failed: HTTP probe failed with statuscode: 503", 1900)
    found = explain(restarted(143, 10, 1815, message), [never], record(kind="server"))
    sentence = "not ready within 30 min: /health answers 503, so it was ended; started again (restart 1)"
    assert found == Finding(sentence, "health: {startup: 60m}")
    silent = unhealthy("Liveness probe failed: HTTP probe failed with statuscode: 500", 995)
    found = explain(restarted(137, 10, 1000), [silent], record(kind="server"))
    assert found.sentence == "it stopped answering: /health answers 500, so it was ended; started again (restart 1)"
    back_off = ("CrashLoopBackOff", "back-off 2m40s restarting failed container=main pod=x")
    crashed = restarted(1, 10, 20, "Traceback:\nRuntimeError: CUDA out of memory\n", back_off)
    found = explain(crashed, [never], record(kind="server"))
    assert found.sentence == "exit code 1: RuntimeError: CUDA out of memory; next restart in 2m40s"


def last_of_the_run(states, monotonic):
    told = [change for change in states.changes(monotonic) if isinstance(change, StateChange) and change.task is None]
    return told[-1] if told else None


@pytest.mark.fault(27)
def test_a_deployment_that_makes_no_pods_gives_the_run_its_reason_and_hint_and_takes_them_back():
    states = States(record(kind="server"), UID, explain=explain)
    message = "pods is forbidden: exceeded quota: q, requested: example.com/gpu=2, used: example.com/gpu=0, limited: example.com/gpu=1"
    broken = deployment()
    broken["status"] = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]}
    for item in (root(), broken):
        states.feed(item["kind"], item)
    told = last_of_the_run(states, 10.0)
    assert (told.state, told.reason) == (State.WAITING, "the quota q is too small: 2 example.com/gpu wanted, 1 allowed")
    assert told.details["hint"] == "gpus: 1"
    assert Status.of((), [told]).hint == "gpus: 1"
    states.feed("Deployment", deployment())
    fine = last_of_the_run(states, 20.0)
    assert (fine.state, fine.reason) == (State.WAITING, "")
    assert Status.of((), [told, fine]).hint == ""


@pytest.mark.fault(29)
def test_a_crash_is_told_once_the_kubelet_has_said_when_it_starts_again_or_after_a_while():
    states = States(record(kind="server"), UID, explain=explain)
    crashed = server(state="ended", code=3)
    for item in (root(), deployment(), crashed):
        states.feed(item["kind"], item)
    states.changes(10.0)
    states.drained(0, 1)
    assert last_of_the_run(states, 11.0) is None
    assert last_of_the_run(states, 14.0).reason == "exit code 3"
    later = States(record(kind="server"), UID, explain=explain)
    back_off = ("CrashLoopBackOff", "back-off 10s restarting failed container=main pod=x")
    waits = server(state="scheduled", last=3, waiting=back_off, phase="Running")
    for item in (root(), deployment(), crashed):
        later.feed(item["kind"], item)
    later.changes(10.0)
    later.drained(0, 1)
    later.feed("Pod", waits)
    assert last_of_the_run(later, 11.0).reason == "exit code 3; next restart in 10s"
