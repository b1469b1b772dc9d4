"""The decision rule of docs/study.md: which finalists differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from benchmarks.study.design import COMPARISONS, LABEL_FRACTIONS, StudyDataset
from benchmarks.study.plan import final_name
from benchmarks.study.records import Figure, Record, Results

LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Comparison of two finalists on the same seeds.

    Attributes:
        first: name.
        second: name.
        difference: mean of first - second, in percentage points.
        low: lower end of its 95 % confidence interval (Student's t, paired).
        high: upper end.
        p: of a two-sided paired t-test, with Holm's correction over the data set's comparisons.
        ahead: the better one; None: the difference is not significant.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    ahead: str | None


def compare(results: Results, dataset: StudyDataset) -> list[Comparison]:
    """Make the design's comparisons of finalists that have two or more seeds in common."""
    found: list[tuple[str, str, list[float]]] = []
    for first, second in COMPARISONS:
        ours, others = (by_seed(results, dataset, name) for name in (first, second))
        seeds = sorted(ours.keys() & others.keys())
        if len(seeds) > 1:
            found.append((first, second, [100 * (ours[s] - others[s]) for s in seeds]))
    corrected = holm([paired_p(differences) for _, _, differences in found])
    return [
        _comparison(first, second, differences, p)
        for (first, second, differences), p in zip(found, corrected, strict=True)
    ]


def _comparison(first: str, second: str, differences: Sequence[float], p: float) -> Comparison:
    mean = statistics.mean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    reach = float(stats.t.ppf(1 - LEVEL / 2, len(differences) - 1)) * error
    ahead = None if p > LEVEL else first if mean > 0 else second
    return Comparison(first, second, mean, mean - reach, mean + reach, p, ahead)


def paired_p(differences: Sequence[float]) -> float:
    """Two-sided p value for a mean difference of 0; 1 if all differences are 0."""
    if not any(differences):
        return 1.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Apply Holm's correction to p values (Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, running_max = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        running_max = max(running_max, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = running_max
    return corrected


def by_seed(results: Results, dataset: StudyDataset, finalist: str) -> dict[int, float]:
    """A finalist's accuracy for the comparison, by seed; ``untrained`` is a control."""
    source = "untrained_encoder" if finalist == "untrained" else "encoder"
    name = "pmae" if finalist == "untrained" else finalist
    found: dict[int, float] = {}
    for record in results.of(final_name(dataset, name)):
        figure = find(record, "linear", "mean", source, LABEL_FRACTIONS[0])
        if figure is not None:
            found[record.seed] = judged(figure, dataset)
    return found


def judged(figure: Figure, dataset: StudyDataset) -> float:
    """Accuracy or balanced accuracy on test images, by the data set's ``figure``."""
    value: float = getattr(figure, dataset.figure)
    return value


def find(
    record: Record, protocol: str, features: str, source: str, fraction: float
) -> Figure | None:
    """Find the figure of a run for a column; ``features`` is "any" for raw pixels."""
    for figure in record.figures:
        kind = (figure.protocol, figure.source, figure.label_fraction)
        if kind == (protocol, source, fraction) and features in (figure.features, "any"):
            return figure
    return None
