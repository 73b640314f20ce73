"""How a container ended, and why a pod did: memory, evictions, disruptions, deadlines, probes, crashes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.backends.kubernetes import places
from jupyter_gpudeploy.backends.kubernetes.diagnosis.findings import (
    Finding,
    container,
    doubled,
    duration,
    event_time,
    first_time,
    last_line,
    last_word,
    latest,
    main_status,
    quoted,
    request,
    shortened,
)
from jupyter_gpudeploy.backends.kubernetes.diagnosis.probing import startup_budget, what_failed
from jupyter_gpudeploy.backends.kubernetes.facts import Exit, PodFacts, disruption_words, end_of, pod_facts, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ENDED_BY_SIGNAL = {137, 143}
_SIGNALLED = 128
_NEARLY = 0.8
_CODES = {
    126: ("the command cannot be executed", "run: python FILE, or make the file executable"),
    127: ("a command was not found", "image: one that has it"),
    132: ("an instruction that the node's processor does not know", "image: one for that processor"),
    134: ("the program aborted itself", ""),
    135: ("a bus error, as a rule /dev/shm is full", "shm: 8Gi"),
    137: ("killed by SIGKILL", "memory: as much as it needs: that is then kept for it"),
    139: ("a crash in compiled code (SIGSEGV)", ""),
    143: ("ended by SIGTERM", ""),
}
_MEMORY = re.compile(r"low on resource: (\S+?)\.(?: |$)")
_OFFLINE = re.compile(r"name resolution|NewConnectionError|NameResolutionError|ConnectTimeout|Retrying \(")


def why_ended(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> Finding | None:
    """Return why a pod that is over, or is being deleted, did not end well; None for others."""
    facts = pod_facts(pod)
    told = latest(events, "Evicted").get("message", "")
    if facts.status[0] == "Evicted" or (facts.phase == "Succeeded" and told):
        return _evicted(facts.status[1] or told, pod)
    if facts.phase == "Succeeded" or (facts.phase != "Failed" and facts.deleted is None):
        return _disrupted(facts, told, pod) if facts.disruption[0] else None
    if facts.disruption[0]:
        return _disrupted(facts, told, pod)
    if facts.status[0] == "DeadlineExceeded":
        return _too_long(pod, record)
    if facts.exit is None:
        return _refused_by_node(facts) or _deleted(facts, record)
    return _of_exit(facts.exit, facts, pod) or _deleted(facts, record)


def why_it_ran_before(
    pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> Finding | None:
    """Return why the last start of a container ended that was started again, or is about to be; None for the first."""
    seen = main_status(pod)
    state = seen.get("state") or {}
    if seen.get("ready") or (pod.get("spec") or {}).get("restartPolicy") == "Never":
        return None
    if "terminated" in state or ("running" in state and seen.get("restartCount")):
        return why_it_crashed(seen, "", pod, events, record)
    return None


def why_it_crashed(
    seen: Mapping[str, Any], back_off: str, pod: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]], record: Mapping[str, Any],
) -> Finding:  # fmt: skip
    """Return why a container that is to be started again ended. `back_off`: what the kubelet says of the next start."""
    state = seen.get("state") or {}
    ended = state.get("terminated") or (seen.get("lastState") or {}).get("terminated") or {}
    found = _ended_by_probe(ended, pod, events) or _crashed(seen, ended, pod, record)
    wait = quoted(r"back-off (\w+) restarting", back_off)
    count = seen.get("restartCount") or 0
    again = f"; next restart in {wait}" if wait else f"; started again (restart {count})" if "running" in state else ""
    return found._replace(sentence=found.sentence + again)


def _crashed(
    seen: Mapping[str, Any], ended: Mapping[str, Any], pod: Mapping[str, Any], record: Mapping[str, Any]
) -> Finding:
    exit_ = Exit(ended.get("exitCode", 0), ended.get("reason", ""), ended.get("message", ""))
    name = seen.get("name", "")
    if name == places.INSTALLER:
        return _not_installed(exit_)
    facts = pod_facts(pod)
    if exit_.code == 0:
        kind = "server" if record.get("kind") == "server" else "program"
        return Finding(f"the {kind} ended by itself (exit code 0)", "mode: job, if it is to end")
    found = _of_exit(exit_, facts, pod)
    words = found.sentence if found else exit_.words
    line = last_line(exit_.message) if found is None else ""
    return Finding(f"{words}: {line}" if line else words, found.hint if found else "")


def _of_exit(exit_: Exit, facts: PodFacts, pod: Mapping[str, Any]) -> Finding | None:
    """Return what is known of an exit code; None for one that is the program's own."""
    said = last_word(exit_.message)
    if exit_.reason == "OOMKilled" or said.startswith("out of memory"):
        limit = f" (limit {facts.memory})" if facts.memory else ""
        hint = f"memory: {doubled(facts.memory)}" if facts.memory else "memory: more than it uses now"
        return Finding(f"out of memory{limit}, exit code {exit_.code}", hint)
    if exit_.reason in ("StartError", "ContainerCannotRun"):
        return why_not_run(container(pod, facts.container).get("image", ""), exit_.message)
    if facts.setup:
        return _not_set_up(exit_, facts.container)
    if facts.deleted is not None or exit_.code not in _CODES:
        return Finding(said) if said and facts.deleted is None else None
    meaning, hint = _CODES[exit_.code]
    return Finding(f"exit code {exit_.code}: {said if exit_.code < _SIGNALLED and said else meaning}", hint)


