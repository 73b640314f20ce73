"""From a name to a cluster: what is found, what is refused, and how it is reached."""

import json

import pytest
from wire import Tunnel, gives

from jupyter_gpudeploy.backends.kubernetes.api import connect as module
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect, known_clusters
from jupyter_gpudeploy.backends.kubernetes.api.errors import CredentialsError, UnreachableError
from jupyter_gpudeploy.backends.kubernetes.api.proxies import proxy_for
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience
from jupyter_gpudeploy.errors import BackendError

pytestmark = pytest.mark.usefixtures("alone")
PODS = "/api/v1/namespaces/{}/pods"
EMPTY = {"items": [], "metadata": {}}
QUICK = Patience(total=0.3, first=0.02, longest=0.1)


def kubeconfig(file, *contexts, current=None, server="https://127.0.0.1:1", users=None, **cluster):
    body = {
        "contexts": [{"name": c, "context": {"cluster": c, "user": "u", "namespace": f"{c}-ns"}} for c in contexts],
        "clusters": [{"name": c, "cluster": {"server": server.format(c), **cluster}} for c in contexts],
        "users": users or [{"name": "u", "user": {"token": f"{file.name}-t0ken"}}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**body, **({"current-context": current} if current else {})}))
    return file


@pytest.fixture
def use(monkeypatch):
    return lambda *files: monkeypatch.setenv("KUBECONFIG", ":".join(map(str, files)))


