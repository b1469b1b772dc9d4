"""The run that the faults disturb: some seconds on one core, several checkpoints a second."""

from __future__ import annotations

from pmae.spec import (
    AugmentationSpec,
    CheckpointSpec,
    DatasetSpec,
    ExperimentSpec,
    LinearProbeSpec,
    OptimizerSpec,
    resolve,
)
from tests.support.specs import SMALL_MODEL


def run_of(epochs: int) -> ExperimentSpec:
    """A run of ``6 * epochs`` steps, with a kept checkpoint in the middle and one at the end."""
    return resolve(
        ExperimentSpec(
            dataset=DatasetSpec(name="digits", max_train_images=200, std_floor=0.1),
            model=SMALL_MODEL,
            optimizer=OptimizerSpec(base_lr=1e-2),
            augmentation=AugmentationSpec(crop_scale=(0.8, 1.0)),
            epochs=epochs,
            batch_size=32,
            log_every_steps=1,
            checkpoint=CheckpointSpec(every_epochs=epochs // 2, latest_seconds=0.25),
            evaluations=(LinearProbeSpec(epochs=5),),
        )
    )


SHORT_RUN = run_of(120)
