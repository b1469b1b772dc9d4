"""The study's pretrainings (docs/study.md): what decides whether PMAE or MAE leads, on one CPU.

``study_<data set>_<method>_<variant>``. All of a data set share model, optimiser and evaluations;
each differs from PMAE at 0.2 or MAE at 0.75 in one thing. ``make study`` runs every one with three
seeds; a preset by itself has seed 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pmae.presets.preset import Preset
from pmae.spec import EvaluationSpec, ExperimentSpec, KnnSpec, LinearProbeSpec

_TITLES = {"digits": "digits", "fashion_mnist": "10,000 images of Fashion-MNIST"}
_DEFAULT_RATIO = {"pmae": 0.2, "mae": 0.75}
_EPOCHS = {"digits": 120, "fashion_mnist": 12}
_PATCH_SIZE = {"digits": 4, "fashion_mnist": 7}
_NUM_PATCHES = {"digits": 4, "fashion_mnist": 16}
_WIDTH, _HEADS, _DEPTH, _DECODER_DEPTH, _DEEP_DECODER = 64, 4, 4, 2, 8


MEASURED: dict[str, tuple[float, float]] = {
    "study_digits_pmae_0.2": (90.3, 91.8),
    "study_digits_mae_0.75": (86.6, 85.5),
    "study_digits_pmae_0.1": (88.3, 89.8),
    "study_digits_mae_0.5": (90.3, 90.4),
    "study_digits_pmae_rd": (88.3, 91.6),
    "study_digits_pmae_top": (86.5, 89.0),
    "study_digits_pmae_bottom": (87.7, 89.7),
    "study_digits_pmae_basis_dct": (88.9, 91.0),
    "study_digits_pmae_basis_random": (90.6, 91.8),
    "study_digits_mae_0.5_compute": (92.5, 91.8),
    "study_digits_mae_0.75_compute": (85.4, 86.6),
    "study_digits_pmae_deep_decoder": (89.9, 89.8),
    "study_digits_mae_deep_decoder": (87.2, 87.3),
    "study_fashion_mnist_pmae_0.2": (72.5, 75.4),
    "study_fashion_mnist_mae_0.75": (77.8, 78.5),
    "study_fashion_mnist_pmae_0.1": (76.2, 77.3),
    "study_fashion_mnist_mae_0.5": (77.9, 78.9),
    "study_fashion_mnist_pmae_rd": (75.0, 77.0),
    "study_fashion_mnist_mae_0.75_compute": (78.8, 80.1),
}
"""Linear probe of CLS and of mean token, top-1 % on test: means over three seeds (docs/study)."""


@dataclass(frozen=True)
class _Variant:
    """A pretraining: how it differs from its method at the default ratio.

    Attributes:
        method: ``pmae`` or ``mae``.
        name: the last part of the preset's name.
        summary: after "PMAE on digits".
        fields: of the spec.
        baselines: whether the untrained encoder and the pixels are probed too.
        equal_compute: more epochs than the others: as much computing as PMAE takes.
    """

    method: str
    name: str
    summary: str
    fields: dict[str, Any] = field(default_factory=dict)
    baselines: bool = False
    equal_compute: bool = False


def _ratio(method: str, ratio: float, **more: Any) -> _Variant:
    return _Variant(method, f"{ratio}", f"at {ratio}", {"masking": {"ratio": ratio}}, **more)


def _compute(ratio: float) -> _Variant:
    summary = f"at {ratio}, for as much computing as PMAE at 0.2"
    masking = {"masking": {"ratio": ratio}}
    return _Variant("mae", f"{ratio}_compute", summary, masking, equal_compute=True)


def _deep(method: str) -> _Variant:
    return _Variant(
        method,
        "deep_decoder",
        f"with a decoder of {_DEEP_DECODER} blocks",
        {"model": {"decoder_depth": _DEEP_DECODER}},
    )


_DRAWN = _Variant(
    "pmae", "rd", "at a ratio drawn for every batch", {"masking": {"ratio": [0.1, 0.9]}}
)
_DIGITS = (
    _ratio("pmae", 0.2, baselines=True),
    _ratio("mae", 0.75),
    _ratio("pmae", 0.1),
    _ratio("mae", 0.5),
    _DRAWN,
    *(
        _Variant("pmae", strategy, f"masking {what}", {"masking": {"strategy": strategy}})
        for strategy, what in (
            ("top", "the components of greatest variance"),
            ("bottom", "those of least variance"),
        )
    ),
    *(
        _Variant("pmae", f"basis_{kind}", f"on the basis {kind}", {"basis": {"kind": kind}})
        for kind in ("dct", "random")
    ),
    _compute(0.5),
    _compute(0.75),
    _deep("pmae"),
    _deep("mae"),
)
_FASHION = (
    _ratio("pmae", 0.2, baselines=True),
    _ratio("mae", 0.75),
    _ratio("pmae", 0.1),
    _ratio("mae", 0.5),
    _DRAWN,
    _compute(0.75),
)


def _evaluations(variant: _Variant, *, recipes: bool) -> tuple[EvaluationSpec, ...]:
    """By layer from cached features, of CLS and mean token; on digits by the paper's recipe too."""
    untrained = ("untrained_encoder",) if variant.baselines else ()
    pixels = ("raw_pixels",) if variant.baselines else ()
    cached: tuple[EvaluationSpec, ...] = (
        LinearProbeSpec(layers="all", baselines=(*untrained, *pixels)),
        LinearProbeSpec(features="mean", layers="all", baselines=untrained),
        KnnSpec(baselines=(*untrained, *pixels)),
    )
    if not recipes:
        return cached
    return (
        *cached,
        LinearProbeSpec(recipe="paper", baselines=untrained),
        LinearProbeSpec(recipe="paper", features="mean", baselines=untrained),
    )


