"""Tables as plotly figures, in colours that suit light and dark pages: one file a picture, `look` what they share."""

from jupyter_gpudeploy.figures.comparison import compare
from jupyter_gpudeploy.figures.overview import curves
from jupyter_gpudeploy.figures.samples import gpu

__all__ = ["compare", "curves", "gpu"]
