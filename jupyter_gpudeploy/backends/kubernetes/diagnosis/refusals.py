"""Why the cluster does not let a pod be made: quotas, limits, policies. The message is that of the API server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import Finding, quoted, shortened
from jupyter_gpudeploy.quantities import parse_cpu, parse_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+?)\s*$")
_UNSAID = re.compile(r"failed quota: ([^:]+): must specify (.+?)\s*$")
_LIMIT = re.compile(
    r"(maximum|minimum) (\S+) usage per (\w+) is ([^,.\s]+?)(?:, but (?:limit|request) is ([^,\]\s]+)|\.)"
)
_PREFIX = re.compile(r"^(?:Error creating: )?(?:pods \"[^\"]*\" is forbidden: )?")
_SCC = re.compile(
    r"provider \"?([\w-]+)\"?: (?:Forbidden: )?(\.?(?:spec|containers|initContainers)[^:]*): "
    r"(.+?)(?=, provider|\]?\s*$)"
)
_UNITS = {"memory": parse_memory, "cpu": parse_cpu, "ephemeral-storage": parse_memory}
_KEYS = {"memory": "memory", "cpu": "cpu"}


class Excess(NamedTuple):
    """One resource of a quota, with the quantities as the message has them."""

    resource: str
    requested: str
    used: str
    limited: str

    @property
    def plain(self) -> str:
        """The resource without `requests.` and `limits.`."""
        return self.resource.removeprefix("requests.").removeprefix("limits.")

    @property
    def for_good(self) -> bool:
        """Whether this is more than the quota has when nothing is used."""
        return _number(self.plain, self.requested) > _number(self.plain, self.limited)

    @property
    def words(self) -> str:
        """What is asked, used and allowed."""
        if self.for_good:
            return f"{self.requested} {self.plain} wanted, {self.limited} allowed"
        return f"{self.used} of {self.limited} {self.plain} used, {self.requested} more wanted"


def why_refused(message: str, record: Mapping[str, Any]) -> Finding:
    """Return who refuses a pod and what would have to change."""
    rules: Sequence[Callable[[str, Mapping[str, Any]], Finding | None]] = (
        _of_a_quota, _of_a_limit, _of_pod_security, _of_openshift, _of_a_policy, _of_something_missing,
    )  # fmt: skip
    for rule in rules:
        found = rule(message, record)
        if found is not None:
            return found
    return Finding(f"the cluster refuses its pods: {shortened(_PREFIX.sub('', message))}")


def _of_a_quota(message: str, record: Mapping[str, Any]) -> Finding | None:
    unsaid = _UNSAID.search(message)
    if unsaid:
        return _unsaid(unsaid[1], unsaid[2])
    found = _QUOTA.search(message)
    if found is None:
        return None
    requested, used, limited = ({**_pairs(found[group])} for group in (2, 3, 4))
    excesses = [Excess(name, asked, used.get(name, "?"), limited.get(name, "?")) for name, asked in requested.items()]
    words = ", ".join(dict.fromkeys(excess.words for excess in excesses))
    permanent = any(excess.for_good for excess in excesses)
    hint = next((hint for excess in excesses if (hint := _less(excess, record))), "")
    how = "too small" if permanent else "used up"
    return Finding(f"the quota {found[1]} is {how}: {words}", hint, permanent)


def _unsaid(quota: str, text: str) -> Finding:
    names = [part.partition(" for:")[0].strip() for part in text.split(";")]
    said = {"requests.memory": "memory: 8Gi", "limits.memory": "memory: 8Gi", "memory": "memory: 8Gi",
            "requests.cpu": "cpu: 2", "cpu": "cpu: 2"}  # fmt: skip
    keys = list(dict.fromkeys(said[name] for name in names if name in said))
    unknown = [name for name in names if name not in said]
    hint = ", ".join(keys) if not unknown else "a LimitRange in the namespace gives those: ask who keeps the cluster"
    return Finding(f"the quota {quota} asks every pod to say {', '.join(names)}", hint, permanent=True)


def _of_a_limit(message: str, record: Mapping[str, Any]) -> Finding | None:  # noqa: ARG001 - one form for all rules
    found = _LIMIT.search(message)
    if found is None:
        return None
    which, resource, kind, bound, asked = found.groups()
    owner = "pod" if kind == "Pod" else "container" if kind == "Container" else kind
    most = "most" if which == "maximum" else "least"
    words = f", {asked} asked" if asked else ", none asked"
    key = _KEYS.get(resource)
    hint = f"{key}: {bound}" if key else ""
    return Finding(f"a {owner} may have at {most} {bound} of {resource} here{words}", hint, permanent=True)


def _of_pod_security(message: str, record: Mapping[str, Any]) -> Finding | None:  # noqa: ARG001 - one form for all rules
    level = quoted(r"violates PodSecurity \"([^\"]+)\"", message)
    if not level:
        return None
    said = message.partition(f'PodSecurity "{level}": ')[2]
    field = quoted(r"must (?:not )?set ([^)]+)\)", said)
    hint = f"the field is {field}" if field else ""
    return Finding(f"the namespace's Pod Security ({level}) refuses its pods: {shortened(said)}", hint, permanent=True)


def _of_openshift(message: str, record: Mapping[str, Any]) -> Finding | None:  # noqa: ARG001 - one form for all rules
    if "security context constraint" not in message:
        return None
    found = _SCC.search(message)
    words = f"{found[1]}: {found[2]}: {found[3].strip()}" if found else shortened(_PREFIX.sub("", message))
    hint = "flavour: openshift in the settings file, so that the cluster chooses the user"
    if found and "securityContext" not in found[2] and "runAs" not in found[2]:
        hint = f"the field is {found[2]}"
    return Finding(f"OpenShift's security constraints refuse its pods: {words}", hint, permanent=True)


def _of_a_policy(message: str, record: Mapping[str, Any]) -> Finding | None:  # noqa: ARG001 - one form for all rules
    name = quoted(r"admission webhook \"([^\"]+)\" denied the request", message)
    if name:
        said = re.split(r"denied the request:?\s*", message, maxsplit=1)[1]
        return Finding(f"the policy {name} refuses its pods: {shortened(said)}", permanent=True)
    name = quoted(r"ValidatingAdmissionPolicy '([^']+)'", message)
    if name:
        said = re.split(r"denied request:?\s*", message, maxsplit=1)[-1]
        return Finding(f"the policy {name} refuses its pods: {shortened(said)}", permanent=True)
    name = quoted(r"failed calling webhook \"([^\"]+)\"", message)
    sentence = f"the webhook {name} does not answer, without it no pod is made; it is tried again"
    return Finding(sentence) if name else None


def _of_something_missing(message: str, record: Mapping[str, Any]) -> Finding | None:  # noqa: ARG001 - as above
    account = quoted(r"serviceaccount \"([^\"]+)\" not found", message)
    if account:
        return Finding(f"there is no ServiceAccount {account}", "service_account: leave it out", permanent=True)
    priority = quoted(r"no PriorityClass with name (\S+) was found", message)
    if priority:
        return Finding(f"there is no PriorityClass {priority}", "priority: leave it out", permanent=True)
    return None


def _pairs(text: str) -> dict[str, str]:
    return {name.strip(): value for name, _, value in (part.partition("=") for part in text.split(","))}


def _less(excess: Excess, record: Mapping[str, Any]) -> str:
    """Return the key of the cell that stays below the quota."""
    if excess.plain in ("pods", "count/pods"):
        return "" if record.get("kind") != "sweep" else f"parallelism: {excess.limited}"
    if excess.plain in _KEYS:
        return f"{excess.plain}: {excess.limited}" if excess.for_good else ""
    if "/" in excess.plain and not excess.plain.startswith("count/"):
        return f"gpus: {excess.limited}" if excess.for_good else ""
    return ""


def _number(resource: str, text: str) -> float:
    try:
        return float(_UNITS.get(resource, parse_memory)(text))
    except ValueError:
        return 0.0
