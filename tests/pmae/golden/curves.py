"""Ten steps of each method and loss, in files: a change of the code must not change the losses.

Where a change means to (another default, another initialisation), make them anew and say why::

    python -m tests.pmae.golden.curves
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pmae.runs.events import EventWriter, MetricsEvent, read_events
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, resolve
from pmae.training.process.signals import StopSignal
from pmae.training.run import run

FOLDER = Path(__file__).parent
CURVES: dict[str, dict[str, Any]] = {
    "pmae": {"method": "pmae"},
    "mae": {"method": "mae"},
    "pmae_version_1": {"version": 1, "method": "pmae"},
    "mae_version_1": {"version": 1, "method": "mae"},
    "pmae_scaled": {"method": "pmae", "loss": {"scale": "masked_variance"}},
    "mae_norm_pix": {"method": "mae", "loss": {"norm_pix_loss": True}},
}
"""By the file's name: the fields that tell a curve from the others; the rest are defaults."""
_IMAGES, _EDGE, _CLASSES = 400, 8, 4


def golden_spec(name: str) -> ExperimentSpec:
    """A small model for ten steps on images of :func:`write_images`."""
    fields = CURVES[name]
    return resolve(
        ExperimentSpec.model_validate(
            {
                **fields,
                "dataset": {"name": "npz:golden", "resolution": _EDGE},
                "model": {
                    "patch_size": 2,
                    "embed_dim": 24,
                    "depth": 2,
                    "num_heads": 3,
                    "decoder_embed_dim": 16,
                    "decoder_depth": 1,
                    "decoder_num_heads": 2,
                },
                "masking": {"ratio": 0.3 if fields["method"] == "pmae" else 0.75},
                "optimizer": {"base_lr": 1e-2},
                "augmentation": {"crop_scale": [0.6, 1.0], "horizontal_flip": True},
                "epochs": 1,
                "batch_size": 40,
                "seed": 1,
                "log_every_steps": 1,
                "evaluations": [],
            }
        )
    )


def write_images(storage: StorageSettings) -> None:
    """Images whose components have variances of their own, so that every machine orders them alike.

    Noise in a random basis with a falling spectrum, around 128. There are more images than pixels:
    of components without variance, rounding decides how many are masked.
    """
    random = np.random.default_rng(7)
    pixels = 3 * _EDGE * _EDGE
    axes, _ = np.linalg.qr(random.standard_normal((pixels, pixels)))
    spread = 60 * 0.985 ** np.arange(pixels)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", _IMAGES), ("val", 16), ("test", 16)):
        values = 128 + (random.standard_normal((count, pixels)) * spread) @ axes.T * 3
        images = values.round().clip(0, 255).astype(np.uint8)
        arrays[f"{split}_images"] = images.reshape(count, _EDGE, _EDGE, 3)
        arrays[f"{split}_labels"] = (np.arange(count) % _CLASSES)[:, None].astype(np.uint8)
    storage.data_dir.mkdir(parents=True)
    np.savez(storage.data_dir / "golden.npz", **arrays)  # type: ignore[arg-type]


def losses(name: str, home: Path) -> list[float]:
    """Train ten steps in ``home``, with one thread, and give the loss of each."""
    torch.set_num_threads(1)
    storage = StorageSettings(home=home)
    write_images(storage)
    run_dir = RunDir(home / "run")
    lease = run_dir.lease(1)
    lease.path.mkdir(parents=True)
    events = EventWriter(lease.events)
    try:
        run(run_dir, lease, golden_spec(name), storage, events, StopSignal())
    finally:
        events.close()
    told = [event for event in read_events(lease.events) if isinstance(event, MetricsEvent)]
    return [event.values["loss"] for event in told if "loss" in event.values]


def main() -> None:
    """Write the files anew, but for those of specs of version 1, whose meaning is fixed."""
    for name in CURVES:
        if name.endswith("version_1"):
            continue
        with tempfile.TemporaryDirectory() as home:
            curve = losses(name, Path(home))
        (FOLDER / f"{name}.json").write_text(json.dumps(curve, indent=1) + "\n")


if __name__ == "__main__":
    main()
