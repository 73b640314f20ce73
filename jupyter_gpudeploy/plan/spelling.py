"""How a script spells the options of its parameters: `batch_size` in the cell, `--batch-size` for argparse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_gpudeploy.plan.types import Source

_LONGEST = 1 << 20


def spelled(sources: Iterable[Source], names: Iterable[str]) -> dict[str, str]:
    """Return the option of each parameter that the scripts spell with hyphens, and nowhere with underscores.

    An option counts where it stands in quotes, as argparse, click and their like want it. Scripts are read, never run.
    """
    wanted = [name for name in names if "_" in name]
    scripts = [Path(source.path) for source in sources if source.path.endswith(".py")] if wanted else []
    return spelled_in("\n".join(_text(script) for script in scripts), wanted)


def spelled_in(text: str, names: Iterable[str]) -> dict[str, str]:
    """Return the same for the text of a script."""
    found = {name: name.replace("_", "-") for name in names if "_" in name}
    return {name: option for name, option in found.items() if _has(text, option) and not _has(text, name)}


def _has(text: str, option: str) -> bool:
    return re.search(rf"""['"]--{re.escape(option)}(?:/[^'"]*)?['"]""", text) is not None


def _text(script: Path) -> str:
    try:
        with script.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_LONGEST)
    except OSError:
        return ""
