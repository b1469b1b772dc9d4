"""The study's pretrainings as one family of presets (docs/study.md)."""

from __future__ import annotations

from collections.abc import Mapping

from pmae.presets.family import Family, Parameter
from pmae.presets.preset import Preset
from pmae.presets.study import STUDY_PRESETS

_PREFIX = "study_"
_BY_DATASET: dict[str, dict[str, Preset]] = {}
for _preset in STUDY_PRESETS:
    _dataset = _preset.spec.dataset.name
    _variant = _preset.name.removeprefix(f"{_PREFIX}{_dataset}_")
    _BY_DATASET.setdefault(_dataset, {})[_variant] = _preset


def _build(given: Mapping[str, str]) -> Preset:
    dataset = given.get("dataset", next(iter(_BY_DATASET)))
    variants = _BY_DATASET[dataset]
    variant = given.get("variant", next(iter(variants)))
    if variant not in variants:
        raise STUDY.error(
            "variant", f"variant={variant!r}; valid on {dataset} are {', '.join(variants)}"
        )
    return variants[variant]


_VARIANTS = tuple(dict.fromkeys(name for found in _BY_DATASET.values() for name in found))
STUDY = Family(
    name="study",
    summary="What decides whether PMAE or MAE leads, on one CPU core: docs/study.md.",
    example=f"study?dataset={next(iter(_BY_DATASET))}&variant={_VARIANTS[0]}",
    parameters=(
        Parameter(
            "dataset",
            "what is pretrained on",
            tuple(_BY_DATASET),
            default=next(iter(_BY_DATASET)),
        ),
        Parameter("variant", "how", _VARIANTS, default=_VARIANTS[0]),
    ),
    build=_build,
)
