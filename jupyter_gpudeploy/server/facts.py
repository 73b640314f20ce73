"""A run as the panel shows it: plain values, every text harmless."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from jupyter_gpudeploy.events.text import one_line
from jupyter_gpudeploy.events.types import State
from jupyter_gpudeploy.quantities import format_seconds
from jupyter_gpudeploy.summary import remaining
from jupyter_gpudeploy.using import cost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.backends.base import RunRef
    from jupyter_gpudeploy.events.status import Status
    from jupyter_gpudeploy.summary import Summary
    from jupyter_gpudeploy.using import Use

HERE = "this machine"
_LOST = (State.STOPPED, State.LOST)


class Read(NamedTuple):
    """What was read of a run beside its summary: nothing of one that nobody follows. `use`: of one that is alive."""

    record: Mapping[str, Any] = MappingProxyType({})
    status: Status | None = None
    use: Use | None = None
    prices: Mapping[str, float] = MappingProxyType({})


def facts(ref: RunRef, summary: Summary, read: Read = Read()) -> dict[str, Any]:  # noqa: B008 - a value
    """Return what is said of a run."""
    record, status, use, prices = read
    left = remaining(summary, int(record.get("parallelism") or 1))
    return {
        "id": ref.uid,
        "name": one_line(summary.name),
        "title": one_line(summary.title),
        "kind": one_line(summary.kind),
        "backend": one_line(summary.backend),
        "place": one_line(ref.place) or HERE,
        "state": str(summary.state),
        "reason": one_line(summary.reason),
        "is_over": summary.state.is_final,
        "is_seen": summary.is_seen,
        "gpu_hours": round(summary.gpu_hours, 3),
        "cost": _rounded(cost(record, summary.gpu_hours, prices), 2),
        "currency": None,
        "progress": _progress(summary),
        "remaining_s": None if left is None else round(left),
        "url": _url(summary.url),
        "best": _best(summary),
        "can_stop": not summary.state.is_final and not summary.owner,
        "can_clean": summary.state.is_final and not summary.owner,
        "read_only": bool(summary.owner),
        "stop_costs": "" if summary.state.is_final else stop_costs(summary),
        "created": ref.created,
        "started": None if status is None else status.started,
        "ended": None if status is None else status.ended,
        **_use(use, summary),
    }


def stop_costs(summary: Summary) -> str:
    """Return in a sentence or two what stopping this run loses, and the way back."""
    name = one_line(summary.name)
    if summary.kind == "server":
        return "Requests to it fail from then on. Running its cell again starts it anew."
    if summary.kind == "manual":
        return "Everything that runs in it is ended. Files in its output folder stay."
    noun = "trial" if summary.kind == "sweep" else "task"
    work = sum(row.seconds or 0.0 for row in summary.rows if row.state in (State.RUNNING, State.STARTING, State.READY))
    waiting = summary.counts.get(State.WAITING, 0)
    said = []
    if summary.running:
        lost = f"{format_seconds(work)} of work is lost unless checkpoints were saved"
        said.append(f"{_counted(summary.running, f'running {noun}')} ended: {lost}")
    if waiting:
        said.append(f"{_counted(waiting, f'waiting {noun}')} not run")
    return f"{'; '.join(said) or 'Whatever still runs is ended'}. %deploy resume {name} goes on."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun} is" if count == 1 else f"{count} {noun}s are"


def _progress(summary: Summary) -> dict[str, int]:
    counts = summary.counts
    return {
        "total": sum(counts.values()),
        "done": summary.done,
        "running": summary.running,
        "waiting": counts.get(State.WAITING, 0),
        "failed": counts.get(State.FAILED, 0),
        "stopped": sum(counts.get(state, 0) for state in _LOST),
    }


def _use(use: Use | None, summary: Summary) -> dict[str, Any]:
    """Return what it uses, in steps that are worth a message."""
    if use is None:
        nothing = 0 if summary.state.is_final else None
        none = dict.fromkeys(("gpu_percent", "cpu_percent", "memory_bytes"))
        return {"gpus": nothing, **none, "is_idle": False}
    return {
        "gpus": use.gpus,
        "gpu_percent": _rounded(use.utilization, 0),
        "cpu_percent": _rounded(use.cpu, 0),
        "memory_bytes": None if use.memory is None else float(f"{use.memory:.3g}"),
        "is_idle": use.is_idle,
    }


def _best(summary: Summary) -> dict[str, Any] | None:
    if summary.best is None or summary.best_value is None:
        return None
    return {"metric": one_line(summary.metric or ""), "value": summary.best_value, "trial": summary.best}


def _url(url: str | None) -> str | None:
    """Return an address that a browser may open; what a program said of itself may be anything."""
    try:
        return url if url and urlsplit(url).scheme in ("http", "https") else None
    except ValueError:
        return None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
