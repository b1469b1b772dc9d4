"""Presets: named specs. Each says its command, its cost and what to expect.

``small`` ones run on one CPU core; their figures are this project's own. ``elpv`` ones are on
photographs. The family ``paper`` has the paper's experiments; what is published is labelled so.
Names are stable.
"""

from __future__ import annotations

import difflib

from pmae.errors import SpecError
from pmae.presets.elpv import ELPV_PRESETS
from pmae.presets.family import Family, Parameter
from pmae.presets.paper import PAPER, PAPER_ALIASES
from pmae.presets.preset import Preset
from pmae.presets.small import SMALL_PRESETS

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (*SMALL_PRESETS, *ELPV_PRESETS)}
"""Those that stand for themselves."""
FAMILIES: dict[str, Family] = {family.name: family for family in (PAPER,)}
"""Those that take parameters."""

__all__ = [
    "ELPV_PRESETS",
    "FAMILIES",
    "PRESETS",
    "SMALL_PRESETS",
    "Family",
    "Parameter",
    "Preset",
    "UnknownPresetError",
    "get_preset",
    "is_preset",
]


class UnknownPresetError(SpecError):
    """There is no preset of that name."""


def is_preset(source: str) -> bool:
    """Whether a text names a preset, be its parameters valid or not, rather than a file."""
    name = source.partition("?")[0]
    return any(name in names for names in (PRESETS, FAMILIES, PAPER_ALIASES))


def get_preset(name: str) -> Preset:
    """Look a preset up.

    Args:
        name: of one, or of a family with its parameters: ``paper?dataset=cifar10&ratio=0.2``.

    Raises:
        UnknownPresetError: there is none of that name.
        SpecError: a parameter is not valid, or none is taken.
    """
    first, mark, query = name.partition("?")
    if first in FAMILIES:
        return FAMILIES[first].preset(query)
    if mark and is_preset(first):
        raise SpecError(f"preset {first} takes no parameters; valid is {first}", field=("",))
    if first in PAPER_ALIASES:
        return PAPER.preset(PAPER_ALIASES[first])
    found = PRESETS.get(first)
    if found is None:
        listed = [*PRESETS, *FAMILIES]
        close = difflib.get_close_matches(first, PAPER_ALIASES, n=5, cutoff=0.5)
        nearest = ", ".join(dict.fromkeys([*close, *listed]))
        raise UnknownPresetError(
            f"unknown preset {name!r}; the nearest are {nearest} (`pmae presets` and GET /presets "
            "list all)"
        )
    return found
