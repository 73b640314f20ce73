"""Tokens, certificates and plugins: when they are used, when they are renewed, and what a person reads when they fail."""

import json
import stat
import sys
import threading
import time

import pytest
from wire import fails, gives

from jupyter_gpudeploy.backends.kubernetes.api import credentials, plugins
from jupyter_gpudeploy.backends.kubernetes.api.connect import connect
from jupyter_gpudeploy.backends.kubernetes.api.errors import CredentialsError
from jupyter_gpudeploy.backends.kubernetes.api.transport import Patience

POD_PATH = "/api/v1/namespaces/default/pods/a"
POD = {"kind": "Pod", "metadata": {"name": "a"}}
API = "client.authentication.k8s.io/v1"
QUICK = Patience(total=1.0, first=0.02, longest=0.1)


@pytest.fixture
def connected(alone, tmp_path, monkeypatch):
    opened = []

    def make(wire, user, **entries):
        file = wire.kubeconfig(tmp_path / "kube" / "config", user=user, **entries)
        monkeypatch.setenv("KUBECONFIG", str(file))
        opened.append(connect(patience=QUICK))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


def accepts(*tokens):
    """Answer those who show one of the tokens, and nobody else."""

    def handler(request, answer):
        if request.headers.get("Authorization") in {f"Bearer {token}" for token in tokens}:
            answer.json(POD)
        else:
            answer.status(401, "Unauthorized", "Unauthorized")

    return handler


class Plugin:
    """A credential plugin: a program that writes down each of its starts and does what `body` says."""

    def __init__(self, folder):
        self.file = folder / "plugin"
        self.starts = folder / "starts"
        self.starts.write_text("")

    def does(self, body):
        lines = [
            f"#!{sys.executable}",
            "import json, os, sys, time",
            f"open({str(self.starts)!r}, 'a').write(json.dumps(dict(info=os.environ['KUBERNETES_EXEC_INFO'], words=sys.argv[1:], extra=os.environ.get('EXTRA'))) + chr(10))",
            f"def give(**status): print(json.dumps(dict(apiVersion={API!r}, kind='ExecCredential', status=status)))",
            body,
        ]
        self.file.write_text("\n".join(lines))
        self.file.chmod(self.file.stat().st_mode | stat.S_IXUSR)
        return self

    def entry(self, **more):
        return {"exec": {"apiVersion": API, "command": str(self.file), "args": ["get", "token"], **more}}

    def runs(self):
        return [json.loads(line) for line in self.starts.read_text().splitlines()]


@pytest.fixture
def plugin(tmp_path):
    return Plugin(tmp_path)


@pytest.fixture
def hurried(monkeypatch):
    """The minute of a plugin is over at once."""
    monkeypatch.setattr(plugins, "PAUSE_SECONDS", 0.0)


class TestFixed:
    def test_a_password_is_sent_as_basic_and_one_may_act_as_another(self, wire, connected):
        wire.on("GET", POD_PATH, gives(POD))
        connected(wire, {"username": "jane", "password": "pässword", "as": "robot"}).get("Pod", "a")
        headers = wire.requests[0].headers
        assert headers["Authorization"] == "Basic amFuZTpww6Rzc3dvcmQ="
        assert headers["Impersonate-User"] == "robot"

    def test_a_client_certificate_is_shown_and_no_key_stays_in_a_file(
        self, secure, certificate, connected, tmp_path, monkeypatch
    ):
        import base64
        import tempfile

        (tmp_path / "own").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own"))
        shown = []
        secure.on(
            "GET",
            POD_PATH,
            lambda _, answer: (shown.append(answer._handler.connection.getpeercert()), answer.json(POD)),
        )
        data = {
            "client-certificate-data": base64.b64encode(certificate.ca.read_bytes()).decode(),
            "client-key": str(certificate.key),
        }
        connected(secure, data).get("Pod", "a")
        assert shown[0]["subject"][0] == (("commonName", "wire"),)
        assert list((tmp_path / "own").iterdir()) == []

    def test_no_credentials_at_all_are_named_when_they_are_refused(self, wire, connected):
        wire.on("GET", POD_PATH, accepts("x"))
        with pytest.raises(CredentialsError, match="no credentials: user 'u' has none"):
            connected(wire, {}).get("Pod", "a")

    def test_a_new_token_in_the_file_is_taken_after_a_401(self, wire, connected):
        wire.on("GET", POD_PATH, accepts("new"))
        cluster = connected(wire, {"token": "old"})
        with pytest.raises(CredentialsError, match="the token of user 'u'"):
            cluster.get("Pod", "a")
        connected(wire, {"token": "new"})  # as `oc login` in a terminal does
        assert cluster.get("Pod", "a") == POD
        assert [request.headers["Authorization"] for request in wire.requests] == [
            "Bearer old",
            "Bearer old",
            "Bearer new",
        ]


