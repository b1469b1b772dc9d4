"""Specs that cost seconds."""

from __future__ import annotations

from pmae.spec import (
    CheckpointSpec,
    DatasetSpec,
    ExperimentSpec,
    LinearProbeSpec,
    ModelSpec,
    OptimizerSpec,
    ScheduleSpec,
)

SMALL_MODEL = ModelSpec(
    embed_dim=16,
    depth=1,
    num_heads=2,
    decoder_embed_dim=16,
    decoder_depth=1,
    decoder_num_heads=2,
)
TINY = ExperimentSpec(
    name="tiny",
    dataset=DatasetSpec(name="digits", max_train_images=300, std_floor=0.2),
    model=SMALL_MODEL.model_copy(update={"patch_size": 4}),
    epochs=5,
    batch_size=64,
    log_every_steps=1,
    checkpoint=CheckpointSpec(every_epochs=2, latest_seconds=0.5),
    evaluations=(LinearProbeSpec(epochs=5, baselines=("raw_pixels",)),),
)
ENDLESS = TINY.model_copy(
    update={
        "name": "endless",
        "epochs": 50_000,
        "checkpoint": CheckpointSpec(every_epochs=50_000, latest_seconds=0.5),
    }
)
DIVERGING = TINY.model_copy(
    update={
        "name": "diverging",
        "epochs": 20,
        "optimizer": OptimizerSpec(base_lr=10, weight_decay=10),
        "schedule": ScheduleSpec(warmup_epochs=0),
    }
)
"""Its weights are multiplied by -24 at each step."""
