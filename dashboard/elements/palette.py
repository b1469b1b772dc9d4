"""Colours that read on light and on dark. A run keeps its colour on every page: by its number."""

from __future__ import annotations

from pmae.schema import RunState

RUN_COLORS = (
    "#4778e8",
    "#e8743b",
    "#1fa37c",
    "#b455d6",
    "#c9971c",
    "#e0507f",
    "#2aa3bf",
    "#7d8b3a",
    "#a5694f",
    "#6f7fa8",
)
STATE_COLORS: dict[RunState, str] = {
    "queued": "#8a93a3",
    "running": "#4778e8",
    "succeeded": "#1fa37c",
    "failed": "#dd4b50",
    "cancelled": "#c9971c",
}


def run_color(number: int) -> str:
    """The colour of run ``number`` (from 1)."""
    return RUN_COLORS[(number - 1) % len(RUN_COLORS)]