class TestTokenFile:
    def test_it_is_read_again_after_a_401_and_after_a_while(self, wire, connected, tmp_path, monkeypatch):
        file = tmp_path / "kube" / "token"
        file.parent.mkdir()
        file.write_text("one\n")
        wire.on("GET", POD_PATH, accepts("one"), accepts("two"), accepts("two"), accepts("three"))
        cluster = connected(wire, {"tokenFile": "token"})
        cluster.get("Pod", "a")
        file.write_text("two")
        cluster.get("Pod", "a")
        file.write_text("three")
        monkeypatch.setattr(credentials, "_FILE_SECONDS", 0.0)
        cluster.get("Pod", "a")
        assert len(wire.requests) == 4

    def test_a_file_that_is_missing_or_empty_is_named(self, wire, connected, tmp_path):
        cluster = connected(wire, {"tokenFile": str(tmp_path / "token")})
        with pytest.raises(CredentialsError, match=rf"cannot read the token {tmp_path}/token: No such file"):
            cluster.get("Pod", "a")
        (tmp_path / "token").write_text("\n")
        with pytest.raises(CredentialsError, match="is empty"):
            cluster.get("Pod", "a")


class TestPlugin:
    @pytest.mark.fault(13)
    def test_it_runs_once_without_stdin_and_is_told_what_it_is_for(self, wire, connected, plugin):
        plugin.does("assert sys.stdin.read() == ''; give(token='abc')")
        wire.on("GET", POD_PATH, accepts("abc"))
        cluster = connected(wire, plugin.entry(env=[{"name": "EXTRA", "value": "yes"}], provideClusterInfo=True))
        assert [cluster.get("Pod", "a") for _ in range(3)] == [POD] * 3
        (run,) = plugin.runs()
        info = json.loads(run["info"])
        assert (run["words"], run["extra"]) == (["get", "token"], "yes")
        assert (info["apiVersion"], info["spec"]["interactive"]) == (API, False)
        assert info["spec"]["cluster"]["server"] == wire.url

    @pytest.mark.fault(13)
    def test_a_401_runs_it_again_and_the_request_is_tried_once_more(self, wire, connected, plugin, hurried):
        plugin.does(f"give(token='t%d' % len(open({str(plugin.starts)!r}).readlines()))")
        wire.on("GET", POD_PATH, accepts("t1"), accepts("t2"))
        cluster = connected(wire, plugin.entry())
        cluster.get("Pod", "a")
        cluster.get("Pod", "a")
        assert len(plugin.runs()) == 2
        assert len(wire.requests) == 3

    @pytest.mark.fault(13)
    def test_it_never_runs_twice_in_a_minute_whoever_asks(self, wire, connected, plugin):
        plugin.does("give(token='old', expirationTimestamp='2020-01-01T00:00:00Z')")
        wire.on("GET", POD_PATH, accepts("other"))
        for _ in range(3):
            cluster = connected(wire, plugin.entry())
            with pytest.raises(CredentialsError, match="does not accept the credential plugin"):
                cluster.get("Pod", "a")
        assert len(plugin.runs()) == 1

    @pytest.mark.fault(13)
    def test_many_threads_start_it_once(self, wire, connected, plugin):
        plugin.does("time.sleep(0.3); give(token='abc')")
        wire.on("GET", POD_PATH, accepts("abc"))
        cluster = connected(wire, plugin.entry())
        threads = [threading.Thread(target=cluster.get, args=("Pod", "a")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(plugin.runs()) == 1
        assert len(wire.requests) == 8

    @pytest.mark.fault(13)
    def test_what_it_says_is_in_the_error_with_the_way_out_and_it_recovers(self, wire, connected, plugin, monkeypatch):
        token = "eyJhbGciOiJIUzI1NiIs.eyJzdWIiOiIxMjM0NTY3.SflKxwRJSMeKKF2QT4"
        plugin.does(f"sys.exit('The SSO session has expired: run aws sso login. {token}')")
        wire.on("GET", POD_PATH, accepts("abc"))
        cluster = connected(wire, plugin.entry())
        with pytest.raises(CredentialsError, match="failed with exit code 1") as caught:
            cluster.get("Pod", "a")
        assert "The SSO session has expired: run aws sso login" in str(caught.value)
        assert token not in str(caught.value)
        assert f"run `{plugin.file} get token` in a terminal" in caught.value.hint
        with pytest.raises(CredentialsError, match="SSO session") as again:
            cluster.get("Pod", "a")
        assert "asked again in" in again.value.hint
        assert len(plugin.runs()) == 1
        plugin.does("give(token='abc')")
        inner = cluster.access.credentials._current
        monkeypatch.setattr(inner, "pause", 0.0)
        assert cluster.get("Pod", "a") == POD

    @pytest.mark.fault(13)
    def test_an_expired_token_is_renewed_before_it_is_refused(self, wire, connected, plugin, monkeypatch):
        soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 1))
        plugin.does(f"give(token='abc', expirationTimestamp='{soon}')")
        wire.on("GET", POD_PATH, accepts("abc"))
        cluster = connected(wire, plugin.entry())
        cluster.get("Pod", "a")
        monkeypatch.setattr(cluster.access.credentials._current, "pause", 0.0)
        cluster.get("Pod", "a")
        assert len(plugin.runs()) == 2
        assert [request.headers["Authorization"] for request in wire.requests] == ["Bearer abc"] * 2

    @pytest.mark.fault(13)
    def test_a_certificate_of_a_plugin_is_shown_and_renewed(self, secure, certificate, connected, plugin, hurried):
        pem = f"clientCertificateData=open({str(certificate.ca)!r}).read(), clientKeyData=open({str(certificate.key)!r}).read()"
        plugin.does(f"give({pem}, token='t%d' % len(open({str(plugin.starts)!r}).readlines()))")
        shown = []

        def handler(request, answer):
            shown.append(answer._handler.connection.getpeercert())
            accepts("t2")(request, answer)

        secure.on("GET", POD_PATH, handler)
        connected(secure, plugin.entry()).get("Pod", "a")
        assert len(shown) == 2
        assert all(one["subject"][0] == (("commonName", "wire"),) for one in shown)
        assert secure.connections == 2

    def test_one_that_does_not_finish_is_ended_with_all_that_it_started(self, wire, connected, plugin, monkeypatch):
        plugin.does("print('open https://device and enter ABCD', file=sys.stderr, flush=True); time.sleep(600)")
        monkeypatch.setattr(plugins, "LIMIT_SECONDS", 1.0)
        with pytest.raises(CredentialsError, match="did not finish in 1 s") as caught:
            connected(wire, plugin.entry()).get("Pod", "a")
        assert "open https://device" in str(caught.value)

    def test_one_that_is_not_there_has_its_install_hint(self, wire, connected):
        entry = {"exec": {"apiVersion": API, "command": "no-such-plugin", "installHint": "brew install it"}}
        with pytest.raises(CredentialsError, match="cannot be started: No such file") as caught:
            connected(wire, entry).get("Pod", "a")
        assert caught.value.hint == "brew install it"

    def test_one_that_needs_a_terminal_is_not_started(self, wire, connected, plugin):
        plugin.does("give(token='abc')")
        with pytest.raises(CredentialsError, match="needs a terminal"):
            connected(wire, plugin.entry(interactiveMode="Always")).get("Pod", "a")
        assert plugin.runs() == []

    @pytest.mark.parametrize("body", ["print('hello')", "print('{}')", "give()", "give(token='')"])
    def test_an_answer_that_is_none_is_said(self, wire, connected, plugin, body):
        plugin.does(body)
        with pytest.raises(CredentialsError, match=r"something else than an ExecCredential|neither a token"):
            connected(wire, plugin.entry()).get("Pod", "a")

    def test_a_relative_command_is_beside_the_kubeconfig(self, wire, connected, tmp_path):
        (tmp_path / "kube").mkdir()
        Plugin(tmp_path / "kube").does("give(token='abc')")
        wire.on("GET", POD_PATH, accepts("abc"))
        assert connected(wire, {"exec": {"apiVersion": API, "command": "./plugin"}}).get("Pod", "a") == POD


