"""What the runs of the service from memory are: curves by formulas, as they look on a real run."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import numpy as np

from pmae.metrics import BAND_METRICS
from pmae.presets import get_preset
from pmae.runs.events import FileFacts
from pmae.schema import (
    TERMINAL_STATES,
    Checkpoint,
    DatasetView,
    Evaluation,
    History,
    HistoryEntry,
    LogChunk,
    Metrics,
    MetricSeries,
    PresetView,
    Progress,
    Run,
    RunState,
)
from pmae.spec import DatasetSpec, ExperimentSpec, resolve
from tests.dashboard.fake_pictures import Refusal

STEPS_PER_EPOCH = 11
EPOCHS = 60


def make_run(
    number: int, name: str, state: RunState, method: str, epoch: int, created_at: datetime
) -> Run:
    """A run that has come so far."""
    spec = resolve(
        ExperimentSpec(
            name=name,
            method=method,
            dataset=DatasetSpec(name="digits"),
            epochs=EPOCHS,
            batch_size=128,
        )
    )
    started = created_at + timedelta(seconds=2) if state != "queued" else None
    reason = {
        "failed": "The loss is not finite at step 71; the last good checkpoint is kept. A lower "
        "optimizer.base_lr, a longer schedule.warmup_epochs or precision fp32 may help.",
        "cancelled": "Cancelled by api.",
        "queued": "Waits for a worker: 1 of 1 is busy.",
    }.get(state)
    values = {
        name: series.value[-1] for name, series in series_of(epoch, number).items() if series.value
    }
    succeeded = state == "succeeded"
    return Run(
        id=f"{number:016x}",
        number=number,
        name=name,
        state=state,
        method=method,
        dataset="digits",
        tags=["quickstart"] if number == 1 else [],
        priority=0,
        attempt=2 if number == 5 else 1,
        reason=reason,
        cancel_requested=state == "cancelled",
        created_at=created_at,
        started_at=started,
        finished_at=started + timedelta(seconds=84)
        if started and state in TERMINAL_STATES
        else None,
        progress=_progress(state, epoch, values.get("loss")),
        last_metrics=values,
        top1=0.934 if succeeded else None,
        spec=spec,
        preset="quickstart" if number == 1 else None,
        worker="lab-1" if state != "queued" else None,
        lease_number=1,
        max_attempts=5,
        devices=1,
        basis_digest=hashlib.sha256(b"digits").hexdigest() if method == "pmae" and epoch else None,
        evaluations=[
            Evaluation(
                key=f"linear/{features}",
                protocol="linear",
                features=features,
                step=EPOCHS * STEPS_PER_EPOCH,
                epoch=EPOCHS,
                split="test",
                top1=top1,
                details=probe_curve(top1),
            )
            for features, top1 in (
                ("encoder", 0.934),
                ("raw_pixels", 0.911),
                ("untrained_encoder", 0.782),
            )
            if succeeded
        ],
        environment={"python": "3.11.2", "torch": "2.14.1", "device": "cpu", "threads": 1},
    )


def probe_curve(top1: float) -> dict[str, object]:
    """Details of a probe of 40 epochs that ends with ``top1`` and was better before."""
    epochs = np.arange(1, 41)
    test = top1 - 0.4 * np.exp(-epochs / 6) + 0.004 * np.sin(epochs) * (epochs < 40)
    curve = {"epochs": epochs.tolist()}
    for name, shift in (("train", 0.01), ("val", 0.004), ("test", 0.0)):
        curve[f"{name}_accuracy"] = (test + shift).tolist()
        curve[f"{name}_loss"] = (2 * (1.05 - test - shift)).tolist()
    best = {"top1": float(test.max()), "epochs": [int(test.argmax()) + 1]}
    return {"curve": curve, "best_epoch": best | {"top1_by_seed": [float(test.max())]}}


def series_of(epoch: int, number: int) -> dict[str, MetricSeries]:
    """Curves of a run that has trained ``epoch`` epochs."""
    random = np.random.default_rng(number)
    steps = np.arange(5, epoch * STEPS_PER_EPOCH + 1, 5)
    epochs = np.arange(1, epoch + 1)

    def loss(at: np.ndarray) -> np.ndarray:
        return 0.25 + 0.75 * np.exp(-at / (9 + number)) + 0.01 * number

    def accuracy(at: np.ndarray) -> np.ndarray:
        return 0.1 + (0.8 - 0.02 * number) * (1 - np.exp(-at / 14))

    def explained(at: np.ndarray, most: float) -> np.ndarray:
        return most - 2 * np.exp(-at / 8)

    done = epochs * STEPS_PER_EPOCH
    shares = {"": 0.55, "_0_50": 0.8, "_50_80": 0.5, "_80_95": 0.2, "_95_100": 0.02}
    curves = {
        "loss": (steps, steps / STEPS_PER_EPOCH, loss(steps / STEPS_PER_EPOCH), 0.05),
        "train_loss": (epochs * STEPS_PER_EPOCH, epochs, loss(epochs - 0.5), 0.006),
        "val_loss": (epochs * STEPS_PER_EPOCH, epochs, loss(epochs) + 0.015, 0.01),
        "train_online_probe_top1": (
            epochs * STEPS_PER_EPOCH,
            epochs,
            accuracy(epochs) + 0.03,
            0.008,
        ),
        "train_online_probe_loss": (
            epochs * STEPS_PER_EPOCH,
            epochs,
            2.2 - 2 * accuracy(epochs),
            0.02,
        ),
        "val_online_probe_loss": (
            epochs * STEPS_PER_EPOCH,
            epochs,
            2.3 - 2 * accuracy(epochs),
            0.02,
        ),
        "val_knn_top1": (epochs * STEPS_PER_EPOCH, epochs, accuracy(epochs) + 0.02, 0.012),
        "val_rankme": (epochs * STEPS_PER_EPOCH, epochs, 4 + 20 * accuracy(epochs), 0.3),
        "val_feature_rank": (epochs * STEPS_PER_EPOCH, epochs, 9 + 30 * accuracy(epochs), 0.3),
        "val_feature_first_share": (
            epochs * STEPS_PER_EPOCH,
            epochs,
            0.6 - 0.5 * accuracy(epochs),
            0.01,
        ),
        "val_feature_ten_share": (
            epochs * STEPS_PER_EPOCH,
            epochs,
            0.98 - 0.2 * accuracy(epochs),
            0.005,
        ),
        "val_online_probe_top1": (epochs * STEPS_PER_EPOCH, epochs, accuracy(epochs), 0.012),
        "train_explained_variance": (done, epochs, explained(epochs, 0.6), 0.01),
        **{
            f"val_explained_variance{band}": (done, epochs, explained(epochs, most), 0.01)
            for band, most in shares.items()
        },
    }
    return {
        name: MetricSeries(
            name=name,
            step=step.tolist(),
            epoch=at.astype(float).tolist(),
            time=(1_700_000_000 + step).astype(float).tolist(),
            value=(value + random.normal(scale=noise, size=len(value))).tolist(),
            total=len(step),
        )
        for name, (step, at, value, noise) in curves.items()
    }


def metrics_of(run: Run, names: list[str]) -> Metrics:
    """Those of its curves that have a point."""
    series = series_of(epoch_of(run), run.number)
    of_method = {name for name in series if run.method == "pmae" or name not in BAND_METRICS}
    found = [series[name] for name in names if name in of_method]
    return Metrics(run_id=run.id, series=[each for each in found if each.step])


def checkpoints_of(run: Run) -> list[Checkpoint]:
    """Newest first."""
    epoch = epoch_of(run)
    kept = [(done, "kept") for done in range(20, epoch + 1, 20)]
    latest = [(epoch, "latest")] if run.state == "running" else []
    return [
        Checkpoint(
            id=f"{run.id}-{done * STEPS_PER_EPOCH:08d}",
            run_id=run.id,
            name=f"step-{done * STEPS_PER_EPOCH:08d}",
            kind=kind,
            step=done * STEPS_PER_EPOCH,
            epoch=done,
            metrics={},
            pinned=False,
            created_at=run.created_at + timedelta(seconds=2 + done),
            files={
                name: FileFacts(sha256=hashlib.sha256(name.encode()).hexdigest(), size=size)
                for name, size in (
                    ("model.safetensors", 1_923_411),
                    ("config.json", 2_310),
                    ("trainer.pt", 3_850_204),
                    ("events.jsonl", 61_220),
                )
            },
        )
        for done, kind in reversed(kept + latest)
    ]


def _progress(state: RunState, epoch: int, loss: float | None) -> Progress:
    """Of the stage that the run is in, or ended in."""
    if state == "succeeded":
        return Progress(stage="probe", done=3, total=3)
    if epoch == 0:
        return Progress()
    return Progress(
        stage="pretrain",
        done=epoch * STEPS_PER_EPOCH,
        total=EPOCHS * STEPS_PER_EPOCH,
        epoch=epoch,
        total_epochs=EPOCHS,
        loss=loss,
        images_per_second=5321.0,
        eta_seconds=1.4 * (EPOCHS - epoch),
    )


def epoch_of(run: Run) -> int:
    """How many epochs are done."""
    return EPOCHS if run.state == "succeeded" else run.progress.epoch or 0


def log_of(run: Run, offset: int, limit: int) -> LogChunk:
    """A piece of what its trainer printed."""
    lines = [f"epoch {n} of {EPOCHS}" for n in range(1, epoch_of(run) + 1)]
    data = ("\n".join(["resumed from nothing", *lines]) + "\n").encode() if lines else b""
    if limit < 4:
        raise Refusal(422, "invalid_request", "limit: input should be greater than or equal to 4")
    if offset < 0:
        offset = max(0, len(data) + offset)
    piece = data[offset : offset + limit]
    return LogChunk(
        text=piece.decode(), offset=offset, next_offset=offset + len(piece), size=len(data)
    )


def history_of(run: Run) -> History:
    """What happened to it."""
    entries = [("state", "api", "queued")]
    if run.started_at:
        entries += [("state", "lab-1", "running"), ("stage", "lab-1", "pretrain")]
    if run.state in TERMINAL_STATES:
        entries.append(("state", "lab-1", run.reason or run.state))
    return History(
        items=[
            HistoryEntry(
                id=n, at=run.created_at + timedelta(seconds=n), type=kind, actor=actor, message=text
            )
            for n, (kind, actor, text) in enumerate(entries, start=1)
        ]
    )


def preset_view(name: str) -> PresetView:
    """A preset as the API shows it."""
    preset = get_preset(name)
    return PresetView(
        name=name,
        summary=preset.summary,
        cost=preset.cost,
        expect=preset.expect,
        spec=resolve(preset.spec),
    )


DATASETS = [
    DatasetView(
        name="digits",
        title="Handwritten digits",
        resolution=8,
        patch_size=2,
        channels=1,
        num_classes=10,
        available=True,
        message="bundled",
    )
]
