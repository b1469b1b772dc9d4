"""What a step of pretraining costs: processor time, which waiting for a processor is no part of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from benchmarks.study.records import Results
from benchmarks.study.runs import Case
from pmae.basis.fit import fit_basis
from pmae.data.floor import train_statistics
from pmae.data.registry import load_data
from pmae.objectives import objective_for
from pmae.pretrain import PretrainModule
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec

_ROUNDS = 40
_UNCOUNTED = 3


def measure_costs(results: Results, wanted: Sequence[Case]) -> None:
    """Measure a step of every preset, those of a data set in turns, and record the medians."""
    torch.set_num_threads(1)
    by_preset = {case.preset: case.spec for case in wanted}
    for dataset in {spec.dataset.name: None for spec in by_preset.values()}:
        steps = {n: _step(s) for n, s in by_preset.items() if s.dataset.name == dataset}
        for preset, seconds in _medians(steps).items():
            results.add_cost(preset, seconds)


def _step(spec: ExperimentSpec) -> Callable[[int], None]:
    """The training step of a resolved spec, the online probe and the optimiser included."""
    data = load_data(spec.dataset, StorageSettings())
    pixels, _ = train_statistics(data.train, spec.dataset.std_floor, spec.augmentation)
    basis = fit_basis(spec, data.train, pixels, lambda *_: None) if spec.basis else None
    module = PretrainModule(spec, data, pixels, objective_for(spec, basis))
    optimizer = module.configure_optimizers()

    def step(number: int) -> None:
        module.training_step(number).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _medians(steps: dict[str, Callable[[int], None]]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_UNCOUNTED + _ROUNDS):
        for name, step in steps.items():
            began = time.process_time()
            step(number)
            if number >= _UNCOUNTED:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(found) for name, found in times.items()}
