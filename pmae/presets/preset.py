"""Presets: named specs with cost and expected figure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pmae.spec import ExperimentSpec


@dataclass(frozen=True)
class Preset:
    """A named spec.

    Attributes:
        name: as in ``make demo PRESET=<name>`` and ``GET /presets/<name>``; with parameters for a
            preset of a family, ``paper?dataset=cifar10&ratio=0.2``.
        summary: in a sentence.
        cost: duration on a named machine, or the amount of work.
        expect: figure to expect, and who measured it.
        spec: with the author's fields only (:func:`pmae.spec.resolve` fills in the others).
    """

    name: str
    summary: str
    cost: str
    expect: str
    spec: ExperimentSpec

    @property
    def command(self) -> str:
        """Shell command that trains it without the service."""
        folder = re.sub(r"[^A-Za-z0-9._-]+", "_", self.spec.name or self.name)
        return f"pmae train {shlex.quote(self.name)} runs/{folder}"
