"""`%deploy` and `%%deploy`: parse, call, return. Nothing is imported before it is used, so `%load_ext` is cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.notebook import completion, inspection, reprs

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NAME = "deploy"


def register(shell: InteractiveShell) -> None:
    """Bring the magics, the displays and the completion into this shell."""
    from IPython.core.magic import no_var_expand, output_can_be_silenced

    @no_var_expand
    @output_can_be_silenced
    def deploy(line: str, cell: str | None = None) -> Any:  # noqa: ANN401 - each verb's own value
        """Start what a cell says (`%%deploy`), see and drive what was started (`%deploy VERB`).

        `%deploy help` tells everything that can be written. A line returns a value, `df = %deploy results NAME`; a
        cell returns none, shows its run, and stores it with `-o VAR`. The last run started is also in `_deploy`.
        """
        from jupyter_gpudeploy.notebook import arguments, verbs

        if cell is None:
            return verbs.line_verb(shell, arguments.parse_line(line))
        return verbs.cell_verb(shell, arguments.parse_cell_line(line), cell)

    magics: Any = shell.magics_manager
    magics.register_function(deploy, magic_kind="line_cell", magic_name=NAME)
    if _with_body not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.insert(0, _with_body)
    reprs.register(shell)
    completion.register(shell)
    inspection.register(shell)


def unregister(shell: InteractiveShell) -> None:
    """Take all of it away again. Runs go on; their displays stay as they are."""
    from jupyter_gpudeploy.notebook import live

    live.close()
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop(NAME, None)
    if _with_body in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_with_body)
    reprs.unregister(shell)
    completion.unregister(shell)
    inspection.unregister(shell)


def _with_body(lines: list[str]) -> list[str]:
    """Give a `%%deploy` line without a body an empty one.

    IPython itself refuses a cell magic without a body by a UsageError, which nbval takes for success.
    """
    is_bare = bool(lines) and lines[0].split()[:1] == [f"%%{NAME}"] and not "".join(lines[1:]).strip()
    return [lines[0].rstrip("\n") + "\n", "\n"] if is_bare else lines
