"""What a Cluster says and does, against a server whose every byte is written here."""

import random
import threading
import time

import pytest
from wire import CUT, HOLD, RESET, Tunnel, Wire, fails, gives, lines, reset, silence

from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.errors import (
    ApiError,
    ConflictError,
    CredentialsError,
    ForbiddenError,
    GoneError,
    NotFoundError,
    ThrottledError,
    UnreachableError,
)
from jupyter_gpudeploy.backends.kubernetes.api.streams import Chunks
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.errors import BackendError

PODS = "/api/v1/namespaces/default/pods"
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "uid": "u1", "resourceVersion": "7"}}
QUICK = Patience(total=1.5, first=0.02, longest=0.1, said_after=0.3)


@pytest.fixture
def connected(alone, tmp_path, monkeypatch):
    opened = []

    def make(wire, patience=QUICK, **entries):
        monkeypatch.setenv("KUBECONFIG", str(wire.kubeconfig(tmp_path / "kubeconfig", **entries)))
        opened.append(connect(patience=patience))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


@pytest.fixture
def cluster(wire, connected):
    return connected(wire)


def added(name, version):
    return {"type": "ADDED", "object": {"metadata": {"name": name, "resourceVersion": version}}}


class TestObjects:
    def test_an_object_is_the_plain_dict_of_the_server_and_the_token_is_sent(self, wire, cluster):
        wire.on("GET", f"{PODS}/a", gives(POD))
        assert cluster.get("Pod", "a") == POD
        assert wire.requests[0].headers["Authorization"] == "Bearer t0ken"
        assert wire.requests[0].headers["User-Agent"].startswith("jupyter-gpudeploy/")

    def test_a_list_follows_its_pages_and_every_item_has_its_kind(self, wire, cluster):
        first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"resourceVersion": "5", "continue": "more"}}
        last = {"items": [{"metadata": {"name": "b"}}], "metadata": {"resourceVersion": "5"}}
        wire.on("GET", PODS, gives(first), gives(last))
        listing = cluster.list("Pod", labels="x=y", fields="status.phase=Running")
        assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
        assert {(item["kind"], item["apiVersion"]) for item in listing.items} == {("Pod", "v1")}
        assert listing.resource_version == "5"
        asked = [request.query for request in wire.requests]
        assert asked[0] == {"labelSelector": "x=y", "fieldSelector": "status.phase=Running", "limit": "500"}
        assert asked[1]["continue"] == "more"

    def test_a_list_that_changed_between_its_pages_is_taken_at_once(self, wire, cluster):
        first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "more"}}
        whole = {"items": [{"metadata": {"name": "b"}}], "metadata": {"resourceVersion": "6"}}
        wire.on("GET", PODS, gives(first), fails(410, reason="Expired"), gives(whole))
        assert [item["metadata"]["name"] for item in cluster.list("Pod").items] == ["b"]

    def test_apply_and_dry_run_and_force_are_said_in_the_query(self, wire, cluster):
        wire.on("PATCH", f"{PODS}/a", gives(POD))
        cluster.apply(POD)
        cluster.apply(POD, dry_run=True, force=True)
        first, second = wire.requests
        assert first.headers["Content-Type"] == "application/apply-patch+yaml"
        assert first.query == {"fieldManager": "jupyter-gpudeploy", "force": "false"}
        assert second.query == {"fieldManager": "jupyter-gpudeploy", "force": "true", "dryRun": "All"}
        assert first.json() == POD

    def test_a_patch_has_its_content_type_and_subresource(self, wire, cluster):
        wire.on("PATCH", "*", gives(POD))
        cluster.patch("Deployment", "a", {"spec": {"replicas": 0}}, subresource="scale")
        cluster.patch("Pod", "a", [{"op": "remove", "path": "/x"}], content="json")
        assert wire.requests[0].path == "/apis/apps/v1/namespaces/default/deployments/a/scale"
        assert [request.headers["Content-Type"] for request in wire.requests] == [
            "application/merge-patch+json",
            "application/json-patch+json",
        ]

    def test_only_the_object_with_the_uid_is_deleted(self, wire, cluster):
        wire.on("DELETE", f"{PODS}/a", gives({"kind": "Status"}), fails(409, "the UID does not match", "Conflict"))
        cluster.delete("Pod", "a", uid="u1", grace_seconds=0)
        sent = wire.requests[0].json()
        assert sent["preconditions"] == {"uid": "u1"}
        assert (sent["gracePeriodSeconds"], sent["propagationPolicy"]) == (0, "Foreground")
        with pytest.raises(ConflictError, match="delete Pod 'a'"):
            cluster.delete("Pod", "a", uid="u2")

    def test_deleting_what_is_not_there_is_done_already(self, wire, cluster):
        cluster.delete("Pod", "a")
        assert len(wire.seen("DELETE")) == 1

    def test_a_name_cannot_lead_to_another_path(self, wire, cluster):
        with pytest.raises(NotFoundError):
            cluster.get("Pod", "../../secrets/x?y")
        assert wire.requests[0].path == f"{PODS}/..%2F..%2Fsecrets%2Fx%3Fy"

    def test_an_unknown_kind_is_refused_with_the_nearest(self, cluster):
        with pytest.raises(BackendError, match="did you mean 'Pod'"):
            cluster.get("Pods", "a")


