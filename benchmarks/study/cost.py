"""Measure the processor time of a training step, without waiting for a busy processor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from pmae.basis.fit import fit_basis
from pmae.data.registry import load_data
from pmae.data.transforms.floor import train_statistics
from pmae.methods.base import method_for
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec
from pmae.training.module import PretrainModule

_ROUNDS = 40
_UNCOUNTED = 3


def step_costs(specs: Mapping[str, ExperimentSpec]) -> dict[str, float]:
    """Measure the median processor time in seconds of a step of each resolved spec, in turns."""
    torch.set_num_threads(1)
    steps = {name: _step(spec) for name, spec in specs.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_UNCOUNTED + _ROUNDS):
        for name, step in steps.items():
            began = time.process_time()
            step(number)
            if number >= _UNCOUNTED:
                times[name].append(time.process_time() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def _step(spec: ExperimentSpec) -> Callable[[int], None]:
    """Make the training step of a resolved spec, with online probe and optimiser."""
    data = load_data(spec.dataset, StorageSettings())
    pixels, _ = train_statistics(data.train, spec.dataset.std_floor, spec.augmentation)
    basis = fit_basis(spec, data.train, pixels, lambda *_: None) if spec.basis else None
    module = PretrainModule(spec, data, pixels, method_for(spec, basis))
    optimizer = module.configure_optimizers()

    def step(number: int) -> None:
        module.training_step(number).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
