"""The guide's config.yaml, as our flat keys.

SECTIONS is all it may hold: a text is the key of ours that means the same, None is decided below. Keys of ours may
stand beside the sections. A wrong key in a section is a mistake like any other; what is understood and means nothing
here leaves a Remark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import Problem, SpecError
from jupyter_gpudeploy.registry import did_you_mean
from jupyter_gpudeploy.spec.draft import Source, dotted
from jupyter_gpudeploy.spec.guide_program import MODES, Application, mode_of, pod_paths
from jupyter_gpudeploy.spec.models import TEXT_FIELDS, Remark
from jupyter_gpudeploy.spec.problems import KEYS, shown, unknown_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_gpudeploy.spec.draft import Draft
    from jupyter_gpudeploy.spec.yaml import Document, Path

_TRACKING = {"enabled": None, "backend": None, "project": None, "entity": None, "tags": None}
_SWEEP = {
    "method": "method", "parameters": "parameters", "metric": "metric", "max_runs": "max_runs",
    "parallelism": "parallelism", "seed": "seed",
}  # fmt: skip
SECTIONS: dict[str, dict[str, Any]] = {
    "deployment": {"cluster": "cluster", "namespace": "namespace", "mode": None, "num_nodes": "nodes"},
    "application": {
        "enabled": None, "type": None, "name": "name",
        "source": {"path": None, "entry_point": None},
        "execution": {"mode": None, "arguments": None},
        "runtime": {"working_dir": None, "requirements": "requirements", "env": "env", "environment": "env"},
        "requirements": "requirements",
    },
    "inference": {
        "enabled": None, "port": "port", "protocol": None, "endpoint": None, "path": None, "metrics": None,
        "health_check": "health", "replicas": "replicas",
    },
    "resources": {"gpus": "gpus", "memory": "memory", "cpu": "cpu", "cpus": "cpu"},
    "monitoring": {"enabled": None, "type": None, "metrics": None},
    "experiment": {"tracking": _TRACKING, "sweep": _SWEEP, "parallelism": "parallelism"},
    "experiment_tracking": _TRACKING,
}  # fmt: skip
_TYPES = ("custom_command", "single_file", "directory", "notebook")


def fill(draft: Draft, document: Document) -> None:
    """Set the keys of ours that `document` means. Raises SpecError for what is no part of the guide's config."""
    reader = _Reader(draft, document)
    reader.walk(document.value, SECTIONS, ())
    if not reader.problems:
        reader.application()
        reader.inference()
        reader.deployment()
        reader.tracking()
        reader.left_out()
    if reader.problems:
        raise SpecError(reader.problems)