class TestLegacyProvider:
    def test_an_oidc_token_is_taken_by_the_client_package(self, wire, connected):
        import base64

        parts = [{"alg": "none"}, {"sub": "jane", "exp": int(time.time()) + 86400}]
        encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        token = ".".join([*encoded, "sig"])
        provider = {"name": "oidc", "config": {"idp-issuer-url": "https://issuer", "client-id": "c", "id-token": token}}
        wire.on("GET", POD_PATH, accepts(token))
        assert connected(wire, {"auth-provider": provider}).get("Pod", "a") == POD

    def test_one_that_gives_no_token_is_named_without_its_values(self, wire, connected):
        provider = {"name": "oidc", "config": {"id-token": "secret", "refresh-token": "secret"}}
        with pytest.raises(CredentialsError, match="auth-provider 'oidc' gave no token") as caught:
            connected(wire, {"auth-provider": provider}).get("Pod", "a")
        assert "secret" not in str(caught.value)


def test_credentials_show_no_value_in_their_repr():
    everything = [
        credentials.Fixed("x", {"Authorization": "Bearer s3cret"}, credentials.Certificate(b"s3cret", b"s3cret")),
        credentials.Certificate(b"s3cret", b"s3cret"),
    ]
    assert not any("s3cret" in repr(one) or "s3cret" in str(one) for one in everything)


def test_after_a_refused_answer_other_threads_use_what_one_has_renewed(wire, connected, plugin, hurried):
    plugin.does(f"give(token='t%d' % len(open({str(plugin.starts)!r}).readlines()))")
    wire.on("GET", POD_PATH, fails(401))
    cluster = connected(wire, plugin.entry())
    cluster.access.credentials.headers()
    wire.on("GET", POD_PATH, accepts("t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"))
    threads = [threading.Thread(target=cluster.get, args=("Pod", "a")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(plugin.runs()) < 9
