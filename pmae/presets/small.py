"""Presets for one CPU core.

The figures (top-1 on the test split) were measured by this project and are not the paper's.
``python -m benchmarks.small NAME`` measures a preset over five seeds; a figure of one run is that
of the preset's seed.
"""

from __future__ import annotations

from pmae.presets.preset import Preset
from pmae.spec import (
    AugmentationSpec,
    CheckpointSpec,
    DatasetSpec,
    ExperimentSpec,
    LinearProbeSpec,
    MaskingSpec,
    ModelSpec,
    OptimizerSpec,
)

SMALL_PRESETS = (
    Preset(
        name="quickstart",
        summary="PMAE on scikit-learn's handwritten digits: every part of the service, quickly.",
        cost="about 70 seconds of one CPU core",
        expect="linear probe 94.0 ± 1.0 %, above its untrained encoder (89.0 ± 1.1 %) and below "
        "raw pixels (95.8 %); mean and spread of five seeds, by "
        "`python -m benchmarks.small quickstart`",
        spec=ExperimentSpec(
            name="quickstart",
            method="pmae",
            dataset=DatasetSpec(name="digits", std_floor=0.35),
            masking=MaskingSpec(ratio=0.3),
            model=ModelSpec(
                patch_size=4,
                embed_dim=96,
                depth=4,
                num_heads=3,
                decoder_embed_dim=96,
                decoder_depth=1,
                decoder_num_heads=3,
            ),
            optimizer=OptimizerSpec(base_lr=4e-3),
            augmentation=AugmentationSpec(crop_scale=(0.8, 1)),
            epochs=100,
            batch_size=64,
            checkpoint=CheckpointSpec(every_epochs=25, latest_seconds=3),
            evaluations=(LinearProbeSpec(baselines=("raw_pixels", "untrained_encoder")),),
            tags=("quickstart",),
        ),
    ),
    Preset(
        name="fashion_mnist_small",
        summary="PMAE on 10,000 images of Fashion-MNIST with a small ViT.",
        cost="about 5 minutes on one idle CPU core",
        expect="linear probe 77.6 %, above its untrained encoder (73.3 %) and below raw pixels "
        "(80.7 %); one run, with the count rule `nearest`, which the preset keeps for this figure "
        "(the default, `reference`, is not measured here)",
        spec=ExperimentSpec(
            name="fashion_mnist_small",
            method="pmae",
            dataset=DatasetSpec(name="fashion_mnist", max_train_images=10_000, std_floor=0.2),
            masking=MaskingSpec(ratio=0.4, count="nearest"),
            model=ModelSpec(
                embed_dim=96,
                depth=4,
                num_heads=3,
                decoder_embed_dim=96,
                decoder_depth=1,
                decoder_num_heads=3,
            ),
            optimizer=OptimizerSpec(base_lr=2e-3),
            augmentation=AugmentationSpec(crop_scale=(0.8, 1)),
            epochs=20,
            batch_size=128,
            checkpoint=CheckpointSpec(every_epochs=5, latest_seconds=15),
            evaluations=(LinearProbeSpec(baselines=("raw_pixels", "untrained_encoder")),),
            tags=("fashion_mnist",),
        ),
    ),
)