class _Reader:
    """Walks the sections once. `said` is what the sections hold that no key of ours means directly, by path."""

    def __init__(self, draft: Draft, document: Document) -> None:
        self.draft = draft
        self.document = document
        self.problems: list[Problem] = []
        self.said: dict[Path, Any] = {}

    def walk(self, values: Mapping[str, Any], known: Mapping[str, Any], path: Path) -> None:
        for key, value in values.items():
            at = (*path, key)
            if key not in known and (path or key not in KEYS):
                names = [*known, *([] if path else KEYS)]
                self.problems.append(unknown_key(key, names, Source.within(self.document, at)))
                continue
            meaning = known.get(key, key)
            if isinstance(meaning, str):
                self._put(meaning, at)
            elif meaning is None:
                self.said[at] = value
            elif isinstance(value, dict):
                self.walk(value, meaning, at)
            elif value is not None:
                self._wrong(at, f"must be lines of `key: value`, not {shown(value)}", f"keys: {', '.join(meaning)}")

    def application(self) -> None:
        section = ("application",)
        kind = self._choice((*section, "type"), _TYPES)
        path = self._text((*section, "source", "path"))
        mode = self._mode((*section, "execution", "mode"))
        enabled = self.said.get((*section, "enabled"), True) is not False
        is_command = kind == "custom_command" or (kind is None and " " in path)
        application = Application(
            command=path if is_command and enabled else "",
            source=path if not is_command and enabled else "",
            entry_point=self._text((*section, "source", "entry_point")) if enabled else "",
            arguments=self._text((*section, "execution", "arguments")) if enabled else "",
            mode=mode if enabled else None,
            serves=self.said.get(("inference", "enabled")) is True,
        )
        origin = {
            "command": (*section, "source", "path"), "source": (*section, "source", "path"),
            "entry_point": (*section, "source", "entry_point"), "mode": (*section, "execution", "mode"),
            "arguments": (*section, "execution", "arguments"), "name": (*section, "name"),
        }  # fmt: skip
        sources = {name: Source.within(self.document, at) for name, at in origin.items() if at in self.said}
        if "source" in sources:
            self._once("run", origin["source"])
        if not self.problems and "application" in self.document.value:
            application.put(self.draft, sources)
        self._working_dir((*section, "runtime", "working_dir"))

    def inference(self) -> None:
        enabled = ("inference", "enabled")
        if self.said.get(enabled) is False:
            for key in ("port", "health", "replicas"):
                if self.draft.sources.get(key, Source("")).path[:1] == ("inference",):
                    del self.draft.values[key], self.draft.sources[key]
        elif self.said.get(enabled) is True and "serve" in self.draft.values:
            self.draft.put("route", value=True, source=Source.within(self.document, enabled))
            self._remark(enabled, "reachable from outside the cluster: route: true", "", "info")
        for key in ("endpoint", "path"):
            if ("inference", key) in self.said:
                message = f"{self.said['inference', key]} is the server's own path, nothing has to be set for it"
                self._remark(("inference", key), message, "run.request(..) takes any path", "info")
        protocol = self.said.get(("inference", "protocol"), "http")
        if protocol != "http":
            self._wrong(("inference", "protocol"), f"must be http, not {shown(protocol)}", "the server speaks http")

    def deployment(self) -> None:
        at = ("deployment", "mode")
        mode = self._choice(at, ("single-node", "multi-node"))
        nodes = self.draft.values.get("nodes")
        if mode == "multi-node" and nodes is None:
            self._remark(at, "says multi-node, and not how many: one machine is taken", "add num_nodes: 2")
        if mode == "single-node" and isinstance(nodes, int) and nodes > 1:
            self._remark(at, f"says single-node, and num_nodes: {nodes} says otherwise: {nodes} are taken", "drop one")

    def tracking(self) -> None:
        for path in (("experiment", "tracking"), ("experiment_tracking",)):
            said = {str(at[-1]): value for at, value in self.said.items() if at[:-1] == path}
            if said.pop("enabled", True) is not False and said:
                spelled = self.document.as_text(path)
                said = {key: spelled[key] for key in said}
                self._once("tracking", path)
                self.draft.put("tracking", said, Source.within(self.document, path))

    def left_out(self) -> None:
        listed = self.said.get(("monitoring", "metrics"))
        if listed is not None:
            names = ", ".join(str(name) for name in listed) if isinstance(listed, list) else str(listed)
            message = f"{names}: a server's own metrics are read without being listed"
            self._remark(("monitoring", "metrics"), message, "see run.metrics()", "info")
        if ("inference", "metrics") in self.said:
            message = f"{self.said['inference', 'metrics']} is known for each server, nothing has to be set"
            self._remark(("inference", "metrics"), message, "", "info")

    def _put(self, key: str, at: Path) -> None:
        self._once(key, at)
        value = self.document.as_text(at)
        if key not in TEXT_FIELDS:
            value = self.document.value
            for part in at:
                value = value[part]
        self.draft.put(key, value, Source.within(self.document, at))

    def _once(self, key: str, at: Path) -> None:
        if key in self.draft.values:
            first = self.draft.sources[key]
            self._wrong(at, f"says again what {first.label} says on line {first.line}", "keep one of them")

    def _working_dir(self, at: Path) -> None:
        path = self._text(at)
        if pod_paths(path):
            message = f"{path} is a folder of the guide's pods: the notebook's folder is taken"
            self._remark(at, message, "working_dir: FOLDER for another one", "info")
        elif path:
            self.draft.put("working_dir", path, Source.within(self.document, at))

    def _text(self, at: Path) -> str:
        if self.said.get(at) is None:
            return ""
        if isinstance(self.said[at], dict | list):
            self._wrong(at, f"must be text, not {shown(self.said[at])}", "put it in quotes")
            return ""
        return str(self.document.as_text(at))

    def _choice(self, at: Path, allowed: tuple[str, ...]) -> str | None:
        value = self.said.get(at)
        if value is None or value in allowed:
            return value
        self._wrong(at, f"must be one of {', '.join(allowed)}, not {shown(value)}", did_you_mean(str(value), allowed))
        return None

    def _mode(self, at: Path) -> Any:  # noqa: ANN401 - a Literal of Application
        text = self._text(at)
        mode = mode_of(text)
        return mode if mode or not text else self._choice(at, MODES)

    def _wrong(self, at: Path, said: str, hint: str) -> None:
        line, column = self.document.where_value(at)
        self.problems.append(Problem(f"{dotted(at)} {said}", hint, line, column, dotted(at)))

    def _remark(self, at: Path, message: str, hint: str = "", level: Any = "warning") -> None:  # noqa: ANN401 - a Literal
        self.draft.remarks.append(Remark(dotted(at), message, hint, level))
