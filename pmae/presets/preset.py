"""What a preset is."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from pmae.spec import ExperimentSpec


@dataclass(frozen=True)
class Preset:
    """A named spec.

    Attributes:
        name: as ``make demo PRESET=<name>`` and ``GET /presets/<name>`` use it; of a family's
            preset with its parameters, ``paper?dataset=cifar10&ratio=0.2``.
        summary: what it shows, in a sentence.
        cost: how long it takes on which machine, or how much there is to do.
        expect: the figure to expect, and whose it is.
        spec: the spec, as its author wrote it (:func:`pmae.spec.resolve` writes the rest out).
    """

    name: str
    summary: str
    cost: str
    expect: str
    spec: ExperimentSpec

    @property
    def command(self) -> str:
        """What trains it in a terminal, without any service."""
        folder = re.sub(r"[^A-Za-z0-9._-]+", "_", self.spec.name or self.name)
        return f"pmae train {shlex.quote(self.name)} runs/{folder}"
