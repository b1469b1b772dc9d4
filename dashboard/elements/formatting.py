"""Format numbers, times and names for display."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from pmae.metrics import METRICS
from pmae.schema import Checkpoint, Evaluation, RunSummary
from pmae.spec import PROTOCOL_NAMES, SHORT_PROTOCOL_NAMES

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
_FEATURES = {
    "encoder": "trained encoder",
    "untrained_encoder": "untrained encoder",
    "raw_pixels": "raw pixels",
}


def duration(seconds: float) -> str:
    """``47 s``, ``3 min 05 s``, ``2 h 14 min``, ``3 d 4 h``."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def age(at: datetime, now: datetime | None = None) -> str:
    """Format an age in one unit: ``just now``, ``12 min ago``, ``3 days ago``."""
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    for unit, name in ((_DAY, "day"), (_HOUR, "h"), (_MINUTE, "min")):
        count = int(seconds // unit)
        if count >= 1:
            plural = "s" if name == "day" and count > 1 else ""
            return f"{count} {name}{plural} ago"
    return "just now"


def clock(at: datetime) -> str:
    """Date and time in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def percent(share: float) -> str:
    """A share from 0 to 1 as ``91.2 %``."""
    return f"{100 * share:.1f} %"


def metric(name: str, value: float) -> str:
    """A metric's value: a fraction in percent, anything else by :func:`figure`."""
    return percent(value) if METRICS[name].is_fraction else figure(value)


def newest(values: Mapping[str, float], *names: str) -> str:
    """The value of the first of these metrics that is there."""
    found = next((name for name in names if name in values), None)
    return "–" if found is None else metric(found, values[found])


def figure(value: float) -> str:
    """Four significant digits: ``0.4312``, ``12.31``, ``3.2e-05``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e4:
        return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return f"{value:.3g}"


def size(num_bytes: int) -> str:
    """``512 B``, ``4.2 MB``; powers of ten."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(number: int) -> str:
    """With commas between thousands."""
    return f"{number:,}"


def epoch(value: float) -> str:
    """Whole or with the share of the epoch under way: ``100``, ``96.8``."""
    return f"{value:.1f}".removesuffix(".0")


def run_label(run: RunSummary, method: str) -> str:
    """A run in a list to choose from, with its method's title; it never changes."""
    return f"#{run.number} {run.name} ({method}, {run.dataset})"


def checkpoint_label(checkpoint: Checkpoint) -> str:
    """A checkpoint in a list to choose from."""
    return f"Step {count(checkpoint.step)} (epoch {epoch(checkpoint.epoch)})"


def evaluation_label(evaluation: Evaluation) -> str:
    """Name the evaluated features, and the data set of a transfer."""
    label = _FEATURES.get(evaluation.features, evaluation.features)
    other = (evaluation.details.get("spec") or {}).get("dataset")
    return f"{label}, on {other['name']}" if other else label


def protocol_label(evaluation: Evaluation) -> str:
    """Name the protocol; the second evaluation of a protocol in a run has a number."""
    name, _, number = evaluation.key.partition("/")[0].partition("-")
    return f"{SHORT_PROTOCOL_NAMES.get(name, name)} {number}".rstrip()


def protocol_title(protocol: str) -> str:
    """A protocol at the beginning of a line: ``Linear probe``, ``k-NN``."""
    name = PROTOCOL_NAMES[protocol]
    return name if name.startswith("k-") else name[0].upper() + name[1:]


def top1(evaluation: Evaluation) -> str:
    """``91.2 %``, or ``91.2 % ± 0.3`` over several seeds; and balanced, where classes differ."""
    std = evaluation.details.get("top1_std")
    shown = percent(evaluation.top1) + ("" if std is None else f" ± {100 * std:.1f}")
    balanced = evaluation.telling_balanced_accuracy
    return shown if balanced is None else f"{shown} (balanced {percent(balanced)})"


def run_seconds(run: RunSummary, now: datetime | None = None) -> float | None:
    """Return the seconds that a run has been running, or ran; None before its start."""
    if run.started_at is None:
        return None
    return ((run.finished_at or now or datetime.now(UTC)) - run.started_at).total_seconds()
