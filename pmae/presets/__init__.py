"""Presets: named specs, each with its command, its cost and the figure to expect.

``small`` holds those for one CPU core, with figures that this project measured; ``elpv`` those on
photographs; and the family ``paper`` the paper's experiments, with published figures labelled so.
Names are stable.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from pmae.errors import SpecError
from pmae.presets.elpv import ELPV_PRESETS
from pmae.presets.family import Family, Parameter
from pmae.presets.paper import PAPER, PAPER_ALIASES
from pmae.presets.preset import Preset
from pmae.presets.small import SMALL_PRESETS
from pmae.spec import RunSpec
from pmae.spec.run_spec import parse_spec, read_spec_file

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (*SMALL_PRESETS, *ELPV_PRESETS)}
"""Presets without parameters, by name."""
FAMILIES: dict[str, Family] = {family.name: family for family in (PAPER,)}
"""Presets with parameters, by name."""

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
    "load_spec",
]


class UnknownPresetError(SpecError):
    """No preset has the given name."""


def is_preset(source: str) -> bool:
    """True if a text names a preset, even one with invalid parameters, rather than a file."""
    name = source.partition("?")[0]
    return any(name in names for names in (PRESETS, FAMILIES, PAPER_ALIASES))


def get_preset(name: str) -> Preset:
    """Look up a preset.

    Args:
        name: of a preset, or of a family with parameters: ``paper?dataset=cifar10&ratio=0.2``.

    Raises:
        UnknownPresetError: there is none of that name.
        SpecError: an invalid parameter, or parameters of a preset that takes none.
    """
    first, mark, query = name.partition("?")
    if first in FAMILIES:
        return FAMILIES[first].preset(query)
    if mark and is_preset(first):
        raise SpecError(f"preset {first} takes no parameters; expected {first}", field=("",))
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


def load_spec(source: str, *, version: int | None = None) -> RunSpec:
    """Read a spec from a JSON or YAML file, or take the preset of that name.

    Args:
        source: the file or the name.
        version: of the format that a pretraining's spec has if it names none; default: the present.

    Raises:
        SpecError: there is neither, or the file does not hold a spec.
    """
    path = Path(source)
    if is_preset(source) or not path.is_file():
        fields = get_preset(source).spec.model_dump(mode="json", exclude_unset=True)
    else:
        fields = read_spec_file(path)
    if version is not None and fields.get("kind", "pretrain") == "pretrain":
        fields = {"version": version, **fields}
    return parse_spec(fields, source)