class TestErrors:
    def test_each_answer_has_its_error_with_what_where_and_the_servers_words(self, wire, cluster):
        for code, kind in ((403, ForbiddenError), (404, NotFoundError), (409, ConflictError), (410, GoneError)):
            wire.on("GET", f"{PODS}/a", fails(code, "because of this", "Why"))
            with pytest.raises(
                kind, match=r"cannot read Pod 'a' in namespace 'default' of .*because of this"
            ) as caught:
                cluster.get("Pod", "a")
            assert (caught.value.status, caught.value.reason) == (code, "Why")

    @pytest.mark.fault(14)
    def test_a_forbidden_verb_names_file_context_verb_and_namespace(self, wire, cluster, tmp_path):
        said = 'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'
        wire.on("GET", PODS, fails(403, said, "Forbidden"))
        with pytest.raises(ForbiddenError) as caught:
            cluster.list("Pod")
        text = str(caught.value)
        for part in ("list pods", "namespace 'default'", "context 'wire'", str(tmp_path / "kubeconfig"), "jane"):
            assert part in text
        assert "doctor" in caught.value.hint

    def test_the_details_are_kept(self, wire, cluster):
        causes = [{"reason": "FieldManagerConflict", "message": 'conflict with "x"', "field": ".spec.replicas"}]
        wire.on("PATCH", "*", lambda _, answer: answer.status(409, "conflict", "Conflict", details={"causes": causes}))
        with pytest.raises(ConflictError) as caught:
            cluster.apply(POD)
        assert caught.value.causes == causes

    def test_a_page_of_a_proxy_instead_of_an_object_is_an_error_too(self, wire, cluster):
        wire.on("GET", f"{PODS}/a", lambda _, answer: answer.raw(b"<html>sign in</html>"))
        with pytest.raises(ApiError, match="no Kubernetes object"):
            cluster.get("Pod", "a")
        wire.on("GET", f"{PODS}/b", lambda _, answer: answer.raw(b"<html>no</html>", 502))
        with pytest.raises(ApiError, match="HTTP 502"):
            cluster.get("Pod", "b")

    def test_no_secret_is_in_any_repr_or_error(self, wire, cluster):
        wire.on("GET", f"{PODS}/a", fails(403, "no"))
        with pytest.raises(ForbiddenError) as caught:
            cluster.get("Pod", "a")
        shown = [repr(cluster), repr(cluster.access), repr(caught.value), str(caught.value)]
        assert not any("t0ken" in text for text in shown)


