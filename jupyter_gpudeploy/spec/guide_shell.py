"""The shell lines of the guide that change what is asked for: a loop over values, and edits of the arguments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.spec.draft import Source
from jupyter_gpudeploy.spec.models import Remark
from jupyter_gpudeploy.spec.yaml import scalar

if TYPE_CHECKING:
    from jupyter_gpudeploy.spec.draft import Draft

_LOOP = re.compile(r"^\s*for\s+(?P<name>[A-Za-z_]\w*)\s+in\s+(?P<values>[^;]*?)\s*;?\s*(?:do\s*)?$")
_SUBSTITUTION = re.compile(
    r"\bsed\s+(?:-\S+\s+)*(?P<quote>[\"'])s(?P<mark>[/|#,])(?P<old>.*?)(?P=mark)(?P<new>.*?)(?P=mark)g?(?P=quote)"
)
_OPTION = re.compile(r"(?P<flag>--?[A-Za-z][\w-]*)(?P<joint>[ =])(?P<value>\S.*)")
_FLAG = re.compile(r"--[A-Za-z][\w-]*")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")
_COMMAND = re.compile(r"^\s*(?:\$ )?(?P<word>\./scripts/[\w.-]+|[A-Za-z][\w.-]*)(?=\s|$)")
_NOT_NAMED = frozenset(
    {"make", "for", "do", "done", "sed", "echo", "sleep", "cat", "if", "fi", "then", "EOF", "export"}
)
_MOST_NAMED = 6


class Edits:
    """What the lines of one block do to its arguments. `first` is the line of the cell where the block stands."""

    def __init__(self, lines: list[str], first: int) -> None:
        self.loops: dict[str, tuple[list[Any], Source]] = {}
        self.swept: dict[str, tuple[str, str, Source]] = {}
        self.switched: list[tuple[str, str, Source]] = []
        self.remarks: list[Remark] = []
        self._commands: list[str] = []
        for number, line in enumerate(lines):
            self._read(line, first + number)

    def put(self, draft: Draft) -> None:
        """Turn the edits into parameters of `draft`."""
        arguments = draft.values.get("args", "")
        text = " ".join(arguments) if isinstance(arguments, list) else str(arguments)
        if self.swept:
            text = self._put_sweep(draft, text)
        if self.switched:
            text = self._put_ablation(draft, text)
        if not text:
            draft.values.pop("args", None)
        elif self.swept or self.switched:
            draft.put("args", text, draft.sources.get("args", draft.source("parameters")))
        draft.remarks += self.remarks
        if named := list(dict.fromkeys(self._commands)):
            listed = ", ".join(named[:_MOST_NAMED]) + (", ..." if len(named) > _MOST_NAMED else "")
            message = f"shell lines are not carried out: {listed}"
            hint = "running the cell starts it; %deploy logs, status and results show it"
            draft.remarks.append(Remark(str(draft.values.get("name", "")), message, hint, "info"))

    def _read(self, line: str, number: int) -> None:
        if line.lstrip().startswith("#"):
            return
        source = Source("the loop", number, len(line) - len(line.lstrip()) + 1)
        if (loop := _LOOP.match(line)) and "$(" not in loop["values"]:
            self.loops[loop["name"]] = [scalar(word) for word in loop["values"].split()], source
        elif edit := _SUBSTITUTION.search(line):
            self._edit(edit["old"], edit["new"], Source("sed", number, edit.start() + 1))
        elif (command := _COMMAND.match(line)) and command["word"] not in _NOT_NAMED:
            self._commands.append(command["word"])

    def _edit(self, old: str, new: str, source: Source) -> None:
        option = _OPTION.fullmatch(new)
        variable = _VARIABLE.fullmatch(option["value"]) if option else None
        if option and variable and variable[1] in self.loops:
            values, loop = self.loops[variable[1]]
            if any(isinstance(value, str) and "$" in value for value in values):
                message = "the values of the loop are not in the cell"
                self.remarks.append(Remark(loop.label, message, f"parameters: {{{variable[1]}: [..]}}"))
                return
            self.swept[variable[1]] = option["flag"], option["joint"], loop
        elif _FLAG.fullmatch(old) and _FLAG.fullmatch(new):
            self.switched.append((old, new, source))
        else:
            self.remarks.append(Remark(source.label, f"the edit of {old!r} is not understood", "write parameters:"))

    def _put_sweep(self, draft: Draft, text: str) -> str:
        parameters = draft.values.setdefault("parameters", {})
        for name, (flag, joint, source) in self.swept.items():
            parameters[name] = self.loops[name][0]
            draft.sources["parameters"] = source
            placed, count = re.subn(rf"(?<!\S){re.escape(flag)}[ =]+\S+", f"{flag}{joint}{{{name}}}", text, count=1)
            text = placed if count else f"{text} {flag}{joint}{{{name}}}".strip()
            listed = ", ".join(str(value) for value in parameters[name])
            hint = f"parallelism: {len(parameters[name])} starts them all together, as the loop does"
            self.remarks.append(
                Remark(source.label, f"read as parameters.{name}: {listed}, one at a time", hint, "info")
            )
        return text

    def _put_ablation(self, draft: Draft, text: str) -> str:
        parameters = draft.values.setdefault("parameters", {})
        for old, new, source in self.switched:
            name = _component(old, new)
            parameters[name] = {"values": [True, False], "flags": [old, new]}
            draft.sources.setdefault("parameters", source)
            text = " ".join(word for word in text.split() if word not in (old, new))
        first = self.switched[0][2]
        if "method" not in draft.values:
            draft.put("method", "ablation", first)
        listed = ", ".join(parameters)
        message = f"read as method: ablation of {listed}: each trial changes one of them, the edits as written add up"
        self.remarks.append(Remark(first.label, message, "method: grid tries every combination"))
        return text


def _component(on: str, off: str) -> str:
    """Return what two flags switch: `--use-attention` and `--no-attention` switch attention."""
    one, other = on.removeprefix("--").split("-"), off.removeprefix("--").split("-")
    shared = []
    while one and other and one[-1] == other[-1]:
        shared.append(one.pop())
        other.pop()
    return "_".join(reversed(shared)) or "_".join(on.removeprefix("--").split("-"))
