"""Applications for a person in an environment that stays up, reached from here: JupyterLab, VS Code in the browser."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import quote

from jupyter_gpudeploy import reach
from jupyter_gpudeploy.backends.base import Endpoint
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.programs.app import MISSING
from jupyter_gpudeploy.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.base import App, Backend, RunRef
    from jupyter_gpudeploy.run import Run

_START_SECONDS = 120.0
_LOOK_SECONDS = 0.3
_ANSWERS = 200
_LINES = 5


class Known(NamedTuple):
    """What is known of an application. `healthy`: the path that answers 200 when it works."""

    title: str
    healthy: str
    hint: str
    has_token_in_url: bool


APPS: Mapping[str, Known] = {
    "jupyter": Known("JupyterLab", "/api/status", "requirements: [jupyterlab] in its cell, and --replace", True),
    "code-server": Known("code-server", "/healthz", "image: one with code-server in it, and --replace", False),
}


class Address(str):
    """A URL. `password`: what the page behind it asks for; empty where the URL itself opens it."""

    __slots__ = ("password",)

    password: str

    def __new__(cls, url: str, password: str = "") -> Self:
        """Return the URL, with the password."""
        made = super().__new__(cls, url)
        made.password = password
        return made

    def __repr__(self) -> str:
        return f"{str.__repr__(self)}, password {self.password}" if self.password else str.__repr__(self)


def open_app(run: Run, backend: Backend, ref: RunRef, name: str) -> Address:
    """Return where an application of a manual run is reached from here, started in it where it does not run.

    Raises BackendError for one that is not known, not installed, or does not come up.
    """
    known = APPS.get(name)
    if known is None:
        raise BackendError(f"there is no app {name!r}", hint=did_you_mean(name, APPS) or " or ".join(APPS))
    found = backend.app(ref, name)
    number = backend.start_app(ref, name) if found is None else None
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if found is not None:
            url = backend.forward(ref, found.port)
            if _is_healthy(url, known, found):
                return _address(url, known, found)
        _check(run, known, number)
        time.sleep(_LOOK_SECONDS)
        found = backend.app(ref, name)
    raise BackendError(f"{known.title} in {run.name} does not answer", hint=_last_words(run, number))


def _is_healthy(url: str, known: Known, app: App) -> bool:
    headers = {"Authorization": f"token {app.token}"} if known.has_token_in_url else {}
    try:
        return reach.send(Endpoint(url, headers), known.healthy, timeout=10).status == _ANSWERS
    except BackendError:
        return False


def _address(url: str, known: Known, app: App) -> Address:
    if known.has_token_in_url:
        return Address(f"{url}/?token={quote(app.token)}")
    return Address(f"{url}/", app.token)


def _check(run: Run, known: Known, number: int | None) -> None:
    """Raise BackendError where what was started has ended, unless another kernel was faster."""
    ended = run.status().tasks.get(number) if number is not None else None
    if ended is None or not ended.state.is_final or ended.exit_code == 0:
        return
    if ended.exit_code == MISSING:
        raise BackendError(f"there is no {known.title} in {run.name}", hint=known.hint)
    raise BackendError(f"{known.title} in {run.name} has ended: {ended.reason}", hint=_last_words(run, number))


def _last_words(run: Run, number: int | None) -> str:
    if number is None:
        return "run.logs() shows what it says"
    return run.logs(number, tail=_LINES) or "it printed nothing"
