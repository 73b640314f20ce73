"""What the doctor says of a cluster that is written here; the real one is in tests/cluster."""

import pytest
from wire import fails, gives

from jupyter_gpudeploy.backends.kubernetes.api import permissions
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.kinds import KINDS
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.backends.kubernetes.doctor import examine
from jupyter_gpudeploy.spec.yaml import load

REVIEWS = "/apis/authorization.k8s.io/v1"
NAMESPACE = "/api/v1/namespaces/default"
EVERYTHING = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
ROUTES = {"groups": [{"versions": [{"groupVersion": "route.openshift.io/v1"}]}]}


def listed(*items):
    return gives({"items": list(items), "metadata": {}})


def node(name, gpus, model):
    status = {"allocatable": {"cpu": "8", "nvidia.com/gpu": str(gpus), "nvidia.com/mig-1g.10gb": "0"}}
    return {"metadata": {"name": name, "labels": {"nvidia.com/gpu.product": model}}, "status": status}


def pod(gpus, node="n"):
    containers = [{"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}, {}]
    return {"metadata": {"name": "p"}, "spec": {"nodeName": node, "containers": containers}}


@pytest.fixture
def served(wire):
    """An OpenShift whose user may do everything but see the nodes."""
    wire.on("GET", "/version", gives({"gitVersion": "v1.34.1"}))
    wire.on("GET", "/apis", gives(ROUTES))
    wire.on("GET", "/apis/route.openshift.io/v1", gives({"resources": [{"name": "routes"}]}))
    wire.on("POST", f"{REVIEWS}/selfsubjectrulesreviews", gives({"status": {"resourceRules": EVERYTHING}}))
    wire.on("GET", f"{NAMESPACE}/resourcequotas", listed())
    wire.on("GET", "/api/v1/nodes", fails(403, "no"))
    return wire


@pytest.fixture
def report(served, alone, tmp_path, monkeypatch):
    def make(**entries):
        monkeypatch.setenv("KUBECONFIG", str(served.kubeconfig(tmp_path / "kubeconfig", **entries)))
        with connect(patience=Patience(total=0.2, first=0.02)) as cluster:
            return examine(cluster)

    return make


def rows(report, title):
    (section,) = [section for section in report.sections if section.title == title]
    return {row.subject: row for row in section.rows}


def test_it_says_what_the_cluster_is_and_has(report):
    found = report()
    connection, kinds = rows(found, "Connection"), rows(found, "What the cluster has")
    assert connection["server"].value == "Kubernetes v1.34.1"
    assert connection["flavour"].value == "OpenShift"
    assert connection["client"].value.startswith("kubernetes ")
    assert "plain http" in connection["TLS"].value
    assert (kinds["Route"].level, kinds["Route"].value) == ("ok", "route.openshift.io/v1")
    assert (kinds["JobSet"].level, kinds["JobSet"].value) == ("info", "no")
    assert found.is_usable
    assert found.role == ""
    assert "namespace 'default'" in str(found)


def test_a_missing_right_names_the_verb_and_what_is_off_and_the_role_to_ask_for(served, report):
    rules = [
        {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["*"], "apiGroups": [""], "resources": ["pods/log", "configmaps"]},
        {"verbs": ["*"], "apiGroups": ["batch"], "resources": ["*"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]},
    ]
    served.on("POST", f"{REVIEWS}/selfsubjectrulesreviews", gives({"status": {"resourceRules": rules}}))
    found = report()
    rights = rows(found, "Rights")
    assert rights["jobs.batch"].level == "ok"
    assert (rights["pods"].level, rights["pods"].value) == ("error", "may not create, delete")
    assert (rights["pods/exec"].level, rights["pods/exec"].value) == ("warning", "may not create")
    assert "manual runs" in rights["pods/exec"].hint
    assert "routes.route.openshift.io" in rights
    assert "jobsets.jobset.x-k8s.io" not in rights  # the cluster has none
    assert not found.is_usable
    assert found.role == permissions.role()


def test_a_server_that_does_not_tell_what_is_allowed_is_no_refusal(served, report):
    served.on("POST", f"{REVIEWS}/*", fails(403))
    found = report()
    assert {row.value for row in rows(found, "Rights").values()} == {"the server does not tell"}
    assert found.is_usable


def test_a_quota_that_is_full_is_marked(served, report):
    status = {
        "hard": {"requests.nvidia.com/gpu": "4", "requests.memory": "64Gi", "requests.cpu": "8", "pods": "10"},
        "used": {"requests.nvidia.com/gpu": "4", "requests.memory": "65536Mi", "requests.cpu": "7500m", "pods": "3"},
    }
    served.on("GET", f"{NAMESPACE}/resourcequotas", listed({"metadata": {"name": "q"}, "status": status}))
    quota = rows(report(), "Quota")
    assert {name: row.level for name, row in quota.items()} == {
        "pods": "ok", "requests.cpu": "ok", "requests.memory": "warning", "requests.nvidia.com/gpu": "warning",
    }  # fmt: skip
    assert quota["pods"].value == "3 of 10 used"


def test_free_gpus_are_counted_where_nodes_and_pods_are_visible(served, report):
    served.on("GET", "/api/v1/nodes", listed(node("a", 8, "H100"), node("b", 4, "A100")))
    served.on("GET", "/api/v1/pods", listed(pod(2), pod(1), pod(8, node="")))
    served.on("GET", f"{NAMESPACE}/pods", fails(403))
    gpus = rows(report(), "GPUs")
    assert gpus["nvidia.com/gpu"].value == "9 of 12 free"
    assert "nvidia.com/mig-1g.10gb" not in gpus
    served.on("GET", "/api/v1/pods", fails(403, "no"))
    gpus = rows(report(), "GPUs")
    assert gpus["nvidia.com/gpu"].value == "12 on the nodes"
    assert "not visible" in gpus["in use"].value


def test_nodes_that_may_not_be_listed_are_said_to_be_invisible(report):
    assert rows(report(), "GPUs")["nodes"].value == "not visible"


def test_a_server_that_is_away_is_the_only_finding(served, report):
    served.on("GET", "/version", fails(503, "starting"))
    found = report()
    assert [section.title for section in found.sections] == ["Connection"]
    assert "starting" in rows(found, "Connection")["server"].value
    assert not found.is_usable


def test_one_that_goes_away_in_the_middle_cuts_its_section_short(served, report):
    served.on("GET", f"{NAMESPACE}/resourcequotas", lambda _, answer: answer.reset())
    quota = rows(report(), "Quota")
    assert "cannot be reached" in quota["cut short"].value


def test_no_token_is_in_a_report(report):
    found = report(user={"token": "s3cret"})
    assert "s3cret" not in f"{found!r}{found}"


def test_the_role_that_is_shipped_is_the_table_and_a_role():
    assert permissions.role() == permissions.rendered(), "write permissions.rendered() to role.yaml"
    role = load(permissions.role()).value
    assert role["kind"] == "Role"
    assert len(role["rules"]) == len(permissions.PERMISSIONS)
    known = {(kind.group, kind.plural) for kind in KINDS.values()}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            assert (rule["apiGroups"][0], resource.partition("/")[0]) in known