class TestRetries:
    @pytest.mark.fault(8)
    def test_reads_go_on_when_the_server_is_away_for_a_while(self, wire, cluster):
        wire.on("GET", f"{PODS}/a", fails(503), reset, fails(500), fails(502), gives(POD))
        assert cluster.get("Pod", "a") == POD
        assert len(wire.requests) == 5

    @pytest.mark.fault(8)
    def test_a_server_that_stays_away_is_asked_a_few_times_only(self, wire, connected):
        cluster = connected(wire, Patience(total=1.0, first=0.1, longest=0.3))
        wire.on("GET", f"{PODS}/a", fails(503, "starting"))
        with pytest.raises(ApiError, match="starting"):
            cluster.get("Pod", "a")
        assert 3 <= len(wire.requests) <= 15

    def test_a_500_is_given_up_soon_for_it_is_often_an_admission_hook(self, wire, cluster):
        wire.on("PATCH", "*", fails(500, "failed calling webhook"))
        with pytest.raises(ApiError, match="failed calling webhook"):
            cluster.apply(POD)
        assert len(wire.requests) == QUICK.internal

    def test_apply_and_patch_and_delete_are_tried_again(self, wire, cluster):
        for method in ("PATCH", "DELETE"):
            wire.on(method, "*", reset, fails(503), gives(POD))
        cluster.apply(POD)
        cluster.patch("Pod", "a", {})
        cluster.delete("Pod", "a")
        assert len(wire.seen("PATCH")) == 4
        assert len(wire.seen("DELETE")) == 3

    def test_a_delete_whose_answer_was_lost_is_done(self, wire, cluster):
        wire.on("DELETE", "*", reset, fails(404, reason="NotFound"))
        cluster.delete("Pod", "a")

    def test_a_create_is_sent_once_and_says_that_it_may_have_been_done(self, wire, cluster):
        wire.on("POST", PODS, reset)
        with pytest.raises(UnreachableError, match="may have been done all the same"):
            cluster.create(POD)
        wire.on("POST", PODS, fails(503, "no"))
        with pytest.raises(ApiError, match="no"):
            cluster.create(POD)
        assert len(wire.requests) == 2

    def test_a_create_is_tried_again_where_nothing_can_have_been_done(self, wire, connected):
        port = wire.port
        cluster = connected(wire, Patience(total=20, first=0.02, longest=0.1))
        wire.close()
        with Wire() as other:  # a server of another port, for the name of the route only
            assert other.port != port
        started = threading.Timer(0.4, lambda: again.append(Wire(port=port)))
        again = []
        started.start()
        try:
            with pytest.raises(NotFoundError):  # it answers now, and has no such route
                cluster.create(POD)
        finally:
            started.join()
            again[0].close()
        assert len(again[0].seen("POST")) == 1

    @pytest.mark.fault(10)
    def test_retry_after_is_honoured_and_there_is_no_hot_loop(self, wire, connected):
        cluster = connected(wire, Patience(total=20, first=0.01, longest=0.1))
        wire.on("GET", f"{PODS}/a", fails(429, Retry_After=1), gives(POD))
        wire.on("POST", PODS, fails(429, Retry_After=1), gives(POD))
        cluster.get("Pod", "a")
        cluster.create(POD)
        at = [request.at for request in wire.requests]
        assert at[1] - at[0] >= 1
        assert at[3] - at[2] >= 1

    @pytest.mark.fault(10)
    def test_long_throttling_is_said_and_ends_in_its_own_error(self, wire, cluster):
        told = []
        cluster.on_wait = told.append
        wire.on("GET", f"{PODS}/a", fails(429, "too many", "TooManyRequests"))
        with pytest.raises(ThrottledError, match="too many"):
            cluster.get("Pod", "a")
        assert told
        assert all("is throttling requests" in text for text in told)
        assert len(wire.requests) < 60

    @pytest.mark.fault(10)
    def test_a_retry_after_beyond_all_patience_is_not_waited_for(self, wire, cluster):
        wire.on("GET", f"{PODS}/a", fails(429, Retry_After=3600))
        with pytest.raises(ThrottledError) as caught:
            cluster.get("Pod", "a")
        assert caught.value.retry_after == 3600
        assert len(wire.requests) == 1

    def test_close_ends_the_waiting(self, wire, connected):
        cluster = connected(wire, Patience(total=600, first=300, longest=300))
        wire.on("GET", f"{PODS}/a", fails(503))
        threading.Thread(target=lambda: (wire.await_seen("GET"), cluster.close())).start()
        with pytest.raises(UnreachableError, match="was closed"):
            cluster.get("Pod", "a")


class TestUnreachable:
    def test_a_refused_connection_names_server_and_way_out(self, wire, cluster):
        wire.close()
        with pytest.raises(UnreachableError, match=r"http://127.0.0.1.*connection refused") as caught:
            cluster.get("Pod", "a")
        assert "VPN" in caught.value.hint

    @pytest.mark.fault(6)
    def test_a_server_that_takes_the_request_and_never_answers_is_noticed(self, wire, cluster, monkeypatch):
        from jupyter_gpudeploy.backends.kubernetes.api import objects

        real = objects.Call
        monkeypatch.setattr(objects, "Call", lambda *given, **named: real(*given, **named)._replace(read_seconds=0.2))
        wire.on("GET", f"{PODS}/a", silence)
        with pytest.raises(UnreachableError, match=r"no answer in 0.2 s"):
            cluster.get("Pod", "a")
        assert len(wire.requests) == 1


