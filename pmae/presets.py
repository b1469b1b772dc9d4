"""Presets: named specs. Each says its command, its cost and what to expect.

The figures are this project's own (``docs/`` says how they were measured), never the paper's.
"""

from __future__ import annotations

from dataclasses import dataclass

from pmae.errors import SpecError
from pmae.spec import (
    AugmentationSpec,
    CheckpointSpec,
    DatasetSpec,
    ExperimentSpec,
    LinearProbeSpec,
    MaskingSpec,
    ModelSpec,
    OptimizerSpec,
    resolve,
)


@dataclass(frozen=True)
class Preset:
    """A named spec.

    Attributes:
        name: as ``make demo PRESET=<name>`` and ``GET /presets/<name>`` use it.
        summary: what it shows, in a sentence.
        cost: how long it takes on which machine.
        expect: the figure to expect.
        spec: the spec, as its author wrote it (:func:`pmae.spec.resolve` writes the rest out).
    """

    name: str
    summary: str
    cost: str
    expect: str
    spec: ExperimentSpec


PRESETS: dict[str, Preset] = {}  # filled below


def get_preset(name: str) -> Preset:
    """Look a preset up.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in PRESETS:
        raise SpecError(f"unknown preset {name!r}; valid are {', '.join(PRESETS)}")
    return PRESETS[name]


def _add(preset: Preset) -> None:
    resolve(preset.spec)
    PRESETS[preset.name] = preset


_add(
    Preset(
        name="quickstart",
        summary="PMAE on scikit-learn's handwritten digits: the whole service in two minutes.",
        cost="under two minutes on two CPU cores",
        expect="linear probe well above that of the untrained encoder",
        spec=ExperimentSpec(
            name="quickstart",
            method="pmae",
            dataset=DatasetSpec(name="digits", std_floor=0.2),
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
    )
)

_add(
    Preset(
        name="fashion_mnist_small",
        summary="PMAE on 10,000 images of Fashion-MNIST with a small ViT.",
        cost="about 15 minutes on two CPU cores",
        expect="linear probe above that of the untrained encoder",
        spec=ExperimentSpec(
            name="fashion_mnist_small",
            method="pmae",
            dataset=DatasetSpec(name="fashion_mnist", max_train_images=10_000, std_floor=0.1),
            masking=MaskingSpec(ratio=0.2),
            model=ModelSpec(
                embed_dim=128,
                depth=6,
                num_heads=4,
                decoder_embed_dim=128,
                decoder_depth=2,
                decoder_num_heads=4,
            ),
            optimizer=OptimizerSpec(base_lr=5e-4),
            epochs=20,
            batch_size=256,
            checkpoint=CheckpointSpec(every_epochs=5, latest_seconds=15),
            evaluations=(LinearProbeSpec(baselines=("raw_pixels", "untrained_encoder")),),
            tags=("fashion_mnist",),
        ),
    )
)
