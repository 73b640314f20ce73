"""How a form is opened: a new one, one filled from a run's cell, one that replaces the cell it stands below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_gpudeploy.errors import GpuDeployError

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_gpudeploy.notebook.wizard.form import Wizard
    from jupyter_gpudeploy.run import Run


def new(shell: InteractiveShell, backend: str | None = None) -> Wizard:
    """Return an empty form, or one that begins with this backend."""
    form = _form(shell)
    if backend is not None:
        form.change(("backend",), backend)
    return form


def from_run(shell: InteractiveShell, run: Run) -> Wizard:
    """Return a form filled from the cell of a run."""
    from jupyter_gpudeploy.spec.edit import opened

    cell = opened(run.cell)
    if "name" not in cell.values:  # it stood on the magic line
        cell = cell.with_value(("name",), run.record["title"])
    return _form(shell, cell=cell.text)


def from_cell(shell: InteractiveShell, cell: str, name: str | None = None) -> Wizard:
    """Return a form filled from a cell below `%%deploy wizard`, which its text replaces."""
    return _form(
        shell, cell=cell if cell.strip() else "", line=f"%%deploy {name}" if name else "%%deploy", replaces=True
    )


def _form(shell: InteractiveShell, **options: Any) -> Wizard:  # noqa: ANN401 - those of Wizard
    if getattr(shell, "kernel", None) is None:
        raise GpuDeployError(
            "the wizard is a form, and a terminal shows none",
            hint="open it in JupyterLab or Notebook; here: %deploy help, and %%deploy plan below your cell",
        )
    try:
        from jupyter_gpudeploy.notebook.wizard.form import Wizard
    except ImportError as error:
        hint = "pip install ipywidgets, then restart the kernel"
        raise GpuDeployError(f"the wizard needs ipywidgets: {error}", hint=hint) from None
    return Wizard(**options)
