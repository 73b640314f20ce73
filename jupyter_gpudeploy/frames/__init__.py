"""What happened, as pandas DataFrames: what programs reported (`results`), what was measured of them (`samples`)."""

from jupyter_gpudeploy.frames.results import best, compare, logs, metrics, only, trials
from jupyter_gpudeploy.frames.samples import gpu, server

__all__ = ["best", "compare", "gpu", "logs", "metrics", "only", "server", "trials"]
