"""Presets: named specs. Each says its command, its cost and what to expect.

``small`` ones run on one CPU core; their figures are this project's own. ``elpv`` ones are on
photographs. ``paper`` ones are the cells of the paper's table; what is published is labelled so.
Names are stable.
"""

from __future__ import annotations

import difflib

from pmae.errors import SpecError
from pmae.presets.elpv import ELPV_PRESETS
from pmae.presets.paper import PAPER_PRESETS
from pmae.presets.preset import Preset
from pmae.presets.small import SMALL_PRESETS

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (*SMALL_PRESETS, *ELPV_PRESETS, *PAPER_PRESETS)
}

__all__ = [
    "ELPV_PRESETS",
    "PAPER_PRESETS",
    "PRESETS",
    "SMALL_PRESETS",
    "Preset",
    "get_preset",
]


def get_preset(name: str) -> Preset:
    """Look a preset up.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=5, cutoff=0.5)
        small = [preset.name for preset in SMALL_PRESETS]
        nearest = ", ".join(dict.fromkeys([*close, *small]))
        raise SpecError(
            f"unknown preset {name!r}; the nearest of {len(PRESETS)} are {nearest} (`pmae presets` "
            "and GET /presets list all)"
        )
    return PRESETS[name]
