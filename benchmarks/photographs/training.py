"""Short pretrainings on the crops: speed, explained variance and reconstructions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

import pmae
from pmae.data.registry import open_data
from pmae.inference.pictures import sheet_png
from pmae.runs.events import MetricsEvent, ProgressEvent, read_events
from pmae.runs.layout import RunDir
from pmae.runtime.files import write_file
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec

METHODS = ("pmae", "mae")
_SHOWN_CROPS = 8
_MODEL = {
    "embed_dim": 96,
    "depth": 4,
    "num_heads": 3,
    "decoder_embed_dim": 96,
    "decoder_depth": 1,
    "decoder_num_heads": 3,
}


def spec_of(method: str, dataset: str, epochs: int) -> ExperimentSpec:
    """Make the spec of a small model at 32 pixels, with default masking and no evaluation."""
    return ExperimentSpec.model_validate(
        {
            "name": f"photographs_{method}",
            "method": method,
            "dataset": {"name": dataset, "resolution": 32},
            "model": _MODEL,
            "epochs": epochs,
            "batch_size": 64,
            "optimizer": {"base_lr": 2e-3},
            "evaluations": [],
        }
    )


def train_and_show(
    method: str, dataset: str, epochs: int, output: Path, settings: StorageSettings
) -> str:
    """Train on the crops, and draw reconstructed test crops.

    Args:
        method: one of :data:`METHODS`.
        dataset: ``npz:<name>``.
        epochs: of the pretraining.
        output: folder for the run and the picture.
        settings: with the data root.

    Returns:
        A line that reports speed and explained variance.

    Raises:
        subprocess.CalledProcessError: the training failed; its folder has the log.
    """
    run = RunDir(output / f"photographs_{method}")
    run.path.mkdir(parents=True)
    run.spec.write_text(spec_of(method, dataset, epochs).model_dump_json())
    environment = os.environ | {"PMAE_DATA_ROOT": str(settings.data_dir)}
    command = [sys.executable, "-m", "pmae.train", str(run.path), "--lease", "1"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    events = list(read_events(run.lease(1).events))
    metrics = [event for event in events if isinstance(event, MetricsEvent)]
    speeds = [event.images_per_second for event in events if isinstance(event, ProgressEvent)]
    explained = [e.values["val_explained_variance"] for e in metrics if "val_loss" in e.values]
    model = pmae.load(run.path, settings)
    test = open_data(model.spec.dataset, settings).test
    rows = torch.linspace(0, len(test) - 1, _SHOWN_CROPS).long()
    picture = output / f"photographs_{method}.png"
    write_file(picture, sheet_png(model.picture(test.take(rows).images).panels))
    fastest = max((speed for speed in speeds if speed is not None), default=float("nan"))
    return (
        f"{method}: {fastest:,.0f} images a second; explains {explained[-1]:.1%} of the masked "
        f"variance of validation crops after {epochs} epochs; {picture}"
    )
