"""The learning rate as a function of the step, which a resumed run computes anew."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, total_steps: int, warmup_steps: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up from 0, then half a cosine to 0.

    Args:
        step: steps finished before this one, from 0.
        total_steps: steps of the whole run.
        warmup_steps: steps of the warm-up; need not be whole.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if total_steps <= warmup_steps:
        return 1.0
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
