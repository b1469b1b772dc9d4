"""``pmae presets``: list the presets and the preset families with their parameters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Annotated

import typer

from pmae.cli.output import print_facts
from pmae.presets import FAMILIES, PRESETS, Family, Preset, get_preset

_WIDTH = 118
"""Characters per line, on every terminal: the list fits 120 columns."""


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show one preset in full. Quote a family's parameters: "
            "'paper?dataset=bloodmnist&ratio=0.3'."
        ),
    ] = None,
) -> None:
    """List the presets: purpose, cost and expected result of each."""
    if name is None:
        lines = [*_singles(), *(line for family in FAMILIES.values() for line in _family(family))]
        typer.echo("\n".join(lines))
        return
    preset = get_preset(name)
    facts = [
        ("preset", preset.name),
        ("what", preset.summary),
        ("cost", preset.cost),
        ("expect", preset.expect),
        ("command", preset.command),
    ]
    print_facts(facts)
    if name in FAMILIES:
        typer.echo("\nThis is the family with its defaults. Its parameters:")
        for parameter in FAMILIES[name].parameters:
            default = f" (default {parameter.default})"
            typer.echo(f"  {parameter.name}: {parameter.meaning}{default}")
            typer.echo(_wrapped(f"      {parameter.valid}", 6))


def _singles() -> Iterator[str]:
    for preset in PRESETS.values():
        yield from _single(preset)
    yield ""


def _single(preset: Preset) -> Iterator[str]:
    yield _wrapped(f"{preset.name}: {preset.summary}", 4)
    yield _wrapped(f"    {preset.cost}; {preset.expect}", 4)


def _family(family: Family) -> Iterator[str]:
    yield _wrapped(f"{family.name}: {family.summary}", 4)
    yield f"    for example '{family.example}'; parameters, defaults and valid values:"
    names = max(len(parameter.name) for parameter in family.parameters)
    defaults = max(len(parameter.default) for parameter in family.parameters)
    for parameter in family.parameters:
        before = f"    {parameter.name:<{names}}  {parameter.default:<{defaults}}  "
        yield _wrapped(before + parameter.valid, len(before))
    yield ""


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
        drop_whitespace=True,
    )
