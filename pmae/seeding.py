"""All randomness is a function of (seed, purpose, index).

Resuming in the middle of an epoch then needs no stored generator state, and the mask that any step
saw can be drawn again. Generators live on the CPU, so that a GPU run draws the same masks.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch

Purpose = Literal[
    "order",
    "augment",
    "mask",
    "init",
    "probe",
    "probe_init",
    "probe_augment",
    "split",
    "subset",
    "std_floor",
    "reconstruct",
    "val",
    "filmstrip",
    "basis",
    "basis_augment",
    "monitor",
]


def derive_seed(seed: int, purpose: Purpose, index: int = 0) -> int:
    """A 63-bit seed that differs for every purpose and index."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, purpose: Purpose, index: int = 0) -> torch.Generator:
    """A CPU generator for one purpose at one index (an epoch or a step)."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, index))
