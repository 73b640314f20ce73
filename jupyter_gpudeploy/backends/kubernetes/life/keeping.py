"""Secrets: values go from this machine, or from a person's keyboard, into a Secret of the cluster and nowhere else."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import marks, places
from jupyter_gpudeploy.backends.kubernetes.api.errors import ApiError, ConflictError
from jupyter_gpudeploy.backends.kubernetes.life.objects import UNPROCESSABLE, pointer
from jupyter_gpudeploy.errors import BackendError
from jupyter_gpudeploy.events.secrets import secret_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jupyter_gpudeploy.backends.kubernetes.api.client import Cluster

Body = dict[str, Any]


def of_run(name: str, record: Mapping[str, Any]) -> list[Body]:
    """Return the Secrets whose values are known on this machine only. Raises BackendError for one that is not here."""
    values = {
        variable: secret_value(variable, where)
        for variable, where in record["secrets"].items()
        if where["source"] in {"env", "file"}
    }
    found = [_secret(places.secrets_name(name), name, marks.SECRET, values)] if values else []
    if record.get("api_key"):
        found.append(_secret(places.key_name(name), name, marks.KEY, {places.KEY: secrets.token_urlsafe(32)}))
    return found


def keep(cluster: Cluster, name: str, values: Mapping[str, str]) -> None:
    """Create a Secret, or put these values into one that the same person made so before.

    Raises BackendError for one of somebody else, of another person, or of a run: it stays as it is.
    """
    body = _secret(name, name, marks.KEPT_SECRET, values)
    del body["metadata"]["labels"][marks.RUN]  # it belongs to no run
    body["metadata"]["annotations"] = {marks.CREATED_BY: cluster.user or ""}
    try:
        cluster.create(body)
    except ConflictError:
        _change(cluster, name, values)


def _change(cluster: Cluster, name: str, values: Mapping[str, str]) -> None:
    tests = [*_tests(cluster.user or "")]
    steps = [
        {"op": "add", "path": pointer("data", key), "value": b64encode(value.encode()).decode()}
        for key, value in values.items()
    ]
    try:
        cluster.patch("Secret", name, [*tests, *steps], content="json")
    except ApiError as error:
        if error.status != UNPROCESSABLE or _passes(cluster, name, tests):
            raise  # it is ours: the values are refused
        message = (
            f"Secret {name} exists in {cluster.namespace}, and it is not yours by %deploy secret: it is left alone"
        )
        raise BackendError(message, hint="choose another name") from None


def _passes(cluster: Cluster, name: str, tests: list[dict[str, str]]) -> bool:
    """Return whether a Secret is as the steps say, by a patch that changes nothing: it may not be read."""
    try:
        cluster.patch("Secret", name, tests, content="json")
    except ApiError as error:
        if error.status != UNPROCESSABLE:
            raise
        return False
    return True


def _tests(user: str) -> Iterator[dict[str, str]]:
    """Yield the steps of a JSON patch that fail for a Secret which this person did not make with `%deploy secret`."""
    known = (
        ("labels", marks.MANAGED_BY, marks.MANAGER),
        ("labels", marks.PART, marks.KEPT_SECRET),
        ("annotations", marks.CREATED_BY, user),
    )
    for place, key, value in known:
        yield {"op": "test", "path": pointer("metadata", place, key), "value": value}


def _secret(name: str, run: str, part: str, values: Mapping[str, str]) -> Body:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": marks.labels(run, part)},
        "type": "Opaque",
        "stringData": dict(values),
    }
