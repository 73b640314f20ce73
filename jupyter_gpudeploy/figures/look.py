"""What all figures have in common: colours that suit light and dark pages, and names that stay text.

plotly would take `<b>` and `$x$` in a name for markup.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from jupyter_gpudeploy.palette import COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

CROWD = 20  # lines from which a legend hides the picture
TEXT = "#7f8794"
_GRID = "rgba(127, 135, 148, 0.25)"


def text(name: object) -> str:
    """Return a name so that plotly shows it as it is, whatever it holds."""
    return html.escape(str(name), quote=False).replace("$", "&#36;")


def dressed(figure: go.Figure, note: str) -> go.Figure:
    """Return the figure in colours that suit light and dark pages, with a note below the picture."""
    axis = {"automargin": True, "gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID}
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": TEXT},
        colorway=COLOURS, margin={"l": 70, "r": 30, "t": 40, "b": 70},
    )  # fmt: skip
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    if note:
        figure.add_annotation(text=note, xref="paper", yref="paper", x=0, y=1.08, showarrow=False)
    return figure
