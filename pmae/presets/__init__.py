"""Presets: named specs. Each says its command, its cost and what to expect.

``small`` ones run on one CPU core, and their figures are this project's own. ``paper`` ones are the
cells of the paper's table; what is published is labelled so. Names are stable.
"""

from __future__ import annotations

from pmae.errors import SpecError
from pmae.presets.paper import PAPER_PRESETS
from pmae.presets.preset import Preset
from pmae.presets.small import SMALL_PRESETS

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (*SMALL_PRESETS, *PAPER_PRESETS)}

__all__ = ["PAPER_PRESETS", "PRESETS", "SMALL_PRESETS", "Preset", "get_preset"]


def get_preset(name: str) -> Preset:
    """Look a preset up.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in PRESETS:
        raise SpecError(f"unknown preset {name!r}; valid are {', '.join(PRESETS)}")
    return PRESETS[name]
