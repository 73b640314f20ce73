"""Why a pod that has a node does not run, or runs and does not answer: images, secrets, volumes, probes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import places
from jupyter_gpudeploy.backends.kubernetes.diagnosis.ends import why_it_crashed, why_not_run
from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import (
    Finding,
    container,
    duration,
    event_time,
    latest,
    main_container,
    main_status,
    quoted,
    shortened,
    statuses,
)
from jupyter_gpudeploy.backends.kubernetes.diagnosis.probing import startup_budget, what_failed
from jupyter_gpudeploy.backends.kubernetes.facts import seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PULLS = ("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed")
_USUAL = ("ContainerCreating", "PodInitializing", None)
_MINUTE = 60
_ONE_THAT_EXISTS = "image: one that the registry has"
_SIGN_IN = "image_pull_secrets: [NAME of the Secret that opens the registry]"
_PULL_ERRORS = (
    (
        r"429|toomanyrequests|too many requests|rate limit",
        "the registry {host} lets no more images be pulled for now ({said}); it is tried again",
        _SIGN_IN,
        False,
    ),
    (
        r"\b401\b|unauthorized|authentication required|no basic auth",
        "the registry {host} refuses the image {image} ({said})",
        _SIGN_IN,
        True,
    ),
    (
        r"may require authorization",
        "there is no image {image}, or not for everybody ({said})",
        f"{_ONE_THAT_EXISTS}, or {_SIGN_IN}",
        True,
    ),
    (
        r"\b403\b|forbidden|denied",
        "the registry {host} refuses the image {image} ({said})",
        _SIGN_IN,
        True,
    ),
    (
        r"no match for platform",
        "the image {image} does not exist for the node's processor",
        "image: one for that processor",
        True,
    ),
    (
        r"not found|manifest unknown|name unknown|\b404\b|repository does not exist",
        "there is no image {image}",
        _ONE_THAT_EXISTS,
        True,
    ),
    (
        r"no space left",
        "the node has no room for the image {image}; it is tried again",
        "image: a smaller one",
        False,
    ),
    (
        r"no such host",
        "the node finds no registry {host}; it is tried again",
        "image: with the registry's right name",
        False,
    ),
)


def why_not_started(
    pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> Finding | None:
    """Return what a container of the pod waits for; None where they all run or have run."""
    for seen in statuses(pod):
        waiting = (seen.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in _USUAL:
            return _why_waiting(seen, waiting["reason"], waiting.get("message") or "", pod, events, record)
    if not any((seen.get("state") or {}).get("waiting") for seen in statuses(pod)):
        return None
    found = _why_no_sandbox(events)
    if found is None and any(seen.get("name") == places.INSTALLER and _runs(seen) for seen in statuses(pod)):
        return Finding("installing the packages of requirements:")
    return found


def why_not_ready(
    pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    record: Mapping[str, Any],  # noqa: ARG001 - one form for all
) -> Finding | None:
    """Return why a server that runs is not ready: loading still, or silent since."""
    seen = main_status(pod)
    running = (seen.get("state") or {}).get("running")
    event = latest(events, "Unhealthy")
    began = seconds((running or {}).get("startedAt"))
    if began is None or seen.get("ready") or not event or event_time(event) < began:
        return None
    what = what_failed(event.get("message", ""), pod)
    if seen.get("started") is False:
        return Finding(f"still loading, {_elapsed(event_time(event) - began, startup_budget(pod))}: {what}")
    return Finding(f"it does not answer: {what}")


def _why_waiting(
    seen: Mapping[str, Any], reason: str, message: str, pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]], record: Mapping[str, Any],
) -> Finding:  # fmt: skip
    image = container(pod, seen.get("name", "")).get("image") or seen.get("image", "")
    if reason == "InvalidImageName":
        said = message.rpartition("invalid reference format: ")[2] or message
        return Finding(
            f"{image!r} is no name of an image: {shortened(said)}", "image: like python:3.12-slim", permanent=True
        )
    if reason == "ErrImageNeverPull":
        sentence = f"the node has no image {image}, and is not to fetch it"
        return Finding(sentence, "image: one that the node may fetch", permanent=True)
    if reason in _PULLS or reason.startswith("ErrImage"):
        return _why_not_pulled(image, _pull_message(message, events))
    if reason == "CrashLoopBackOff":
        return why_it_crashed(seen, message, pod, events, record)
    if reason in ("RunContainerError", "CreateContainerError", "StartError"):
        return why_not_run(image, message)
    return _why_not_configured(image, message, pod) or Finding(f"{reason}: {shortened(message)}")


def _pull_message(message: str, events: Sequence[Mapping[str, Any]]) -> str:
    """Return the words of the last try to pull: older kubelets do not repeat them while they wait for the next."""
    if ": " in message.replace("Back-off pulling image ", ""):
        return message
    tries = [event for event in events if "Failed to pull image" in event.get("message", "")]
    return str(max(tries, key=event_time, default={}).get("message", message))


def _why_not_pulled(image: str, message: str) -> Finding:
    names = {"image": image, "host": _registry(image), "said": _registrys_words(message, image)}
    for pattern, sentence, hint, permanent in _PULL_ERRORS:
        if re.search(pattern, message, re.IGNORECASE):
            return Finding(sentence.format(**names), hint, permanent)
    return Finding("the node cannot get the image {image} ({said}); it is tried again".format(**names))


def _registry(image: str) -> str:
    first, separator, _ = image.partition("/")
    return first if separator and ("." in first or ":" in first or first == "localhost") else "docker.io"


def _registrys_words(message: str, image: str) -> str:
    """Return what the registry said, without what kubelet and containerd put around it."""
    text = message.rpartition('": ')[2] or message
    for known in (f"{image}: ", "failed to resolve image: ", "failed to authorize: ", "failed to do request: "):
        text = text.removeprefix(known)
    text = quoted(r"unexpected status.*?: (\d{3} .+)", text) or text
    return shortened(text.rpartition("authorization failed: ")[2], 160)


def _why_not_configured(image: str, message: str, pod: Mapping[str, Any]) -> Finding | None:
    key, secret = quoted(r"couldn't find key (\S+) in Secret", message), quoted(r"in Secret [^/]+/(\S+)", message)
    if key and secret:
        return Finding(f"the Secret {secret} has no key {key}", _own_value(pod, secret))
    missing = quoted(r'secret "([^"]+)" not found', message)
    if missing:
        return Finding(f"there is no Secret {missing}", _own_value(pod, missing))
    missing = quoted(r'configmap "([^"]+)" not found', message)
    if missing:
        return Finding(f"there is no ConfigMap {missing}")
    if "image will run as root" in message:
        sentence = f"the image {image} runs as root, which the cluster forbids"
        return Finding(sentence, "image: one whose USER is a number other than 0", permanent=True)
    user = quoted(r"image has non-numeric user \(([^)]+)\)", message)
    if user:
        sentence = f"the image {image} runs as {user!r}, and only a number tells that this is not root"
        return Finding(sentence, "image: one whose USER is a number other than 0", permanent=True)
    return None


def _own_value(pod: Mapping[str, Any], secret: str) -> str:
    """Return the edit that takes from this machine what a Secret of the cluster does not hold."""
    for variable in main_container(pod).get("env") or ():
        reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
        if reference.get("name") == secret:
            return (
                f"secrets: {{{variable['name']}: env:{variable['name']}}}, or make the Secret: it is looked for again"
            )
    return ""


def _why_no_sandbox(events: Sequence[Mapping[str, Any]]) -> Finding | None:
    """Return why the containers are not even created."""
    event = latest(events, "FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox")
    message = event.get("message", "")
    if not message:
        return None
    if event["reason"] == "FailedCreatePodSandBox":
        return Finding(
            f"the node cannot make the pod; it is tried again: {shortened(message.rpartition('desc = ')[2] or message)}"
        )
    if "Multi-Attach" in message:
        return Finding(
            "the volume is still used on another node; it is tried again", "storage: a size makes one of its own"
        )
    for kind, pattern in (("Secret", r'secret "([^"]+)" not found'), ("ConfigMap", r'configmap "([^"]+)" not found')):
        if name := quoted(pattern, message):
            return Finding(f"there is no {kind} {name}, which is mounted; it is looked for again")
    return Finding(f"a volume cannot be mounted; it is tried again: {shortened(message)}")


def _elapsed(elapsed: float, budget: float) -> str:
    spent = duration(elapsed) if elapsed >= _MINUTE else "less than a minute"
    return f"{spent} of {duration(budget)}" if budget else spent


def _runs(seen: Mapping[str, Any]) -> bool:
    return "running" in (seen.get("state") or {})
