"""What the guide calls an application, as our keys: which of run:, serve: and mode: its words mean."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jupyter_gpudeploy.spec.models import Remark

if TYPE_CHECKING:
    from jupyter_gpudeploy.spec.draft import Draft, Source

MODES = ("auto_start", "job", "manual")
POD_FOLDERS = ("/workspace", "/datasets", "/models")
_VLLM = (
    re.compile(r"python[0-9.]*\s+-m\s+vllm\.entrypoints\.openai\.api_server(?:\s|$)"),
    re.compile(r"vllm\s+serve(?:\s|$)"),
)
_ENCODER = re.compile(r"(?:^|[/-])(?:distil|al|mod?ern|de)?(?:ro)?bert[a-z]*(?:-|$)|(?:^|/)electra-", re.IGNORECASE)


@dataclass
class Application:
    """What was said of the program; empty where nothing was. `source` is a path, `command` a command line."""

    command: str = ""
    source: str = ""
    entry_point: str = ""
    model: str = ""
    arguments: str = ""
    mode: Literal["auto_start", "job", "manual"] | None = None
    serves: bool = False

    def put(self, draft: Draft, sources: dict[str, Source]) -> None:
        """Set the keys that say the same; `sources` tells where each attribute was written."""
        if self.mode is not None:
            draft.put("mode", self.mode, sources["mode"])
        is_server = self.mode == "auto_start" or (self.mode is None and (self.serves or bool(self.model)))
        what = self.command or self.source
        origin = sources["command" if self.command else "source"] if what else None
        if origin and is_server and self.command and _is_vllm(self.command):
            _put_vllm(draft, self.command, origin)
        elif origin and is_server:
            draft.put("serve", "command", origin)
            draft.put("run", _with_port(draft, what, origin), origin)
        elif origin:
            draft.put("run", what, origin)
        elif self.model:
            _put_model(draft, self.model, sources["model"])
        elif not {"run", "serve", "code"} & set(draft.values):
            _put_nothing(draft, sources.get("name"))
        if self.entry_point:
            draft.put("entry_point", self.entry_point, sources["entry_point"])
        if self.arguments:
            more = draft.values.get("args")
            words = [*more, *_split(self.arguments)] if isinstance(more, list) else self.arguments
            draft.put("args", words, sources["arguments"])
        _remark_pod_paths(draft, sources)


def mode_of(text: str) -> Literal["auto_start", "job", "manual"] | None:
    """Return the mode that `Auto-start`, `auto_start` or `Job` means; None for an unknown word."""
    plain = text.strip().lower().replace("-", "_").replace(" ", "_")
    found: Literal["auto_start", "job", "manual"] | None = None
    if plain in {"auto_start", "autostart"}:
        found = "auto_start"
    elif plain == "job":
        found = "job"
    elif plain == "manual":
        found = "manual"
    return found


def pod_paths(text: str) -> list[str]:
    """Return the paths in `text` that only the guide's pods have."""
    return re.findall(rf"(?<![\w.~])(?:{'|'.join(POD_FOLDERS)})(?:/[\w./*-]*)?(?![\w-])", text)


def _is_vllm(command: str) -> bool:
    return any(pattern.match(command) for pattern in _VLLM)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _put_vllm(draft: Draft, command: str, origin: Source) -> None:
    """`python -m vllm.entrypoints.openai.api_server --model M ...` is `vllm serve M ...`."""
    words = _split(command)
    words = words[2:] if words[0] == "vllm" else words[3:]
    model = ""
    rest: list[str] = []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in {"--model", "--port", "--host"}:
            value = value if equals else words.pop(0) if words else ""
            if name == "--model":
                model = value
            elif name == "--port" and value.isdigit() and "port" not in draft.values:
                draft.put("port", int(value), origin)
        elif not model and not rest and not word.startswith("-"):
            model = word
        else:
            rest.append(word)
    draft.put("serve", "vllm", origin)
    if model:
        draft.put("model", model, origin)
    if rest:
        draft.put("args", rest, origin)
    said = f"read as serve: vllm, model: {model}" + (f", args: {shlex.join(rest)}" if rest else "")
    draft.remarks.append(Remark(origin.label, said, "host and port are chosen when it starts", "info"))


def _put_model(draft: Draft, model: str, origin: Source) -> None:
    draft.put("serve", "vllm", origin)
    draft.put("model", model, origin)
    if _ENCODER.search(model):
        draft.put("args", ["--runner", "pooling"], origin)
        message = f"{model} is an encoder: vLLM serves its vectors, not text"
        hint = "for classes name a model trained to classify, or serve: fastapi with your own code"
        draft.remarks.append(Remark(origin.label, message, hint))
    else:
        draft.remarks.append(Remark(origin.label, f"read as serve: vllm, model: {model}", "", "info"))


def _put_nothing(draft: Draft, origin: Source | None) -> None:
    """The guide's wizard makes an environment even when nothing says what runs in it."""
    asked = draft.values.get("mode")
    draft.values["mode"] = "manual"
    if asked != "manual":
        name = draft.values.get("name", "this")
        said = "" if asked is None else f", though the mode is {str(asked).replace('_', '-')}"
        message = f"nothing says what {name} runs{said}: it becomes an environment that stays up"
        hint = "add a Command:, Source: or Model: line; or run.exec(..) in it"
        draft.remarks.append(Remark(origin.label if origin else "mode", message, hint))


def _with_port(draft: Draft, command: str, origin: Source) -> str:
    """A server's own port becomes {port}, so that the next free one can be given to it."""
    match = re.search(r"(--port[ =])(\d{1,5})(?!\d)", command)
    if match is None:
        return command
    if "port" not in draft.values:
        draft.put("port", int(match[2]), origin)
    return command[: match.start(2)] + "{port}" + command[match.end(2) :]


def _remark_pod_paths(draft: Draft, sources: dict[str, Source]) -> None:
    for key, attribute in (("args", "arguments"), ("run", "source"), ("run", "command")):
        value = draft.values.get(key)
        paths = pod_paths(" ".join(value) if isinstance(value, list) else str(value or ""))
        if paths and attribute in sources:
            message = f"{', '.join(paths)}: a folder of the guide's pods, passed on as it stands"
            draft.remarks.append(Remark(sources[attribute].label, message, "name a path of the machine it runs on"))
            return
