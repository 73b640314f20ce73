"""Exec plugins: the program that a kubeconfig names to get a token or a certificate (client.authentication.k8s.io).

A plugin has no terminal and no stdin: the kernel's would block the notebook. It has a time limit, what it says on
stderr is in the error, and it is never started more often than once a minute for the same user, whoever asks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes.api.credentials import SIGN_IN, Certificate
from jupyter_gpudeploy.backends.kubernetes.api.errors import CredentialsError
from jupyter_gpudeploy.spec.tokens import hide_in

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_SECONDS = 60.0
PAUSE_SECONDS = 60.0
_LONGEST_STDERR = 2000
_known: dict[str, ExecPlugin] = {}
_knowing = threading.Lock()


def plugin(entry: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> ExecPlugin:
    """Return the plugin of an `exec:` entry. The same entry gives the same plugin, so all share its minute.

    `folder`: of the kubeconfig, where a relative command is found; `cluster`: the cluster's entry in the kubeconfig.
    """
    key = json.dumps([entry, str(folder), cluster], sort_keys=True, default=str)
    with _knowing:
        if key not in _known:
            _known[key] = ExecPlugin(entry, folder, cluster)
        return _known[key]


class ExecPlugin:
    """One plugin and what it gave last."""

    def __init__(self, entry: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> None:
        command = str(entry.get("command") or "")
        if not command:
            raise CredentialsError("the kubeconfig has an exec: without a command", hint="see its users:")
        if "/" in command and not Path(command).is_absolute():
            command = str(folder / command)
        self._argv = [command, *(str(word) for word in entry.get("args") or [])]
        self._entry = entry
        self._cluster = cluster
        self._lock = threading.Lock()
        self._started = -PAUSE_SECONDS
        self._error: CredentialsError | None = None
        self._token = ""
        self._certificate: Certificate | None = None
        self._expires: float | None = None
        self.limit = LIMIT_SECONDS
        self.pause = PAUSE_SECONDS

    @property
    def name(self) -> str:
        """The command as one types it."""
        return f"the credential plugin `{hidden(' '.join(self._argv))}`"

    @property
    def way_out(self) -> str:
        """Type it in a terminal."""
        return f"run `{hidden(' '.join(self._argv))}` in a terminal to see what it needs, or {SIGN_IN}"

    def headers(self) -> dict[str, str]:
        """Return the plugin's token; it runs when there is none, or none that is valid any more."""
        with self._lock:
            self._have()
            return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def certificate(self) -> Certificate | None:
        """Return the plugin's certificate."""
        with self._lock:
            self._have()
            return self._certificate

    def refresh(self) -> bool:
        """Run it, after a 401. Return False when it ran less than a minute ago: it would say the same."""
        with self._lock:
            before = self._token, self._certificate
            if self.waits():
                self._repeat_error()
                return False
            self._run()
            return before != (self._token, self._certificate)

    def waits(self) -> float:
        """Return the seconds until it may run again."""
        return max(0.0, self._started + self.pause - time.monotonic())

    def _have(self) -> None:
        has_any = bool(self._token or self._certificate)
        has_expired = self._expires is not None and time.time() >= self._expires
        if has_any and not has_expired:
            return
        if self.waits():
            self._repeat_error()
        else:
            self._run()

    def _repeat_error(self) -> None:
        if self._error is not None:
            again = f"it is asked again in {self.waits():.0f} s"
            raise CredentialsError(self._error.message, hint=f"{self._error.hint}; {again}")

    def _run(self) -> None:
        self._started = time.monotonic()
        self._error = None
        try:
            self._take(self._output())
        except CredentialsError as error:
            self._error = error
            raise

    def _output(self) -> bytes:
        if self._entry.get("interactiveMode") == "Always":
            raise CredentialsError(f"{self.name} needs a terminal, and a notebook is none", hint=self.way_out)
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            install = str(self._entry.get("installHint") or "").strip()
            reason = error.strerror or type(error).__name__
            raise CredentialsError(f"{self.name} cannot be started: {reason}", hint=install or self.way_out) from None
        try:
            output, said = process.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            said = _end(process)
            raise CredentialsError(
                f"{self.name} did not finish in {self.limit:.0f} s{_quoted(said)}", hint=self.way_out
            ) from None
        except BaseException:
            _end(process)
            raise
        if process.returncode:
            message = f"{self.name} failed with exit code {process.returncode}{_quoted(said)}"
            raise CredentialsError(message, hint=self.way_out)
        return output

    def _environment(self) -> dict[str, str]:
        spec: dict[str, Any] = {"interactive": False}
        if self._entry.get("provideClusterInfo") in {True, "true"}:
            spec["cluster"] = {
                name: self._cluster[name]
                for name in ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data")
                if name in self._cluster
            }
        about = {"apiVersion": self._entry.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
        own = {str(pair["name"]): str(pair["value"]) for pair in self._entry.get("env") or []}
        return {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(about)}

    def _take(self, output: bytes) -> None:
        try:
            status = json.loads(output)["status"]
            token = str(status.get("token") or "")
            pem, key = status.get("clientCertificateData"), status.get("clientKeyData")
            expires = status.get("expirationTimestamp")
            self._expires = datetime.fromisoformat(expires).timestamp() if expires else None
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"{self.name} answered something else than an ExecCredential"
            raise CredentialsError(message, hint=self.way_out) from None
        if not token and not (pem and key):
            raise CredentialsError(f"{self.name} gave neither a token nor a certificate", hint=self.way_out)
        self._token = token
        self._certificate = Certificate(pem.encode(), key.encode()) if pem and key else None


def hidden(text: str) -> str:
    """Return `text` without what looks like a token."""
    return str(hide_in(text)[0])


def _quoted(said: bytes) -> str:
    text = hidden(said.decode("utf-8", "replace").strip())
    if len(text) > _LONGEST_STDERR:
        text = "..." + text[-_LONGEST_STDERR:]
    return "; it said:\n" + "\n".join(f"    {line}" for line in text.splitlines()) if text else ""


def _end(process: subprocess.Popen[bytes]) -> bytes:
    """Kill a plugin with all that it started; return what it had said."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    try:
        return process.communicate(timeout=5)[1]
    except subprocess.TimeoutExpired:
        return b""
