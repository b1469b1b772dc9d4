"""The trainer without a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.training.process.trainer import main

TrainHere = Callable[[RunDir], int]


@pytest.fixture
def train_here(storage: StorageSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrainHere]:
    """What ``python -m pmae.train RUN_DIR`` does, in this process; returns the exit status.

    A new process would import torch and Lightning first, several times as long as it trains.
    """
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("PMAE_HOME", str(storage.home))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the trainer would leave it set

    def train(run: RunDir) -> int:
        monkeypatch.setattr("sys.argv", ["pmae.train", str(run.path)])
        return main()

    yield train
    signal.signal(signal.SIGTERM, handler)