class TestWatch:
    def watch(self, cluster, **settings):
        return cluster.watch("Pod", resource_version="5", **settings)

    def test_events_come_as_they_are_bookmarks_too_until_the_server_ends_it(self, wire, cluster):
        mark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
        wire.on("WATCH", PODS, lines(added("a", "7"), mark))
        assert list(self.watch(cluster, labels="x=y")) == [added("a", "7"), mark]
        assert wire.requests[0].query == {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "5", "timeoutSeconds": "240",
            "labelSelector": "x=y",
        }  # fmt: skip

    @pytest.mark.fault(9)
    def test_410_is_gone_as_an_answer_and_as_an_event(self, wire, cluster):
        status = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
        wire.on("WATCH", PODS, fails(410, "too old", "Expired"), lines(added("a", "7"), status))
        with pytest.raises(GoneError, match="too old"):
            self.watch(cluster)
        watch = self.watch(cluster)
        assert next(watch) == added("a", "7")
        with pytest.raises(GoneError, match="too old"):
            next(watch)

    def test_any_other_error_event_is_an_api_error(self, wire, cluster):
        wire.on("WATCH", PODS, lines({"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}))
        with pytest.raises(ApiError, match="etcd is away"):
            next(self.watch(cluster))

    @pytest.mark.fault(11)
    def test_blank_lines_are_nothing_and_an_event_may_be_cut_anywhere_into_chunks(self, wire, cluster):
        import json

        text = json.dumps(added("é", "7"), ensure_ascii=False).encode() + b"\n"
        wire.on("WATCH", PODS, lines(b"\n", *(text[at : at + 1] for at in range(len(text))), b"\n\r\n", text))
        assert list(self.watch(cluster)) == [added("é", "7")] * 2

    @pytest.mark.fault(11)
    @pytest.mark.parametrize("end", [CUT, RESET])
    def test_a_connection_that_breaks_in_the_middle_is_said_and_whole_events_count(self, wire, cluster, end):
        def handler(_, answer):
            answer.begin()
            answer.chunk(added("a", "7"))
            answer.bytes(b'40\r\n{"type": "ADDED", "obj')
            taken.wait(10)  # a reset overtakes what is not read yet
            answer.finish(end)

        taken = threading.Event()
        wire.on("WATCH", PODS, handler)
        watch = self.watch(cluster)
        assert next(watch) == added("a", "7")
        taken.set()
        with pytest.raises(UnreachableError, match="broke off"):
            next(watch)

    @pytest.mark.fault(11)
    def test_half_a_line_with_a_clean_end_is_broken_not_none(self, wire, cluster):
        wire.on("WATCH", PODS, lines(added("a", "7"), b'{"type": "ADDED", "obj'))
        watch = self.watch(cluster)
        assert next(watch) == added("a", "7")
        with pytest.raises(UnreachableError, match="line of the watch is broken"):
            next(watch)

    @pytest.mark.fault(6)
    @pytest.mark.fault(12)
    def test_silence_for_longer_than_agreed_is_a_broken_connection(self, wire, cluster):
        wire.on("WATCH", PODS, lines(added("a", "7"), then=HOLD))
        watch = self.watch(cluster, read_seconds=0.2)
        assert next(watch) == added("a", "7")
        with pytest.raises(UnreachableError, match=r"silent for 0.2 s"):
            next(watch)

    def test_close_from_another_thread_ends_a_watch_that_waits(self, wire, cluster):
        wire.on("WATCH", PODS, lines(added("a", "7"), then=HOLD))
        watch = self.watch(cluster)
        assert next(watch) == added("a", "7")
        threading.Timer(0.1, watch.close).start()
        assert list(watch) == []


class TestLogs:
    def open(self, cluster, **settings):
        return cluster.open_log("a", "main", **{"follow": True, **settings})

    def read(self, stream):
        taken = []
        while data := stream.read():
            taken.append(data)
        return b"".join(taken)

    def test_bytes_come_unchanged_whatever_the_chunks(self, wire, cluster):
        pieces = [b"one\ntw", b"o\n\xc3", b"\xa9\r50%\r100%", b"x" * 300_000, b"\nlast without end"]
        wire.on("GET", f"{PODS}/a/log", lines(*pieces))
        stream = self.open(cluster, since_time="2026-01-01T00:00:00Z", previous=True, tail_lines=5)
        assert self.read(stream) == b"".join(pieces)
        assert stream.read() == b""
        assert wire.requests[0].query == {
            "container": "main", "follow": "true", "previous": "true", "timestamps": "true",
            "sinceTime": "2026-01-01T00:00:00Z", "tailLines": "5",
        }  # fmt: skip

    def test_a_short_log_of_known_length_is_read_too(self, wire, cluster):
        wire.on("GET", f"{PODS}/a/log", lambda _, answer: answer.raw(b"short\n"))
        assert self.read(self.open(cluster, follow=False)) == b"short\n"

    def test_a_known_length_that_does_not_come_is_broken(self, wire, cluster):
        def handler(_, answer):
            answer._head(200, {"Content-Length": "100"})
            answer.bytes(b"half")
            answer.cut()

        wire.on("GET", f"{PODS}/a/log", handler)
        stream = self.open(cluster)
        assert stream.read() == b"half"
        with pytest.raises(UnreachableError, match="ended in the middle"):
            stream.read()

    def test_many_chunks_are_taken_by_one_read_of_the_socket(self, wire, cluster):
        wire.on("GET", f"{PODS}/a/log", lines(*(b"%d\n" % number for number in range(20_000))))
        assert self.read(self.open(cluster)) == b"".join(b"%d\n" % number for number in range(20_000))

    def test_what_is_no_chunk_is_broken(self, wire, cluster):
        def handler(_, answer):
            answer.begin()
            answer.bytes(b"hello\r\nworld\r\n")
            answer.cut()

        wire.on("GET", f"{PODS}/a/log", handler)
        with pytest.raises(UnreachableError, match="broke off"):
            self.open(cluster).read()

    @pytest.mark.fault(6)
    def test_silence_raises_and_close_ends_a_reader_that_waits(self, wire, cluster):
        wire.on("GET", f"{PODS}/a/log", lines(b"one\n", then=HOLD))
        stream = self.open(cluster, read_seconds=0.2)
        assert stream.read() == b"one\n"
        with pytest.raises(UnreachableError, match="silent"):
            stream.read()
        stream = self.open(cluster)
        assert stream.read() == b"one\n"
        threading.Timer(0.1, stream.close).start()
        assert stream.read() == b""

    def test_polling_never_waits(self, wire, cluster):
        go = threading.Event()

        def handler(_, answer):
            answer.begin()
            answer.chunk(b"one\n")
            go.wait(10)
            answer.chunk(b"two\n")
            answer.end()

        wire.on("GET", f"{PODS}/a/log", handler)
        stream = self.open(cluster)
        assert self.polled(stream) == b"one\n"
        assert stream.poll() is None
        go.set()
        assert self.polled(stream) == b"two\n"
        assert self.polled(stream) == b""

    def polled(self, stream):
        deadline = time.monotonic() + 10
        while (data := stream.poll()) is None:
            assert time.monotonic() < deadline
        return data

    def test_a_container_that_waits_is_an_error_with_the_servers_words(self, wire, cluster):
        said = 'container "main" in pod "a" is waiting to start: ContainerCreating'
        wire.on("GET", f"{PODS}/a/log", fails(400, said, "BadRequest"))
        with pytest.raises(ApiError, match="waiting to start"):
            self.open(cluster)


class TestEncrypted:
    def test_logs_watches_and_polls_work_over_tls(self, secure, connected):
        cluster = connected(secure)
        secure.on("GET", f"{PODS}/a/log", lines(*(b"%d\n" % number for number in range(5000))))
        secure.on("WATCH", PODS, lines(added("a", "7"), then=HOLD))
        stream = cluster.open_log("a", "main", follow=True)
        taken = b""
        deadline = time.monotonic() + 10
        while (data := stream.poll()) != b"":
            assert time.monotonic() < deadline
            taken += data or b""
        assert taken == b"".join(b"%d\n" % number for number in range(5000))
        watch = cluster.watch("Pod", resource_version="5")
        assert next(watch) == added("a", "7")
        threading.Timer(0.1, watch.close).start()
        assert list(watch) == []

    def test_a_connection_that_is_cut_on_the_way_is_noticed(self, secure, connected):
        with Tunnel(("127.0.0.1", secure.port)) as tunnel:
            cluster = connected(secure, cluster={"server": f"https://127.0.0.1:{tunnel.port}"})
            secure.on("WATCH", PODS, lines(added("a", "7"), then=HOLD))
            watch = cluster.watch("Pod", resource_version="5")
            assert next(watch) == added("a", "7")
            tunnel.cut()
            with pytest.raises(UnreachableError):
                next(watch)


GROUPS = {"groups": [{"versions": [{"groupVersion": "batch/v1"}, {"groupVersion": "kueue.x-k8s.io/v1beta1"}]}]}


class TestQuestions:
    def test_a_kind_is_there_when_its_group_serves_it(self, wire, cluster):
        wire.on("GET", "/apis", gives(GROUPS))
        wire.on("GET", "/apis/batch/v1", gives({"resources": [{"name": "jobs"}]}))
        wire.on("GET", "/apis/kueue.x-k8s.io/v1beta1", gives({"resources": [{"name": "localqueues"}]}))
        assert cluster.groups() == {"v1", "batch/v1", "kueue.x-k8s.io/v1beta1"}
        assert [cluster.has(kind) for kind in ("Job", "CronJob", "Route", "LocalQueue")] == [True, False, False, True]
        assert cluster.kind("LocalQueue").api_version == "kueue.x-k8s.io/v1beta1"
        assert len(wire.seen("GET", "/apis")) == 1
        assert not cluster.is_openshift

    def test_rules_are_asked_for_once_and_single_questions_where_the_answer_is_not_whole(self, wire, cluster):
        rules = [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]},
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*/scale"]},
        ]
        base = "/apis/authorization.k8s.io/v1"
        wire.on(
            "POST", f"{base}/selfsubjectrulesreviews", gives({"status": {"resourceRules": rules, "incomplete": True}})
        )
        wire.on(
            "POST",
            f"{base}/selfsubjectaccessreviews",
            lambda request, answer: answer.json(
                {"status": {"allowed": request.json()["spec"]["resourceAttributes"]["resource"] == "jobs"}}
            ),
        )
        assert cluster.can_i("list", "pods") is True
        assert cluster.can_i("patch", "deployments", "apps", "scale") is True
        assert len(wire.requests) == 1
        assert cluster.can_i("create", "jobs", "batch") is True
        assert cluster.can_i("get", "secrets") is False
        assert cluster.can_i("get", "secrets") is False
        assert len(wire.requests) == 3

    def test_a_server_that_does_not_tell_gives_none(self, wire, cluster):
        wire.on("POST", "*", fails(403))
        assert cluster.can_i("list", "pods") is None

    def test_the_user_is_who_the_server_says_and_else_who_the_file_says(self, wire, cluster, connected):
        assert cluster.user == "u"
        wire.on("POST", "*/selfsubjectreviews", gives({"status": {"userInfo": {"username": "jane"}}}))
        assert connected(wire).user == "jane"

    def test_the_id_is_safe_and_of_the_address_alone(self, wire, cluster):
        assert cluster.id.startswith("x-127-0-0-1-")


def test_an_unauthorized_request_is_tried_no_second_time_without_new_credentials(wire, cluster):
    wire.on("GET", f"{PODS}/a", fails(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(CredentialsError, match=r"does not accept the token of user 'u' \(401\)") as caught:
        cluster.get("Pod", "a")
    assert len(wire.requests) == 1
    assert "sign in" in caught.value.hint


def test_the_body_of_a_chunked_answer_is_the_same_however_it_is_cut():
    for seed in range(300):
        draw = random.Random(seed)
        pieces = [bytes([draw.randrange(256)]) * draw.choice([1, 2, 15, 16, 17, 300]) for _ in range(draw.randrange(8))]
        raw = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        chunks, taken, position = Chunks(), b"", 0
        while position < len(raw):
            assert not chunks.ended or position >= len(raw) - 2
            step = draw.choice([1, 2, 3, 7, 50, 1000])
            taken += chunks.feed(raw[position : position + step])
            position += step
        assert (taken, chunks.ended) == (b"".join(pieces), True)
