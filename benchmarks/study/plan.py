"""Plan the next pretrainings: first tuning, then the finalists at the chosen settings."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.study.design import (
    BASE_LR,
    DATASETS,
    FINALISTS,
    LEARNING_RATES,
    LONG_FINALISTS,
    RATIOS,
    SEEDS,
    TUNING_SEEDS,
    Choice,
    Finalist,
    StudyDataset,
    final_evaluations,
    spec_fields,
    tuning_evaluations,
)
from benchmarks.study.records import Results
from pmae.spec import ExperimentSpec, resolve


@dataclass(frozen=True)
class Case:
    """A pretraining with one seed.

    Attributes:
        name: the same for every seed.
        spec: resolved.
        noise: True = noise instead of masking.
    """

    name: str
    spec: ExperimentSpec
    noise: bool = False

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.name.replace('/', '-')}-seed{self.spec.seed}"


def next_cases(
    results: Results, *, long: bool = False, words: Sequence[str] = ()
) -> tuple[list[Case], list[str]]:
    """List the unrecorded cases that the recorded results determine.

    A method's learning rates can be tried once its ratios are recorded, its finalists once both
    are.

    Args:
        results: recorded so far.
        long: True = include the finalists of the longer study.
        words: that must all be part of a case's name.

    Returns:
        The cases, and the names (``fashion_mnist/pmae``) of the steps whose cost must be measured
        to determine further cases.
    """
    found: list[Case] = []
    uncosted: list[str] = []
    for dataset in DATASETS:
        choices: dict[str, Choice] = {}
        for method in RATIOS:
            cases = list(_tuning(dataset, method, results))
            found += cases
            choice = choose(results, dataset, method)
            if choice is not None:
                choices[method] = choice
        if len(choices) < len(RATIOS):
            continue
        needed = [name for m in RATIOS if (name := f"{dataset.name}/{m}") not in results.costs]
        uncosted += needed
        if not needed:
            found += _finals(dataset, choices, results, long=long)
    wanted = [case for case in found if all(word in case.name for word in words)]
    return [case for case in wanted if not results.has(case.name, case.spec)], uncosted


def tuning_name(dataset: StudyDataset, method: str, choice: Choice) -> str:
    """Name of a tuning case, such as ``tune/digits/pmae/0.2/0.004``."""
    return f"tune/{dataset.name}/{method}/{choice.ratio}/{choice.base_lr}"


def final_name(dataset: StudyDataset, finalist: str) -> str:
    """Name of a finalist's case, such as ``final/digits/pmae``."""
    return f"final/{dataset.name}/{finalist}"


def finalists(dataset: StudyDataset, *, long: bool) -> list[Finalist]:
    """Finalists of a data set."""
    every = (*FINALISTS, *LONG_FINALISTS) if long else FINALISTS
    return [finalist for finalist in every if dataset.name in finalist.datasets]


def choose(results: Results, dataset: StudyDataset, method: str) -> Choice | None:
    """Choose the best ratio, then the best learning rate at it, by mean validation accuracy.

    Returns:
        None until all the tuning runs that it depends on are recorded.
    """
    best = _best(results, dataset, method, [Choice(r, BASE_LR) for r in RATIOS[method]])
    if best is None:
        return None
    return _best(results, dataset, method, [Choice(best.ratio, lr) for lr in LEARNING_RATES])


def _best(
    results: Results, dataset: StudyDataset, method: str, candidates: Sequence[Choice]
) -> Choice | None:
    means: dict[Choice, float] = {}
    for candidate in candidates:
        records = results.of(tuning_name(dataset, method, candidate))
        if len(records) < len(TUNING_SEEDS):
            return None
        name = f"val_{dataset.figure}"
        means[candidate] = statistics.mean(getattr(r.figures[0], name) for r in records)
    return max(candidates, key=lambda candidate: means[candidate])


def _tuning(dataset: StudyDataset, method: str, results: Results) -> Iterator[Case]:
    first = [Choice(ratio, BASE_LR) for ratio in RATIOS[method]]
    best = _best(results, dataset, method, first)
    second = [] if best is None else [Choice(best.ratio, lr) for lr in LEARNING_RATES]
    for choice in dict.fromkeys([*first, *second]):
        for seed in TUNING_SEEDS:
            fields = spec_fields(
                dataset, method, choice, {"evaluations": tuning_evaluations(), "seed": seed}
            )
            yield _case(tuning_name(dataset, method, choice), fields)


def _finals(
    dataset: StudyDataset, choices: dict[str, Choice], results: Results, *, long: bool
) -> Iterator[Case]:
    for seed in SEEDS:
        for finalist in finalists(dataset, long=long):
            more = {
                **finalist.fields,
                "evaluations": final_evaluations(dataset, finalist),
                "seed": seed,
            }
            if finalist.equal_time:
                epochs = equal_time_epochs(results, dataset)
                more |= {"epochs": epochs, "checkpoint": {"every_epochs": epochs}}
            fields = spec_fields(dataset, finalist.method, choices[finalist.method], more)
            yield _case(final_name(dataset, finalist.name), fields, noise=finalist.noise)


def equal_time_epochs(results: Results, dataset: StudyDataset) -> int:
    """Epochs of MAE that take as much processor time as PMAE's."""
    pmae, mae = (results.costs[f"{dataset.name}/{method}"] for method in ("pmae", "mae"))
    return round(dataset.epochs * pmae / mae)


def _case(name: str, fields: dict[str, object], *, noise: bool = False) -> Case:
    return Case(name, resolve(ExperimentSpec.model_validate({"name": name, **fields})), noise)
