"""Colours that are seen on white pages and on dark ones, one set for every picture."""

from __future__ import annotations

COLOURS = ("#3b82f6", "#f97316", "#22a565", "#d946a8", "#8b5cf6", "#c59a12", "#0ea5a5", "#e5484d", "#7c8798", "#84a50e")
DASHES = ("", "14 7", "4 7")


def colour(number: int) -> str:
    """Return the colour of a trial, a replica or a GPU: the same in all pictures."""
    return COLOURS[number % len(COLOURS)]


def dash(number: int) -> str:
    """Return how the line of a trial is dashed, so that those that share a colour differ; empty for the first ten."""
    return DASHES[number // len(COLOURS) % len(DASHES)]
