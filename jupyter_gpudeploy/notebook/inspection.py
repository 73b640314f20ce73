"""Shift-Tab in every front end: what a key of a `%%deploy` cell means, what can be written on a `%deploy` line.

A front end asks the kernel with the whole cell, and the kernel would look for a Python name. So the kernel's answer is
ours where the cursor stands in a header or on one of our lines, and its own everywhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from IPython.core.interactiveshell import InteractiveShell

_CELL = re.compile(r"%%deploy(?P<rest>\s.*)?")
_LINE = re.compile(r"\s*(?:[\w.,\s]+=\s*)?%deploy(?P<rest>\s.*)?")
_KEY = re.compile(r"(?P<indent> *)(?P<key>[\w.-]+):(?:\s.*)?")


def register(shell: InteractiveShell) -> None:
    """Answer for our cells in this shell, if it has a kernel."""
    unregister(shell)
    kernel = getattr(shell, "kernel", None)
    ask: Any = getattr(kernel, "do_inspect", None)
    if ask is not None:
        kernel.do_inspect = _answering(ask)  # type: ignore[union-attr] # there is one, as it has the method


def unregister(shell: InteractiveShell) -> None:
    """Let the kernel answer alone again."""
    kernel = getattr(shell, "kernel", None)
    ask = vars(kernel).get("do_inspect") if kernel is not None else None
    if getattr(ask, "gpudeploy", False):
        del kernel.do_inspect  # type: ignore[union-attr] # see above


def help_at(code: str, position: int) -> str:
    """Return the help for the place of the cursor, an offset in characters; empty where it is not ours."""
    before = code[:position]
    row = before.count("\n")
    lines = code.split("\n")
    in_cell = _CELL.fullmatch(lines[0])
    if in_cell and row:
        return _of_key(lines[1 : row + 1])
    if in_cell:
        return _of_line(in_cell["rest"] or "", is_cell=True)
    on_line = _LINE.fullmatch(lines[row])
    return _of_line(on_line["rest"] or "", is_cell=False) if on_line else ""


def _answering(ask: Callable[..., Any]) -> Callable[..., Any]:
    def do_inspect(code: str, cursor_pos: int, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - those of the kernel
        try:
            text = help_at(code, cursor_pos)
        except Exception:  # noqa: BLE001 - help that fails is no help, and the kernel has its own
            text = ""
        if not text:
            return ask(code, cursor_pos, *args, **options)
        return {"status": "ok", "found": True, "data": {"text/plain": text}, "metadata": {}}

    do_inspect.gpudeploy = True  # type: ignore[attr-defined] # by which it is known again
    return do_inspect


def _of_line(rest: str, *, is_cell: bool) -> str:
    from jupyter_gpudeploy.notebook.arguments import CELL_VERBS, VERBS, help_text

    verb = next(iter(rest.split()), "")
    if is_cell:
        return help_text(verb if verb in CELL_VERBS else None, cell=True)
    return help_text(verb if verb in VERBS else None)


def _of_key(header: list[str]) -> str:
    """Return what is known of the key in whose line or value the cursor stands: the last of `header`."""
    from jupyter_gpudeploy.notebook.header import described

    *above, line = header
    if "---" in map(str.rstrip, header):
        return ""
    match = _KEY.fullmatch(line)
    found = described(above, len(match["indent"]), match["key"]) if match else None
    if found is not None:
        return _told(*found)
    # a value over several lines, or a name of the person's own: what it stands in is told
    indent = len(line) - len(line.lstrip())
    outer = [_KEY.fullmatch(one) for one in above]
    at = next((n for n in reversed(range(len(above))) if (one := outer[n]) and len(one["indent"]) < indent), None)
    return "" if at is None else _of_key(above[: at + 1])


def _told(path: str, schema: Mapping[str, Any], words: list[str]) -> str:
    lines = [path, "", schema.get("description", "")]
    if words:
        lines += ["", f"one of: {', '.join(words)}"]
    if schema.get("default") not in (None, "", False):
        lines += ["", f"unless said: {schema['default']}"]
    if examples := schema.get("examples"):
        lines += ["", f"for example: {', '.join(map(str, examples))}"]
    return "\n".join(lines).rstrip() + "\n"
