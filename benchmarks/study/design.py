"""Design of the study: data sets, methods, tuning, finalists and comparisons.

docs/study.md gives the reasons and the decision rule; both were written before the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

BASE_LR = 4e-3
LEARNING_RATES = (2e-3, BASE_LR, 8e-3)
"""Learning rates for a batch of 256, tried at the best ratio."""
RATIOS: dict[str, tuple[float, ...]] = {"pmae": (0.1, 0.2, 0.4), "mae": (0.4, 0.6, 0.75)}
TUNING_SEEDS = (100, 101)
"""Seeds for tuning, disjoint from those of the finalists."""
SEEDS = (0, 1, 2, 3, 4, 5)
LABEL_FRACTIONS = (1.0, 0.1, 0.01)
BATCH_SIZE = 64
_WIDTH, _HEADS, _DEPTH, _DECODER_DEPTH = 64, 4, 4, 2


@dataclass(frozen=True)
class StudyDataset:
    """A data set of the study, and the length of its trainings.

    Attributes:
        name: of the data set.
        title: for people.
        fields: of ``dataset`` in a spec, beside the name.
        patch_size: edge length of a patch in pixels.
        epochs: of every pretraining but that of MAE for equal time.
        figure: metric on the test split that finalists are compared by.
        supervised_epochs: of training the same encoder with labels.
    """

    name: str
    title: str
    patch_size: int
    epochs: int
    figure: Literal["top1", "balanced_accuracy"]
    supervised_epochs: int
    fields: Mapping[str, Any] = field(default_factory=dict)


DATASETS = (
    StudyDataset("digits", "digits", 4, 100, "top1", 50),
    StudyDataset(
        "fashion_mnist",
        "5,000 images of Fashion-MNIST",
        4,
        8,
        "top1",
        10,
        {"max_train_images": 5_000},
    ),
    StudyDataset("elpv", "ELPV at 64 px", 8, 15, "balanced_accuracy", 30, {"resolution": 64}),
)


@dataclass(frozen=True)
class Finalist:
    """A pretraining at the ratio and learning rate chosen for its method.

    Attributes:
        name: of the pretraining.
        title: for people.
        method: pmae or mae.
        fields: of the spec that differ from the method's plain pretraining.
        equal_time: True = train for as much processor time as ``pmae`` takes.
        noise: True = add noise instead of masking (:mod:`benchmarks.study.noise`).
        datasets: to train on; default: all.
    """

    name: str
    title: str
    method: Literal["pmae", "mae"]
    fields: Mapping[str, Any] = field(default_factory=dict)
    equal_time: bool = False
    noise: bool = False
    datasets: tuple[str, ...] = tuple(dataset.name for dataset in DATASETS)


_SMALL = ("digits", "fashion_mnist")
FINALISTS = (
    Finalist("pmae", "PMAE, count reference", "pmae"),
    Finalist("pmae_nearest", "PMAE, count nearest", "pmae", {"masking": {"count": "nearest"}}),
    Finalist(
        "pmae_scaled",
        "PMAE, count nearest, scaled loss",
        "pmae",
        {"masking": {"count": "nearest"}, "loss": {"scale": "masked_variance"}},
    ),
    Finalist("mae", "MAE, equal epochs", "mae"),
    Finalist("mae_time", "MAE, equal processor time", "mae", equal_time=True),
    Finalist(
        "pmae_rotation",
        "PMAE on a random rotation",
        "pmae",
        {"basis": {"kind": "random"}},
        datasets=_SMALL,
    ),
    Finalist("noise", "no masking, equal noise", "pmae", noise=True, datasets=_SMALL),
)
LONG_FINALISTS = (
    Finalist("pmae_drawn", "PMAE, ratio 0.1 to 0.9", "pmae", {"masking": {"ratio": (0.1, 0.9)}}),
    Finalist("pmae_low", "PMAE, ratio 0.1 to 0.2", "pmae", {"masking": {"ratio": (0.1, 0.2)}}),
    *(
        Finalist(f"pmae_{name}", f"PMAE, strategy {name}", "pmae", {"masking": {"strategy": name}})
        for name in ("top", "bottom", "block")
    ),
    Finalist("pmae_dct", "PMAE on the cosine transform", "pmae", {"basis": {"kind": "dct"}}),
    Finalist("pmae_image", "PMAE, a mask an image", "pmae", {"masking": {"scope": "image"}}),
    Finalist("pmae_deep", "PMAE, decoder of 8 blocks", "pmae", {"model": {"decoder_depth": 8}}),
    Finalist("mae_deep", "MAE, decoder of 8 blocks", "mae", {"model": {"decoder_depth": 8}}),
)
"""Additional finalists of the longer study (``--long``)."""

COMPARISONS = (
    ("pmae", "mae"),
    ("pmae", "mae_time"),
    ("pmae", "pmae_nearest"),
    ("pmae", "pmae_scaled"),
    ("pmae", "pmae_rotation"),
    ("pmae", "noise"),
    ("pmae", "untrained"),
)
"""Comparisons that the decision rule is applied to, jointly for each data set."""


@dataclass(frozen=True)
class Choice:
    """Ratio and learning rate of a method on a data set."""

    ratio: float
    base_lr: float


def spec_fields(
    dataset: StudyDataset, method: str, choice: Choice, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the spec fields of a pretraining.

    Args:
        dataset: to train on.
        method: pmae or mae.
        choice: ratio and learning rate.
        more: fields that override the others, part by part.
    """
    fields: dict[str, Any] = {
        "method": method,
        "dataset": {"name": dataset.name, **dataset.fields},
        "masking": {"ratio": choice.ratio},
        "model": {
            "patch_size": dataset.patch_size,
            "embed_dim": _WIDTH,
            "depth": _DEPTH,
            "num_heads": _HEADS,
            "decoder_embed_dim": _WIDTH,
            "decoder_depth": _DECODER_DEPTH,
            "decoder_num_heads": _HEADS,
        },
        "optimizer": {"base_lr": choice.base_lr},
        "augmentation": {"crop_scale": (0.8, 1)},
        "precision": "fp32",
        "monitor": {"knn": False, "spectrum": False},
        "epochs": dataset.epochs,
        "batch_size": BATCH_SIZE,
        "checkpoint": {"every_epochs": dataset.epochs, "latest_seconds": 60},
        "tags": ("study",),
    }
    for name, part in more.items():
        fields[name] = {**fields.get(name, {}), **part} if isinstance(part, Mapping) else part
    return fields


def tuning_evaluations() -> tuple[dict[str, Any], ...]:
    """Evaluations for choosing ratio and learning rate, by the validation split."""
    return ({"protocol": "linear", "features": "mean"},)


def final_evaluations(dataset: StudyDataset, finalist: Finalist) -> tuple[dict[str, Any], ...]:
    """Evaluations of a finalist; runs of plain PMAE include the controls without pretraining."""
    controls = finalist.name == "pmae"
    untrained = ("untrained_encoder",) if controls else ()
    pixels = ("raw_pixels",) if controls else ()
    probes: list[dict[str, Any]] = [
        {
            "protocol": "linear",
            "features": "mean",
            "label_fraction": fraction,
            "baselines": (*untrained, *pixels),
        }
        for fraction in LABEL_FRACTIONS
    ]
    probes.append({"protocol": "linear", "features": "cls", "baselines": untrained})
    probes.append({"protocol": "knn", "features": "mean", "baselines": (*untrained, *pixels)})
    if controls:
        probes.append(
            {
                "protocol": "finetune",
                "features": "mean",
                "epochs": dataset.supervised_epochs,
                "baselines": untrained,
            }
        )
    return tuple(probes)