class TestContexts:
    def test_the_current_context_is_used_when_nothing_is_named(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one", "two", current="two"))
        cluster = connect()
        assert (cluster.context, cluster.namespace, cluster.access.user) == ("two", "two-ns", "u")
        assert connect("one").context == "one"
        assert connect("one", "other").namespace == "other"

    def test_the_usual_file_is_found(self, tmp_path):
        kubeconfig(tmp_path / "home" / ".kube" / "config", "one", current="one")
        assert connect().context == "one"

    @pytest.mark.fault(14)
    def test_an_unknown_context_is_refused_with_the_nearest_and_never_replaced(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "barcelona", "madrid", current="madrid"))
        with pytest.raises(BackendError, match=r"no cluster is called 'barclona', .*/k") as caught:
            connect("barclona")
        assert caught.value.hint == "did you mean 'barcelona'? known: barcelona, madrid"

    @pytest.mark.fault(14)
    def test_a_current_context_that_is_not_there_is_refused(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one", current="gone"))
        with pytest.raises(BackendError, match="there is no context 'gone'"):
            connect()

    @pytest.mark.fault(14)
    def test_without_a_current_context_one_must_be_named(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one", "two"))
        with pytest.raises(BackendError, match="has no current context") as caught:
            connect()
        assert "known: one, two" in caught.value.hint

    @pytest.mark.fault(14)
    def test_a_missing_kubeconfig_says_where_was_looked(self, use, tmp_path):
        with pytest.raises(BackendError, match=rf"no kubeconfig: {tmp_path}/home/.kube/config is not there") as caught:
            connect()
        assert "oc login" in caught.value.hint
        use(tmp_path / "nowhere")
        with pytest.raises(BackendError, match="nowhere"):
            connect("one")

    def test_files_are_merged_the_first_wins_and_paths_are_relative_to_their_file(self, use, tmp_path):
        first = kubeconfig(tmp_path / "a" / "first", "one", current="one", server="https://first:1")
        second = kubeconfig(
            tmp_path / "b" / "second", "one", "two", current="two", server="https://second:1",
            **{"certificate-authority": "ca.crt"},
        )  # fmt: skip
        (tmp_path / "b" / "ca.crt").write_text("PEM")
        use(first, tmp_path / "missing", second)
        assert connect().server == "https://first:1"
        other = connect("two")
        assert (other.server, other.access.ca) == ("https://second:1", "PEM")
        assert other.access.credentials.headers() == {"Authorization": "Bearer first-t0ken"}
        assert known_clusters() == ["one", "two"]

    def test_yaml_with_values_that_look_like_numbers_is_text(self, use, tmp_path):
        file = tmp_path / "k"
        file.write_text(
            "current-context: 007\n"
            "contexts: [{name: 007, context: {cluster: 1e3, user: no, namespace: 12}}]\n"
            "clusters: [{name: 1e3, cluster: {server: https://x, insecure-skip-tls-verify: false}}]\n"
            "users: [{name: no, user: {token: 0123456}}]\n"
        )
        use(file)
        cluster = connect()
        assert (cluster.context, cluster.namespace, cluster.warnings) == ("007", "12", ())
        assert cluster.access.credentials.headers() == {"Authorization": "Bearer 0123456"}

    def test_what_is_no_kubeconfig_is_refused_without_repeating_a_line(self, use, tmp_path):
        for text in ("- a\n", "users:\n- token: s3cret\n  x: [\n", "\0"):
            (tmp_path / "k").write_text(text)
            use(tmp_path / "k")
            with pytest.raises(BackendError, match="is no kubeconfig") as caught:
                connect()
            assert "s3cret" not in str(caught.value)
        (tmp_path / "k").write_bytes(b"\xff\xfe")
        with pytest.raises(BackendError, match="is no kubeconfig"):
            connect()

    def test_a_context_whose_parts_are_missing_names_them(self, use, tmp_path):
        file = kubeconfig(tmp_path / "k", "one", current="one")
        body = json.loads(file.read_text())
        use(file)
        for section, said in (("users", "names the user 'u'"), ("clusters", "names the cluster 'one'")):
            file.write_text(json.dumps({**body, section: []}))
            with pytest.raises(BackendError, match=said):
                connect()
        body["clusters"][0]["cluster"] = {"server": "not-a-url"}
        file.write_text(json.dumps(body))
        with pytest.raises(BackendError, match="has no server"):
            connect()


class TestProfiles:
    def settings(self, tmp_path, text):
        (tmp_path / "config.yaml").write_text(text)

    def test_a_profile_names_context_namespace_and_kubeconfig(self, tmp_path):
        kubeconfig(tmp_path / "elsewhere", "bcn-prod")
        self.settings(
            tmp_path,
            f"clusters: {{barcelona: {{context: bcn-prod, kubeconfig: {tmp_path}/elsewhere, namespace: ml, image: 'i:1'}}}}",
        )
        cluster = connect("barcelona")
        assert (cluster.context, cluster.namespace, cluster.settings.image) == ("bcn-prod", "ml", "i:1")
        assert connect("barcelona", "mine").namespace == "mine"

    def test_the_default_cluster_wins_over_the_current_context(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one", "two", current="one"))
        self.settings(tmp_path, "default_cluster: two")
        assert connect().context == "two"
        assert connect().settings is None

    @pytest.mark.fault(14)
    def test_a_profile_whose_context_is_not_there_is_not_replaced(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one", current="one"))
        self.settings(tmp_path, "clusters: {barcelona: {}}\ndefault_cluster: barcelona")
        with pytest.raises(BackendError, match=r"'barcelona' of the settings cannot be reached: there is no context"):
            connect()
        self.settings(tmp_path, f"clusters: {{b: {{context: one, kubeconfig: {tmp_path}/none}}}}")
        with pytest.raises(BackendError, match=r"cannot be reached: there is no .*/none"):
            connect("b")

    def test_profiles_come_first_among_the_names(self, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one"))
        self.settings(tmp_path, "clusters: {barcelona: {context: one}}")
        assert known_clusters() == ["barcelona", "one"]


class TestInside:
    @pytest.fixture
    def pod(self, tmp_path, monkeypatch, certificate):
        folder = tmp_path / "serviceaccount"
        folder.mkdir()
        (folder / "token").write_text("pod-t0ken")
        (folder / "namespace").write_text("team")
        (folder / "ca.crt").write_text(certificate.ca.read_text())
        monkeypatch.setattr(module, "SERVICE_ACCOUNT", folder)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        return folder

    def test_in_a_pod_without_kubeconfig_its_service_account_asks(self, pod, secure, monkeypatch):
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(secure.port))
        secure.on("GET", PODS.format("team"), gives(EMPTY))
        with connect() as cluster:
            assert cluster.list("Pod").items == []
        assert secure.requests[0].headers["Authorization"] == "Bearer pod-t0ken"
        assert (cluster.context, cluster.namespace) == ("", "team")

    def test_a_kubeconfig_wins_and_in_cluster_can_be_named(self, pod, use, tmp_path):
        use(kubeconfig(tmp_path / "k", "one", current="one"))
        assert connect().context == "one"
        assert connect("in-cluster").server == "https://127.0.0.1:443"

    @pytest.mark.fault(14)
    def test_outside_a_pod_in_cluster_is_refused(self):
        with pytest.raises(BackendError, match="works only in a pod"):
            connect("in-cluster")

    def test_an_address_of_ipv6_stands_in_brackets(self, pod, monkeypatch):
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
        assert connect().server == "https://[fd00::1]:443"


class TestTls:
    def list(self, cluster):
        with cluster:
            return cluster.list("Pod").items

    def test_a_ca_of_the_kubeconfig_is_trusted_and_no_other(self, secure, use, tmp_path):
        secure.on("GET", PODS.format("default"), gives(EMPTY))
        use(secure.kubeconfig(tmp_path / "k"))
        assert self.list(connect()) == []
        assert connect().warnings == ()
        body = json.loads((tmp_path / "k").read_text())
        del body["clusters"][0]["cluster"]["certificate-authority"]
        (tmp_path / "k").write_text(json.dumps(body))
        with pytest.raises(UnreachableError, match=r"its certificate is not trusted \(self-signed") as caught:
            self.list(connect(patience=QUICK))
        assert "certificate-authority" in caught.value.hint

    @pytest.mark.fault(14)
    def test_insecure_tls_and_plain_http_work_and_warn(self, secure, wire, use, tmp_path):
        for server in (secure, wire):
            server.on("GET", PODS.format("default"), gives(EMPTY))
        insecure = {"server": secure.url, "insecure-skip-tls-verify": True}
        use(secure.kubeconfig(tmp_path / "k", cluster=insecure))
        body = json.loads((tmp_path / "k").read_text())
        del body["clusters"][0]["cluster"]["certificate-authority"]
        (tmp_path / "k").write_text(json.dumps(body))
        assert self.list(connect()) == []
        assert "TLS is not verified" in connect().warnings[0]
        assert "insecure-skip-tls-verify" in connect().warnings[0]
        use(wire.kubeconfig(tmp_path / "k2"))
        assert self.list(connect()) == []
        assert "plain http" in connect().warnings[0]

    def test_another_name_can_be_expected_of_the_server(self, secure, use, tmp_path):
        secure.on("GET", PODS.format("default"), gives(EMPTY))
        use(secure.kubeconfig(tmp_path / "k", cluster={"tls-server-name": "localhost"}))
        assert self.list(connect()) == []
        use(secure.kubeconfig(tmp_path / "k", cluster={"tls-server-name": "other.example"}))
        with pytest.raises(UnreachableError, match=r"not trusted \(hostname mismatch"):
            self.list(connect(patience=QUICK))

    def test_a_ca_that_is_none_is_named(self, secure, use, tmp_path):
        (tmp_path / "bad").write_text("hello")
        use(secure.kubeconfig(tmp_path / "k", cluster={"certificate-authority": str(tmp_path / "bad")}))
        with pytest.raises(CredentialsError, match="is no PEM certificate"):
            self.list(connect(patience=QUICK))
        use(secure.kubeconfig(tmp_path / "k", cluster={"certificate-authority-data": "%%%"}))
        with pytest.raises(CredentialsError, match="is not base64"):
            connect()


class TestProxies:
    def test_proxy_url_leads_rest_and_websockets_through_the_proxy(self, secure, use, tmp_path):
        secure.on("GET", PODS.format("default"), gives(EMPTY))

        def handler(_, answer):
            socket = answer.upgrade("v5.channel.k8s.io")
            socket.send(3, b'{"status": "Success"}')
            socket.close()

        secure.on("SOCKET", PODS.format("default") + "/a/exec", handler)
        with Tunnel() as proxy:
            use(secure.kubeconfig(tmp_path / "k", cluster={"proxy-url": f"http://127.0.0.1:{proxy.port}"}))
            with connect() as cluster:
                assert cluster.list("Pod").items == []
                assert cluster.execute("a", "main", ["x"]).exit_code == 0
            assert set(proxy.targets) == {f"127.0.0.1:{secure.port}"}

    def test_a_proxy_that_is_not_there_is_named(self, secure, use, tmp_path):
        use(secure.kubeconfig(tmp_path / "k", cluster={"proxy-url": "http://127.0.0.1:1"}))
        with (
            connect(patience=QUICK) as cluster,
            pytest.raises(UnreachableError, match="the proxy fails: connection refused"),
        ):
            cluster.list("Pod")

    @pytest.mark.parametrize(
        ("server", "environment", "expected"),
        [
            ("https://api.example:6443", {}, ""),
            ("https://api.example:6443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
            ("https://api.example:6443", {"https_proxy": "p:1"}, "http://p:1"),
            ("https://api.example:6443", {"HTTP_PROXY": "http://p:1"}, ""),
            ("http://api.example:6443", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
            ("https://api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, ""),
            ("https://api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, ""),
            ("https://example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, "http://p:1"),
            ("https://myexample", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, "http://p:1"),
            ("https://api.example:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "api.example:443"}, "http://p:1"),
            ("https://api.example:6443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a, API.example:6443"}, ""),
            ("https://10.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
            ("https://11.96.0.1:443", {"HTTPS_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://p:1"),
            ("https://api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, ""),
            ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
            ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ],
    )
    def test_the_environment_is_read_as_kubectl_reads_it(self, server, environment, expected):
        assert proxy_for(server, environment) == expected
