"""What is right key by key and wrong together."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING

from jupyter_gpudeploy.spec.fields import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_gpudeploy.spec.models import Spec

_OF_SERVERS = ("port", "health", "replicas", "route", "app", "model", "expose", "host", "gateway")


def found(spec: Spec) -> list[Mistake]:
    """Return every contradiction; the first of the keys it is about is where it is shown."""
    return [*_program(spec), *_server(spec), *_search(spec), *_environment(spec)]


def _program(spec: Spec) -> Iterator[Mistake]:
    if spec.run is None and spec.serve is None and spec.code is None and spec.mode != "manual":
        yield Mistake(
            "nothing to run", "give run:, serve:, or Python below a line ---", about=("run", "serve", "mode", "code")
        )
    if spec.run is not None and spec.code is not None:
        yield Mistake("the program comes twice: run: and the Python below ---", "keep one", about=("run", "code"))
    if spec.entry_point is not None and spec.run is None:
        yield Mistake(
            "entry_point: names a script inside the folder of run:, which is missing",
            "add run: FOLDER",
            about=("entry_point", "run"),
        )


def _server(spec: Spec) -> Iterator[Mistake]:
    if spec.serve is not None and spec.mode not in (None, "auto_start"):
        yield Mistake(
            f"serve: {spec.serve} is a server, mode: {spec.mode} is not",
            "mode: auto_start, or leave mode: out",
            about=("mode", "serve"),
        )
    if spec.serve is None and spec.mode in (None, "job") and spec.idle_minutes is not None:
        message = "idle_minutes: is for servers and environments: a job ends by itself"
        yield Mistake(message, "max_hours: 12", about=("idle_minutes", "serve", "mode"))
    if spec.serve is None and spec.mode in (None, "job"):
        for name in _OF_SERVERS:
            if name in spec.model_fields_set and getattr(spec, name) != type(spec).model_fields[name].get_default():
                yield Mistake(f"{name}: is for servers, and this is none", "add serve:", about=(name, "serve", "mode"))


def _search(spec: Spec) -> Iterator[Mistake]:
    if spec.code is not None:
        for name in spec.parameters:
            if not name.isidentifier() or keyword.iskeyword(name):
                message = f"parameter {name!r} cannot be a Python variable of the code below ---"
                yield Mistake(message, "letters, digits and _ only", ("parameters", name), ("parameters", "code"))
    if spec.method == "random" and spec.max_runs is None and spec.is_sweep:
        yield Mistake("method: random needs max_runs:", "max_runs: 20", about=("method", "max_runs", "parameters"))
    if spec.method in {"grid", "ablation", None}:
        for name, axis in spec.parameters.items():
            if axis.values is None:
                message = f"parameter {name!r} is a range: method: {spec.method or 'grid'} needs values"
                hint = "values: [..], or method: random with max_runs:"
                yield Mistake(message, hint, ("parameters", name), ("parameters", "method"))
    if spec.method == "bayes" and spec.max_runs is None and spec.is_sweep:
        yield Mistake("method: bayes needs max_runs:", "max_runs: 20", about=("method", "max_runs", "parameters"))
    if spec.method == "bayes" and spec.metric is None:
        message = "method: bayes needs metric:, what is it to improve?"
        yield Mistake(message, "metric: {name: val_acc, goal: maximize}", about=("method", "metric"))


def _environment(spec: Spec) -> Iterator[Mistake]:
    for name in spec.secrets:
        if name in spec.env:
            message = f"{name} is given in env: and in secrets:"
            yield Mistake(message, "keep one", ("secrets", name), ("secrets", "env"))
