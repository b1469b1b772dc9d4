"""The paper's experiments as presets, generated from two tables: data sets and variants.

``<data set>_<method>_<variant>``, where the variant is

- ``std`` (MAE at 0.75), ``rd`` (a ratio drawn from 0.1 to 0.9 for every batch),
- ``ratio_<r>`` for r = 0.1 to 0.9: the sweep. The paper's ``ocl`` (oracle) is no preset: it is the
  one of the nine that is best, which ``pmae table`` chooses on validation,
- an ablation, on CIFAR-10 only (:data:`ABLATIONS`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pmae.data.catalog import dataset_facts
from pmae.estimate import num_parameters, steps_per_epoch
from pmae.presets.preset import Preset
from pmae.published import SOURCE, published_top1
from pmae.spec import (
    DatasetSpec,
    EvaluationSpec,
    ExperimentSpec,
    FinetuneSpec,
    LinearProbeSpec,
    MlpProbeSpec,
    resolve,
)
from pmae.spec.sizes import known_train_images

_DATASETS = ("cifar10", "tiny_imagenet", "dermamnist", "bloodmnist", "pathmnist")
_METHODS = ("mae", "pmae")
_RATIOS = tuple(step / 10 for step in range(1, 10))
_RANDOM_RATIO = (0.1, 0.9)
_BATCH = 512
_PAPER_HEADS = 12
"""The paper's ViT-T has 12 heads of 16, the usual one 3 of 64."""
_NAMES = {"mae": "MAE", "pmae": "PMAE", "linear": "linear", "mlp": "MLP", "finetune": "fine-tune"}


@dataclass(frozen=True)
class Variant:
    """One way to pretrain.

    Attributes:
        method: ``pmae`` or ``mae``.
        name: the last part of the preset's name.
        summary: after "PMAE on CIFAR-10".
        fields: of the spec, beside those that all presets of the table share.
        row: of the paper's table, for what to expect; None: it publishes no such figure.
    """

    method: str
    name: str
    summary: str
    fields: dict[str, Any] = field(default_factory=dict)
    row: str | None = None


def _table_variants() -> Iterator[Variant]:
    yield Variant("mae", "std", "at its usual ratio", {"masking": {"ratio": 0.75}}, "std")
    drawn = {"masking": {"ratio": _RANDOM_RATIO}}
    for method in _METHODS:
        yield Variant(method, "rd", "at a ratio drawn for every batch", drawn, "rd")
    for method in _METHODS:
        for ratio in _RATIOS:
            fixed = {"masking": {"ratio": ratio}}
            yield Variant(method, f"ratio_{ratio}", f"at ratio {ratio}", fixed)


ABLATIONS: tuple[Variant, ...] = (
    *(
        Variant("pmae", f"basis_{kind}", f"on the basis {kind}", {"basis": {"kind": kind}})
        for kind in ("pca_augmented", "dct", "random", "kernel")
    ),
    *(
        Variant(
            "pmae",
            f"strategy_{strategy}",
            f"masking components by the strategy {strategy}",
            {"masking": {"strategy": strategy}},
        )
        for strategy in ("top", "bottom", "block")
    ),
    *(
        Variant(
            method,
            f"decoder_depth_{depth}",
            f"with a decoder of depth {depth}, probed at every depth of the encoder",
            {"model": {"decoder_depth": depth}},
        )
        for method in _METHODS
        for depth in (1, 2, 4, 8)
    ),
    Variant(
        "pmae",
        "scope_image",
        "with a mask of its own for each image",
        {"masking": {"scope": "image"}},
    ),
)
"""On CIFAR-10, PMAE at 0.2 and MAE at 0.75, each by a linear probe of every block."""


def _evaluations(*, ablation: bool) -> tuple[EvaluationSpec, ...]:
    probe = {"recipe": "paper", "batch_size": _BATCH}
    if ablation:
        return (LinearProbeSpec(layers="all"),)
    return (
        LinearProbeSpec.model_validate(probe),
        MlpProbeSpec.model_validate(probe),
        FinetuneSpec(batch_size=_BATCH),
    )


def _preset(dataset: str, variant: Variant, *, ablation: bool) -> Preset:
    name = f"{dataset}_{variant.method}_{variant.name}"
    fields: dict[str, Any] = {
        "name": name,
        "method": variant.method,
        "dataset": DatasetSpec(name=dataset),
        **variant.fields,
        "model": {"num_heads": _PAPER_HEADS} | variant.fields.get("model", {}),
        "batch_size": _BATCH,
        "evaluations": _evaluations(ablation=ablation),
        "tags": ("ablation",) if ablation else ("paper-table",),
    }
    spec = ExperimentSpec.model_validate(fields)
    title = dataset_facts(dataset).title.partition(" (")[0]
    return Preset(
        name=name,
        summary=f"{_NAMES[variant.method]} on {title} {variant.summary}.",
        cost=_cost(spec),
        expect=_expect(variant, dataset),
        spec=spec,
    )


def _cost(spec: ExperimentSpec) -> str:
    resolved = resolve(spec)
    facts = dataset_facts(spec.dataset.name)
    num_train = known_train_images(spec.dataset)
    assert num_train is not None
    steps = spec.epochs * steps_per_epoch(spec, num_train)
    parameters = num_parameters(resolved, facts.channels or 3) / 1e6
    return (
        f"{parameters:.1f} M parameters, {steps:,} steps of {spec.batch_size} images of "
        f"{resolved.resolution} pixels: for a GPU"
    )


def _expect(variant: Variant, dataset: str) -> str:
    if variant.row is not None:
        figures = published_top1(variant.method, variant.row, dataset)
        listed = ", ".join(f"{_NAMES[name]} {top1} %" for name, top1 in figures.items())
        return f"published ({SOURCE}): {listed}; not measured here"
    if variant.name.startswith("ratio_"):
        figures = published_top1(variant.method, "ocl", dataset)
        listed = ", ".join(f"{_NAMES[name]} {top1} %" for name, top1 in figures.items())
        return f"published of the best ratio ({SOURCE}): {listed}; not measured here"
    return "no published figure; not measured here"


def _all() -> Iterator[Preset]:
    for dataset in _DATASETS:
        for variant in _table_variants():
            yield _preset(dataset, variant, ablation=False)
    for variant in ABLATIONS:
        yield _preset("cifar10", variant, ablation=True)


PAPER_PRESETS: tuple[Preset, ...] = tuple(_all())
