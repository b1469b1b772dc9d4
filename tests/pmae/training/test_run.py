"""Whole runs in this process: what a step's parts, another run's weights and a limit change."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pmae.errors import CheckpointError, SpecError, TimeLimitError, TrainingError
from pmae.runs.checkpoints import newest_valid, read_config, read_manifest, read_state
from pmae.runs.events import (
    EvaluationEvent,
    EventWriter,
    MetricsEvent,
    StartEvent,
    WarningEvent,
    read_events,
)
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, LinearProbeSpec, LossSpec, MaskingSpec, resolve
from pmae.training.callbacks import Restore
from pmae.training.environment import choose_precision, computes_bf16, require_compiler
from pmae.training.process.signals import StopRequested, StopSignal
from pmae.training.run import run
from tests.pmae.data.formats import random_pixels, write_image

# Lightning uses what torch deprecates, and advises on what is on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]
Train = Callable[[Path, ExperimentSpec], RunDir]


@pytest.fixture
def train(storage: StorageSettings) -> Iterator[Train]:
    """Take the next lease of a run and train it to its end, or its error."""
    handler = signal.getsignal(signal.SIGTERM)

    def here(folder: Path, spec: ExperimentSpec) -> RunDir:
        run_dir = RunDir(folder)
        lease = run_dir.lease(len(run_dir.leases()) + 1)
        lease.path.mkdir(parents=True)
        events = EventWriter(lease.events)
        stop = StopSignal()
        stop.install()
        try:
            run(run_dir, lease, spec, storage, events, stop)
        finally:
            events.close()
        return run_dir

    yield here
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def spec(tiny_spec: ExperimentSpec) -> ExperimentSpec:
    """Two epochs of six steps, and no probe."""
    checkpoint = tiny_spec.checkpoint.model_copy(update={"every_epochs": 1, "latest_seconds": 999})
    changes: dict[str, Any] = {"epochs": 2, "evaluations": (), "checkpoint": checkpoint}
    return tiny_spec.model_copy(update=changes)


def _with(spec: ExperimentSpec, **changes: Any) -> ExperimentSpec:
    return resolve(ExperimentSpec.model_validate(spec.model_dump() | changes))


def _weights(run_dir: RunDir) -> dict[str, Tensor]:
    folder, _ = newest_valid(run_dir)
    assert folder is not None
    assert folder.name == "step-00000012"
    return load_file(folder / "model.safetensors")


def _metrics(run_dir: RunDir) -> dict[tuple[str, int], float]:
    events = read_events(run_dir.leases()[-1].events)
    found = [event for event in events if isinstance(event, MetricsEvent)]
    return {(name, e.step): value for e in found for name, value in e.values.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"masking": MaskingSpec(ratio=0.3, count="nearest", scope="image")},
        {
            "masking": MaskingSpec(ratio=(0.1, 0.5), count="reference", scope="image"),
            "loss": LossSpec(scale="masked_variance"),
        },
        {"method": "mae", "basis": None, "masking": MaskingSpec(ratio=0.75, scope="image")},
        {
            "method": "mae",
            "basis": None,
            "masking": MaskingSpec(ratio=0.75, scope="image"),
            "loss": LossSpec(norm_pix_loss=True),
        },
    ],
    ids=["pmae", "pmae-image", "pmae-scaled", "mae", "mae-norm-pix"],
)
def test_a_batch_in_parts_makes_the_same_steps(
    changes: dict[str, Any], tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    spec = _with(spec, **changes)
    whole = train(tmp_path / "whole", spec)
    parts = train(tmp_path / "parts", spec.model_copy(update={"accumulate_steps": 4}))
    assert _metrics(parts).keys() == _metrics(whole).keys()
    assert _metrics(parts) == pytest.approx(_metrics(whole), rel=1e-4, abs=1e-6)
    ours, theirs = (
        # Attention does not depend on its keys' biases: AdamW scales up the rounding of a zero.
        {name: value for name, value in _weights(each).items() if "qkv.bias" not in name}
        for each in (parts, whole)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)


def test_resumed_after_every_step_it_ends_with_the_same_bits(
    tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    spec = spec.model_copy(update={"accumulate_steps": 4})
    undisturbed = train(tmp_path / "undisturbed", spec)
    limited = spec.model_copy(update={"max_hours": 1e-9})
    for step in range(1, 12):
        with pytest.raises(TimeLimitError, match=f"max_hours.*step {step} of 12.*resumed"):
            train(tmp_path / "limited", limited)
    resumed = train(tmp_path / "limited", limited)
    ours, theirs = _weights(resumed), _weights(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert _metrics(resumed) == _metrics(undisturbed)


def test_the_time_of_earlier_processes_counts(
    tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    # Each step is checkpointed; the first process is stopped after one of them.
    checkpoint = spec.checkpoint.model_copy(update={"latest_seconds": 0})
    spec = spec.model_copy(update={"checkpoint": checkpoint, "max_hours": 1.0})
    run_dir = train(tmp_path / "run", spec)
    folder, _ = newest_valid(run_dir)
    assert folder is not None
    counters = torch.load(folder / "trainer.pt", weights_only=True)["counters"]
    assert 0 < counters["trained_seconds"] < 3600


def test_a_run_begins_with_another_runs_weights(
    tmp_path: Path, spec: ExperimentSpec, train: Train, storage: StorageSettings
) -> None:
    source = train(storage.runs_dir / "0123456789ab", spec)
    reference = "0123456789ab/step-00000012"
    folder, _ = newest_valid(source)
    assert folder is not None
    frozen = {"epochs": 1, "schedule": {"warmup_epochs": 1}, "optimizer": {"base_lr": 1e-12}}
    run_dir = train(tmp_path / "run", _with(spec, init_from=reference, **frozen))
    checkpoint, _ = newest_valid(run_dir)
    assert checkpoint is not None
    ours, theirs = (load_file(each / "model.safetensors") for each in (checkpoint, folder))
    for name in theirs:
        if name.startswith("model."):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
    digest = read_manifest(folder).files["model.safetensors"].sha256
    assert read_config(checkpoint).init_digest == digest
    start = next(e for e in read_events(run_dir.lease(1).events) if isinstance(e, StartEvent))
    assert start.environment["init_from_sha256"] == digest

    wider = spec.model_dump()["model"] | {"decoder_embed_dim": 32, "depth": 2}
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path / "wider", _with(spec, init_from=str(folder), model=wider))
    assert "decoder.embed.weight is (16, 16) there and (32, 16) here" in str(caught.value)
    assert re.search(r"and \d+ more", str(caught.value))
    with pytest.raises(CheckpointError, match=r"init_from: there is no checkpoint nowhere"):
        train(tmp_path / "nowhere", _with(spec, init_from="nowhere"))


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(600)
def test_a_compiled_model_makes_the_same_steps(
    tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    # One step: what takes its time is the compiler.
    spec = spec.model_copy(update={"epochs": 1, "batch_size": 512})
    plain = train(tmp_path / "plain", spec)
    compiled = train(tmp_path / "compiled", spec.model_copy(update={"compile": True}))
    assert _metrics(compiled) == pytest.approx(_metrics(plain), rel=1e-4, abs=1e-6)
    start = next(e for e in read_events(compiled.lease(1).events) if isinstance(e, StartEvent))
    assert start.environment["compile"] is True


def test_compiling_without_a_compiler_is_refused_with_a_way_out(
    spec: ExperimentSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TrainingError, match=r"compile: .*no-such-compiler.*without compile"):
        require_compiler(spec.model_copy(update={"compile": True}), torch.device("cpu"))


def test_a_run_evaluates_in_the_precision_that_it_trains_in(
    tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    probe = LinearProbeSpec(epochs=2, baselines=("raw_pixels", "untrained_encoder"))
    run_dir = train(tmp_path / "run", _with(spec, precision="bf16", epochs=1, evaluations=[probe]))
    events = read_events(run_dir.lease(1).events)
    found = {event.key: event.details for event in events if isinstance(event, EvaluationEvent)}
    assert {key: details.get("precision") for key, details in found.items()} == {
        "linear/encoder": "bf16",
        "linear/raw_pixels": None,
        "linear/untrained_encoder": "bf16",
    }


def test_the_precision_that_was_chosen_stays(
    tmp_path: Path, spec: ExperimentSpec, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cpu")
    auto = spec.model_copy(update={"precision": "auto", "max_hours": 1e-9})
    chosen = "bf16" if computes_bf16(device) else "fp32"
    assert choose_precision(auto, device).precision == chosen
    default = spec.model_copy(update={"precision": "auto_gpu"})
    assert choose_precision(default, device).precision == "fp32"
    assert choose_precision(default, torch.device("cuda")).precision == (
        "bf16" if computes_bf16(torch.device("cuda")) else "fp32"
    )
    for answer in (True, False):
        # The run moves from a machine that computes in bf16 to one that does not.
        monkeypatch.setattr("pmae.training.environment.computes_bf16", lambda _device, a=answer: a)
        with pytest.raises(TimeLimitError):
            train(tmp_path / "run", auto)
    folder, _ = newest_valid(RunDir(tmp_path / "run"))
    assert folder is not None
    assert read_config(folder).spec.precision == "bf16"
    first, second = (
        [e.message for e in read_events(lease.events) if isinstance(e, WarningEvent)]
        for lease in RunDir(tmp_path / "run").leases()
    )
    assert not any("bf16" in message for message in first)
    assert any("emulates bf16" in message for message in second)


@pytest.mark.parametrize(
    ("changes", "field", "valid"),
    [
        ({"devices": 3}, "devices", "[1, 2, 4, 8, 16, 32]"),
        ({"accumulate_steps": 5}, "accumulate_steps", "[1, 2, 4, 8, 16, 32]"),
        ({"devices": 2, "accumulate_steps": 32}, "accumulate_steps", "[1, 2, 4, 8, 16]"),
    ],
)
def test_a_batch_is_cut_into_equal_parts_only(
    changes: dict[str, int], field: str, valid: str, spec: ExperimentSpec
) -> None:
    with pytest.raises(SpecError) as caught:
        _with(spec, **changes)
    assert caught.value.field == (field,)
    assert valid in str(caught.value)


def test_the_floor_chosen_is_told_recorded_and_kept_on_resume(
    tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    dataset = spec.dataset.model_copy(update={"std_floor": None})
    stops = spec.model_copy(update={"dataset": dataset, "max_hours": 1e-9})
    with pytest.raises(TimeLimitError):
        train(tmp_path / "run", stops)
    run_dir = train(tmp_path / "run", stops.model_copy(update={"max_hours": None}))
    folder, _ = newest_valid(run_dir)
    assert folder is not None
    floor = read_config(folder).spec.dataset.std_floor
    assert floor is not None
    std = read_state(folder).weights["pixel_std"]
    assert float(std.min()) == pytest.approx(floor)
    at_floor = int((std <= torch.tensor(floor)).sum())
    assert at_floor > 0
    told = [
        e.message
        for e in read_events(run_dir.leases()[-1].events)
        if isinstance(e, WarningEvent) and "std_floor" in e.message
    ]
    assert len(told) == 1
    assert f"{at_floor} of {std.numel()} pixels" in told[0]
    assert f"{floor:g}" in told[0]


def test_a_batch_larger_than_the_images_trains_as_a_batch_of_them_all(
    tmp_path: Path, spec: ExperimentSpec, train: Train
) -> None:
    version_1: dict[str, Any] = {"version": 1, "optimizer": {"base_lr": 1e-2}}
    large = train(tmp_path / "large", _with(spec, batch_size=1000))
    all_images = train(tmp_path / "all", _with(spec, batch_size=200))
    stored = train(tmp_path / "stored", _with(spec, batch_size=1000, **version_1))
    told = [e for e in read_events(large.leases()[0].events) if isinstance(e, WarningEvent)]
    assert any("more than the 200 training images" in event.message for event in told)
    weights = [
        read_state(folder).weights
        for folder in (newest_valid(large)[0], newest_valid(all_images)[0])
        if folder is not None
    ]
    assert len(weights) == 2
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    rates = [
        max(
            e.values["lr"]
            for e in read_events(run_dir.leases()[0].events)
            if isinstance(e, MetricsEvent) and "lr" in e.values
        )
        for run_dir in (large, stored)
    ]
    assert rates[1] == pytest.approx(5 * rates[0]), "version 1 scaled it by batch_size"


def test_files_with_too_few_images_are_refused_when_training_starts(
    tmp_path: Path, spec: ExperimentSpec, train: Train, storage: StorageSettings
) -> None:
    for index, pixels in enumerate(random_pixels(24, 8, 8, 3)):
        write_image(storage.data_dir / "birds" / "ab"[index % 2] / f"{index}.png", pixels)
    birds = {"name": "folder:birds", "resolution": 8}
    few = _with(spec, dataset=birds, basis={"num_components": 100})
    with pytest.raises(SpecError, match="images span at most") as caught:
        train(tmp_path / "run", few)
    assert caught.value.field == ("basis", "num_components")


def test_a_stop_while_lightning_starts_leaves_at_the_first_step_with_its_state(
    tmp_path: Path, spec: ExperimentSpec, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When this callback is called, Lightning would have its SIGTERM handler before ours."""

    def stop_then_restore(callback: Restore, trainer: Any, module: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        restore(callback, trainer, module)
        assert not trainer.received_sigterm

    restore = Restore.on_train_start
    monkeypatch.setattr(Restore, "on_train_start", stop_then_restore)
    with pytest.raises(StopRequested):
        train(tmp_path / "run", spec)
    folder, _ = newest_valid(RunDir(tmp_path / "run"))
    assert folder is not None
    assert folder.name == "step-00000001"