def _epochs(dataset: str, variant: _Variant) -> int:
    """Equal computing: as many blocks times tokens. PMAE's encoder takes every patch, MAE's few."""
    epochs = _EPOCHS[dataset]
    if not variant.equal_compute:
        return epochs
    every = _NUM_PATCHES[dataset] + 1
    ratio: float = variant.fields["masking"]["ratio"]
    visible = every - round(_NUM_PATCHES[dataset] * ratio)
    decoding = _DECODER_DEPTH * every
    return round(epochs * (_DEPTH * every + decoding) / (_DEPTH * visible + decoding))


def _spec(dataset: str, variant: _Variant) -> dict[str, Any]:
    epochs = _epochs(dataset, variant)
    digits = dataset == "digits"
    model = {
        "patch_size": _PATCH_SIZE[dataset],
        "embed_dim": _WIDTH,
        "depth": _DEPTH,
        "num_heads": _HEADS,
        "decoder_embed_dim": _WIDTH,
        "decoder_depth": _DECODER_DEPTH,
        "decoder_num_heads": _HEADS,
    }
    images = {} if digits else {"max_train_images": 10_000}
    return {
        "version": 1,
        "name": f"study_{dataset}_{variant.method}_{variant.name}",
        "method": variant.method,
        "dataset": {"name": dataset, "std_floor": 0.2, **images},
        "masking": {"ratio": _DEFAULT_RATIO[variant.method]} | variant.fields.get("masking", {}),
        "basis": variant.fields.get("basis"),
        "model": model | variant.fields.get("model", {}),
        "optimizer": {"base_lr": 4e-3},
        "augmentation": {"crop_scale": (0.8, 1)},
        "epochs": epochs,
        "batch_size": 64,
        "checkpoint": {"every_epochs": epochs, "latest_seconds": 60},
        "evaluations": _evaluations(variant, recipes=digits),
        "tags": ("study",),
    }


def _expect(name: str) -> str:
    cls, mean = MEASURED[name]
    return f"linear probe {cls} % (CLS), {mean} % (mean token): means of three seeds, docs/study.md"


def _presets() -> Iterator[Preset]:
    for dataset, variants in (("digits", _DIGITS), ("fashion_mnist", _FASHION)):
        for variant in variants:
            spec = ExperimentSpec.model_validate(_spec(dataset, variant))
            assert spec.name
            yield Preset(
                name=spec.name,
                summary=f"{variant.method.upper()} on {_TITLES[dataset]} {variant.summary}.",
                cost="about 2 minutes on one idle CPU core",
                expect=_expect(spec.name),
                spec=spec,
            )


STUDY_PRESETS: tuple[Preset, ...] = tuple(_presets())
