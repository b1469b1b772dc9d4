"""Presets on photographs of solar cells, functional or defective (ELPV, docs/datasets.md).

The classes are unbalanced: 31 % of the cells are defective. The figure to look at is the balanced
accuracy, which every evaluation reports beside its top-1.
"""

from __future__ import annotations

from pmae.presets.preset import Preset
from pmae.spec import (
    AugmentationSpec,
    CheckpointSpec,
    DatasetSpec,
    ExperimentSpec,
    KnnSpec,
    LinearProbeSpec,
    MaskingSpec,
    ModelSpec,
    OptimizerSpec,
    ScheduleSpec,
)

_EXPECT = "not measured yet; hard: untrained encoder and raw pixels are probed for comparison"


def _preset(method: str, ratio: float, what: str, minutes: int) -> Preset:
    name = f"elpv_{method}"
    baselines = ("raw_pixels", "untrained_encoder")
    return Preset(
        name=name,
        summary=f"{method.upper()} on 1,724 photographs of solar cells at 64 pixels, {what}.",
        cost=f"about {minutes} minutes on one idle CPU core",
        expect=_EXPECT,
        spec=ExperimentSpec(
            name=name,
            method=method,
            dataset=DatasetSpec(name="elpv"),
            masking=MaskingSpec(ratio=ratio),
            model=ModelSpec(
                embed_dim=192,
                depth=6,
                num_heads=3,
                decoder_embed_dim=192,
                decoder_depth=2,
                decoder_num_heads=3,
            ),
            optimizer=OptimizerSpec(base_lr=2e-3),
            schedule=ScheduleSpec(warmup_epochs=6),
            augmentation=AugmentationSpec(crop_scale=(0.5, 1)),
            epochs=60,
            batch_size=64,
            checkpoint=CheckpointSpec(every_epochs=20, latest_seconds=60),
            evaluations=(LinearProbeSpec(baselines=baselines), KnnSpec(baselines=baselines)),
            tags=("elpv",),
        ),
    )


ELPV_PRESETS = (
    _preset("pmae", 0.2, "masking components of a fifth of the variance", 45),
    _preset("mae", 0.75, "masking three quarters of the patches", 25),
)