def _not_set_up(exit_: Exit, name: str) -> Finding:
    if name == places.INSTALLER:
        return _not_installed(exit_)
    line = last_line(exit_.message)
    return Finding(f"{name}: {exit_.words}" + (f": {line}" if line else ""))


def why_not_run(image: str, message: str) -> Finding:
    """Return why the runtime cannot start the command of a container."""
    program = quoted(r'exec: \\?"([^"\\]+)\\?":', message)
    if program and ("not found" in message or "no such file" in message):
        hint = "image: one with Python, like python:3.12-slim" if "python" in program else "image: one that has it"
        return Finding(f"the image {image} has no {program}", hint, permanent=True)
    if program and "permission denied" in message:
        return Finding(f"{program} in the image {image} may not be executed", "image: another", permanent=True)
    return Finding(f"the container cannot be started: {shortened(message.rpartition('process: ')[2] or message)}")


def _not_installed(exit_: Exit) -> Finding:
    if exit_.reason == "OOMKilled":
        return Finding(f"requirements: out of memory, exit code {exit_.code}", "image: one that has the packages")
    said = last_line(exit_.message, "ERROR: ").removeprefix("ERROR: ")
    if _OFFLINE.search(exit_.message):
        return Finding(f"requirements: the pod reaches no package index: {said}", "image: one that has the packages")
    package = quoted(r"(?:No matching distribution found for|satisfies the requirement) (\S+)", exit_.message)
    hint = f"requirements: without {package}, or another version of it" if package else ""
    return Finding(f"requirements: {said}" if said else f"requirements: {exit_.words}", hint, permanent=bool(package))


def _evicted(message: str, pod: Mapping[str, Any]) -> Finding:
    """Return what an eviction for want of room says, and the key of the cell that would have asked for it."""
    sentence = f"evicted: {shortened(message) or 'the node was low on resources'}"
    resource = quoted(_MEMORY.pattern, message)
    if resource == "memory":
        used = quoted(r"was using (\w+), request is", message)
        asked = doubled(request(pod, "memory"))
        return Finding(sentence, f"memory: {used or asked or '8Gi'}: what is asked for is kept for it")
    volume, limit = quoted(r'EmptyDir volume "([^"]+)"', message), quoted(r'exceeds the limit "([^"]+)"', message)
    if volume == "dshm":
        return Finding(sentence, f"shm: {doubled(limit)}")
    if resource or "ephemeral" in message or volume:
        return Finding(sentence, "storage: 20Gi: what it writes then goes to a volume")
    return Finding(sentence)


def _disrupted(facts: PodFacts, told: str, pod: Mapping[str, Any]) -> Finding:
    reason, message = facts.disruption
    if reason == "TerminationByKubelet" and ("low on resource" in message or told):
        return _evicted(told or message, pod)
    hint = "priority: one that is higher" if reason.startswith("PreemptionBy") else ""
    return Finding(disruption_words(reason, message, facts.node), hint)


def _too_long(pod: Mapping[str, Any], record: Mapping[str, Any]) -> Finding:
    most = record.get("max_seconds") or (pod.get("spec") or {}).get("activeDeadlineSeconds") or 0
    hours = f"{2 * most / 3600:.3g}"
    return Finding(f"took longer than max_hours ({duration(most)})", f"max_hours: {hours}")


def _refused_by_node(facts: PodFacts) -> Finding | None:
    reason, message = facts.status
    if reason.startswith("OutOf") or reason in ("UnexpectedAdmissionError", "NodeAffinity", "NodeShutdown"):
        return Finding(f"node {facts.node} did not take it: {shortened(message or reason)}")
    if reason == "NodeLost":
        return Finding(f"node {facts.node} is lost: {shortened(message)}")
    return None


def _deleted(facts: PodFacts, record: Mapping[str, Any]) -> Finding | None:
    if facts.deleted is None:
        return None
    is_final = record.get("kind") in ("job", "sweep") and not record.get("retries")
    return Finding(end_of(facts, facts.exit), "retries: 1" if is_final else "")


def _ended_by_probe(
    ended: Mapping[str, Any], pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> Finding | None:
    """Return which probe had the kubelet end a container; None where it ended by itself."""
    began, finished = seconds(ended.get("startedAt")), seconds(ended.get("finishedAt"))
    if began is None or finished is None or not _was_told_to_end(ended):
        return None
    startup = _last_failure("Startup", events, finished)
    budget = startup_budget(pod)
    if startup and budget and finished - began >= budget * _NEARLY:
        what = what_failed(startup["message"], pod)
        hint = f"health: {{startup: {_longer(budget)}}}"
        return Finding(f"not ready within {duration(budget)}: {what}, so it was ended", hint)
    silent = _last_failure("Liveness", events, finished)
    if silent and event_time(silent) >= began:
        return Finding(f"it stopped answering: {what_failed(silent['message'], pod)}, so it was ended")
    return None


def _last_failure(probe: str, events: Sequence[Mapping[str, Any]], before: float) -> Mapping[str, Any]:
    """Return the last failure of a probe before a moment; times of containers are whole seconds."""
    told = [event for event in events if first_time(event) <= before + 1]
    return latest([event for event in told if event.get("message", "").startswith(probe)], "Unhealthy")


def _was_told_to_end(ended: Mapping[str, Any]) -> bool:
    return ended.get("exitCode") in _ENDED_BY_SIGNAL or last_word(ended.get("message") or "").startswith("stopped by")


def _longer(budget: float) -> str:
    twice = 2 * budget
    return f"{round(twice)}s" if twice < 120 else f"{round(twice / 60)}m"  # noqa: PLR2004 - two minutes
