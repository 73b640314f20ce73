"""The guide's use cases as it shows them: `make wizard PROJECT=x`, `# - Key: value` lines, and what is done with it.

Each `make wizard` begins a run. A loop that edits `--lr` becomes the parameter lr; edits that replace one flag by
another become an ablation. The other shell lines (deploy, logs, curl, oc) are what a cell does by itself; they are
named in one Remark and never carried out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jupyter_gpudeploy.errors import Problem, SpecError
from jupyter_gpudeploy.registry import did_you_mean
from jupyter_gpudeploy.spec.draft import Draft, Source
from jupyter_gpudeploy.spec.guide_program import Application, mode_of
from jupyter_gpudeploy.spec.guide_shell import Edits
from jupyter_gpudeploy.spec.models import Remark
from jupyter_gpudeploy.spec.problems import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WIZARD = re.compile(
    r"^[ \t]*(?:\$ )?make wizard\b.*?\bPROJECT=(?P<quote>[\"']?)(?P<name>[\w.-]+)(?P=quote)", re.MULTILINE
)
_ENTRY = re.compile(r"^[ \t]*#[ \t]*-[ \t]+(?P<key>[A-Za-z][A-Za-z ]*?)[ \t]*:[ \t]*(?P<value>.*?)[ \t]*$")
_MODES = ("Auto-start", "Job", "Manual")
_BULLET = re.compile(r"^[ \t]*#[ \t]*-[ \t]+(?P<text>.*?)[ \t]*$")
_ANNOTATION = re.compile(r"\s*(?:←|<-|<--).*$")
_PARENTHESES = re.compile(r"\s*\([^()]*\)\s*$")
_GPUS = re.compile(r"(\d+)\s*(?:x\s*)?(?:\w+\s+)?GPUs?", re.IGNORECASE)
_CPUS = re.compile(r"(\d+)\s*(?:v?CPUs?|cores?|processors?)", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?\s*[KMGT]i?B?)(?:\s+(?:of\s+)?(?:RAM|memory))?", re.IGNORECASE)
_NODES = re.compile(r"(\d+)\s*(?:nodes?|machines?)", re.IGNORECASE)


def drafts(text: str, first_line: int) -> list[Draft]:
    """Return one draft for each `make wizard`. Raises SpecError, for a line that is nearly a known one too."""
    starts = [match.start() for match in _WIZARD.finditer(text)]
    if not starts:
        raise SpecError([Problem("PROJECT= names no project", "make wizard PROJECT=my-run", first_line, 1, "PROJECT")])
    problems: list[Problem] = []
    blocks = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        block = _Block(text[start:end].split("\n"), first_line + text.count("\n", 0, start))
        blocks.append(block.draft())
        problems += block.problems
    if problems:
        raise SpecError(problems)
    return blocks


@dataclass
class _Block:
    """One `make wizard` and what follows it. `first` is the line of the cell where it stands."""

    lines: list[str]
    first: int
    problems: list[Problem] = field(default_factory=list)

    def draft(self) -> Draft:
        draft = Draft(start=self.first)
        wizard = _WIZARD.match(self.lines[0])
        if wizard is not None:
            draft.put("name", wizard["name"], Source("PROJECT", self.first, wizard.start("name") + 1))
        application = Application()
        sources: dict[str, Source] = {}
        for key, value, source in self._entries():
            sources["name"] = sources.get("name", source)
            if key in _ATTRIBUTES:
                setattr(application, _ATTRIBUTES[key], value)
                sources[_ATTRIBUTES[key]] = source
            elif key == "mode":
                sources["mode"] = source
                application.mode = mode_of(value)
                if application.mode is None:
                    self._wrong(
                        source, f"must be one of {', '.join(_MODES)}, not {shown(value)}", did_you_mean(value, _MODES)
                    )
            elif key in _KEYS:
                _KEYS[key](draft, value, source)
            elif key != "type":
                self._unknown(draft, key, source)
        sources["name"] = draft.source("name")
        application.put(draft, sources)
        if said := [match["text"] for line in self.lines if (match := _BULLET.match(line)) and not _ENTRY.match(line)]:
            message = f"taken as a comment: {'; '.join(said)}"
            draft.remarks.append(
                Remark(sources["name"].label, message, "the wizard's lines are # - Key: value", "info")
            )
        edits = Edits(self.lines, self.first)
        edits.put(draft)
        return draft

    def _entries(self) -> Iterator[tuple[str, str, Source]]:
        for number, line in enumerate(self.lines):
            if match := _ENTRY.match(line):
                value = _ANNOTATION.sub("", match["value"])
                key = re.sub(r"\s+", " ", match["key"]).lower()
                value = value if key in {"command", "arguments"} else _PARENTHESES.sub("", value)
                yield key, value, Source(match["key"], self.first + number, match.start("value") + 1)

    def _unknown(self, draft: Draft, key: str, source: Source) -> None:
        known = ["type", "mode", *_ATTRIBUTES, *_KEYS]
        hint = did_you_mean(key, [name.capitalize() for name in known])
        near = did_you_mean(key, known)
        if near.startswith("did you mean"):
            self.problems.append(
                Problem(f"the wizard has no line {source.label!r}", hint, source.line, source.column, source.label)
            )
        else:
            draft.remarks.append(Remark(source.label, "this line is not understood and left out", hint))

    def _wrong(self, source: Source, said: str, hint: str) -> None:
        self.problems.append(Problem(f"{source.label} {said}", hint, source.line, source.column, source.label))


def _text(key: str) -> Callable[[Draft, str, Source], None]:
    return lambda draft, value, source: draft.put(key, value, source)


def _number(key: str) -> Callable[[Draft, str, Source], None]:
    def put(draft: Draft, value: str, source: Source) -> None:
        match = re.match(r"\d+", value)
        draft.put(key, int(match[0]) if match else value, source)

    return put


def _resources(draft: Draft, value: str, source: Source) -> None:
    rest = value
    for key, pattern in (("gpus", _GPUS), ("cpu", _CPUS), ("nodes", _NODES), ("memory", _MEMORY)):
        if match := pattern.search(rest):
            draft.put(key, match[1].replace(" ", "") if key == "memory" else int(match[1]), source)
            rest = rest[: match.start()] + rest[match.end() :]
    if re.search(r"\w", rest):
        message = f"{rest.strip(' ,')!r} is not understood and left out"
        draft.remarks.append(Remark(source.label, message, "write it like 8 GPUs, 16 CPUs, 256GB RAM, 2 nodes"))


def _route(draft: Draft, value: str, source: Source) -> None:
    asked = value.strip().lower() not in {"", "no", "none", "false"}
    draft.put("route", asked, source)
    if asked and value.lower() not in {"yes", "true"}:
        message = f"a route is asked for; its own name {value!r} is not kept"
        draft.remarks.append(Remark(source.label, message, "it is called like the run", "info"))


_ATTRIBUTES = {
    "command": "command", "source": "source", "entry point": "entry_point", "arguments": "arguments", "model": "model"
}  # fmt: skip
_KEYS: dict[str, Callable[[Draft, str, Source], None]] = {
    "name": _text("name"), "requirements": _text("requirements"), "resources": _resources, "gpus": _number("gpus"),
    "cpus": _number("cpu"), "memory": _text("memory"), "nodes": _number("nodes"), "port": _number("port"),
    "route": _route, "cluster": _text("cluster"), "namespace": _text("namespace"),
}  # fmt: skip
