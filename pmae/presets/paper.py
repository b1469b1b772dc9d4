"""The paper's experiments, as a family of presets (arXiv 2502.06314).

Every variant of masking in the paper's public code, on every data set of the paper. The rows of its
Table 1 are ``method=mae`` (``std``, ratio 0.75), ``ratio=0.1-0.9`` with either method (``rd``), and
the best of the fixed ratios from 0.1 to 0.9 (``ocl``, oracle), which ``pmae table`` chooses on
validation images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pmae.errors import SpecError
from pmae.presets.family import Family, Parameter
from pmae.presets.preset import Preset
from pmae.report.published import DATASETS, METHODS, RANDOM_RATIO, SOURCE, STD, published_top1
from pmae.spec import (
    SHORT_PROTOCOL_NAMES,
    EvaluationSpec,
    ExperimentSpec,
    FinetuneSpec,
    LinearProbeSpec,
    MlpProbeSpec,
    resolve,
)
from pmae.spec.catalog import dataset_facts
from pmae.spec.estimate import num_parameters, steps_per_epoch
from pmae.spec.parts.masking import RATIO_MODES
from pmae.spec.sizes import known_train_images

_DATASETS = (*DATASETS, "clevr", "imagenet")
_BATCH = {"clevr": 128}
_OTHER_BATCH = 512
_HEADS = 12
"""Heads of all ViTs in the public code: ViT-T has 12 of width 16 there, instead of 3 of 64."""
_RATIO = re.compile(r"0?\.[0-9]{1,6}(-0?\.[0-9]{1,6})?")
_RATIOS = {"pmae": 0.2, "mae": 0.75}
_COUNTS = {"pmae": {"count": "reference"}, "mae": {}}
"""By method: the default ratio, and the public code's rule for a fraction of the variance."""
_MASKING = ("strategy", "ratio_of", "count", "scope", "predict", "mode")
"""Parameters that are fields of the masking with the same names."""
_FIELDS = {
    "ratio": ("masking", "ratio"),
    "basis": ("basis", "kind"),
    "model": ("model", "preset"),
    "decoder_depth": ("model", "decoder_depth"),
    **{name: ("masking", name) for name in _MASKING},
}
"""Path of each parameter's field in the spec."""

PARAMETERS = (
    Parameter("dataset", "data set to pretrain on", _DATASETS, default="cifar10"),
    Parameter("method", "mask components (pmae) or patches (mae)", ("pmae", "mae"), default="pmae"),
    Parameter(
        "ratio",
        "fraction masked, or a range to draw it from for each batch",
        form="a number above 0 and below 1 of up to six decimals, or two as 0.1-0.9",
        default="{pmae}, mae: {mae}".format_map(_RATIOS),
    ),
    Parameter(
        "strategy",
        "what to mask; segmentation: mae on clevr only",
        ("random", "top", "bottom", "block", "segmentation"),
        default="random",
    ),
    Parameter(
        "basis",
        "pmae: basis of the components",
        ("pca", "pca_augmented", "dct", "random", "kernel"),
        default="pca",
    ),
    Parameter(
        "ratio_of", "pmae: a fraction of what", ("variance", "components"), default="variance"
    ),
    Parameter(
        "count",
        "pmae: rule for a fraction of the variance",
        ("reference", "nearest"),
        default="reference",
    ),
    Parameter("scope", "pmae: one mask for each", ("batch", "image"), default="batch"),
    Parameter(
        "predict",
        "segmentation: what to mask",
        ("background", "object"),
        default="background",
    ),
    Parameter(
        "mode",
        "segmentation: how to mask objects",
        ("complete", "partial", "random"),
        default="complete",
    ),
    Parameter("model", "encoder", ("vit_tiny", "vit_small", "vit_base"), default="vit_tiny"),
    Parameter("decoder_depth", "blocks of the decoder", ("8", "1", "2", "4"), default="8"),
    Parameter(
        "evaluations",
        "the three of the paper's table, or a linear probe of every block",
        ("table", "layers"),
        default="table",
    ),
)
_DEFAULTS = {parameter.name: parameter.default for parameter in PARAMETERS}
_ALWAYS = ("dataset", "method", "ratio")
"""Parameters that a preset's name always contains, even with their defaults."""


def _build(given: Mapping[str, str]) -> Preset:
    values = {"dataset": "cifar10", "method": "pmae"} | dict(given)
    ratio = _ratio(values)
    if ratio is not None:
        values["ratio"] = "-".join(f"{number:.6f}".rstrip("0") for number in ratio)
    said = {
        name: values[name]
        for name in _DEFAULTS
        if name in values and (name in _ALWAYS or values[name] != _DEFAULTS[name])
    }
    spec = ExperimentSpec.model_validate(_fields(values, ratio, _run_name(said)))
    try:
        resolved = resolve(spec)
    except SpecError as error:
        raise _of_parameter(error, values) from error
    return Preset(
        name=f"paper?{urlencode(said)}",
        summary=_summary(said),
        cost=_cost(resolved),
        expect=_expect(said, resolved),
        spec=spec,
    )


def _run_name(said: Mapping[str, str]) -> str:
    """A run's name, such as ``cifar10_pmae_0.2_top``."""
    return "_".join(
        f"decoder_{value}" if name == "decoder_depth" else value for name, value in said.items()
    )


def _fields(
    values: Mapping[str, str], ratio: tuple[float, ...] | None, name: str
) -> dict[str, Any]:
    """Fields of the spec: those of the parameters, and those that the paper fixes."""
    masking: dict[str, Any] = {part: values[part] for part in _MASKING if part in values}
    if ratio is not None:
        masking["ratio"] = ratio if len(ratio) > 1 else ratio[0]
    if values.get("ratio_of") != "components":
        masking = _COUNTS[values["method"]] | masking
    model: dict[str, Any] = {"num_heads": _HEADS}
    if "model" in values:
        model["preset"] = values["model"]
    if "decoder_depth" in values:
        model["decoder_depth"] = int(values["decoder_depth"])
    dataset = values["dataset"]
    fields: dict[str, Any] = {
        "name": name,
        "method": values["method"],
        "dataset": {"name": dataset},
        "masking": masking,
        "model": model,
        "batch_size": _BATCH.get(dataset, _OTHER_BATCH),
        "evaluations": _evaluations(values),
        "tags": ("paper",),
    }
    if "basis" in values:
        fields["basis"] = {"kind": values["basis"]}
    if dataset == "clevr":
        # A crop would remove objects that the labels name.
        fields["augmentation"] = {"crop_scale": (1.0, 1.0), "horizontal_flip": False}
    return fields


def _ratio(values: Mapping[str, str]) -> tuple[float, ...] | None:
    """One number, or the ends of a range; None where the objects determine how much is masked."""
    text = values.get("ratio")
    if text is None:
        ratio = _RATIOS[values["method"]]
        if values.get("strategy") != "segmentation":
            return (ratio,)
        taking = RATIO_MODES["object" if values.get("predict") == "object" else "background"]
        return (ratio,) if values.get("mode") in taking else None
    ends = tuple(map(float, text.split("-"))) if _RATIO.fullmatch(text) else (0.0,)
    if not 0 < ends[0] <= ends[-1] < 1:
        raise PAPER.error("ratio", f"ratio={text!r}; expected {_PARAMETER['ratio'].form}")
    return ends


def _of_parameter(error: SpecError, values: Mapping[str, str]) -> SpecError:
    """Reword an error of the spec as one of the parameter to change."""
    place = error.field or ()
    about = next((name for name, field in _FIELDS.items() if field[: len(place)] == place), None)
    if about is None or about not in values:
        return SpecError(f"preset paper: {error}", field=("dataset",))
    return PAPER.error(about, f"{about}={values[about]}: {error}")


def _evaluations(values: Mapping[str, str]) -> tuple[EvaluationSpec, ...]:
    if values.get("evaluations") == "layers":
        return (LinearProbeSpec(layers="all"),)
    batch = _BATCH.get(values["dataset"], _OTHER_BATCH)
    # Without augmentation the features of the paper's recipe can be extracted once.
    unaugmented = {"recipe": "cached", "standardize": False}
    recipe = unaugmented if values["dataset"] == "clevr" else {"recipe": "paper"}
    probe = {**recipe, "batch_size": batch}
    return (
        LinearProbeSpec.model_validate(probe),
        MlpProbeSpec.model_validate(probe),
        FinetuneSpec(batch_size=batch),
    )


def _summary(said: Mapping[str, str]) -> str:
    title = dataset_facts(said["dataset"]).title.partition(" (")[0]
    at = f" at {said['ratio']}" if "ratio" in said else ""
    others = ", ".join(f"{name} {value}" for name, value in said.items() if name not in _ALWAYS)
    return f"{METHODS[said['method']]} on {title}{at}{', ' if others else ''}{others}."


def _cost(resolved: ExperimentSpec) -> str:
    facts = dataset_facts(resolved.dataset.name)
    parameters = num_parameters(resolved, facts.channels or 3) / 1e6
    num_train = known_train_images(resolved.dataset)
    if num_train is None:
        length = f"{resolved.epochs} epochs in batches"
    else:
        length = f"{resolved.epochs * steps_per_epoch(resolved, num_train):,} steps"
    return (
        f"{parameters:.1f} M parameters, {length} of {resolved.batch_size} images of "
        f"{resolved.resolution} pixels: for a GPU"
    )


def _expect(said: Mapping[str, str], resolved: ExperimentSpec) -> str:
    """The published figures, if the paper's table has any."""
    method, ratio = said["method"], resolved.masking.ratio
    if set(said) - set(_ALWAYS) or said["dataset"] not in DATASETS:
        return "no published figure; not measured here"
    if isinstance(ratio, tuple):
        row = "rd" if ratio == RANDOM_RATIO else None
    else:
        row = "std" if (method, ratio) == STD else "ocl"
    if row is None:
        return "no published figure; not measured here"
    figures = published_top1(method, row, said["dataset"])
    listed = ", ".join(f"{SHORT_PROTOCOL_NAMES[name]} {top1} %" for name, top1 in figures.items())
    of = " of the best ratio" if row == "ocl" else ""
    return f"published{of} ({SOURCE}): {listed}; not measured here"


PAPER = Family(
    name="paper",
    summary="The paper's experiments: every variant of its masking on every data set.",
    example="paper?dataset=cifar10&method=pmae&ratio=0.2",
    parameters=PARAMETERS,
    build=_build,
)
_PARAMETER = {parameter.name: parameter for parameter in PARAMETERS}


def _aliases() -> dict[str, str]:
    table = {"mae_std": "method=mae"}
    for method in ("mae", "pmae"):
        table[f"{method}_rd"] = f"method={method}&ratio=0.1-0.9"
        for tenth in range(1, 10):
            table[f"{method}_ratio_0.{tenth}"] = f"method={method}&ratio=0.{tenth}"
    ablations = {"pmae_scope_image": "scope=image"}
    for kind in ("pca_augmented", "dct", "random", "kernel"):
        ablations[f"pmae_basis_{kind}"] = f"basis={kind}"
    for strategy in ("top", "bottom", "block"):
        ablations[f"pmae_strategy_{strategy}"] = f"strategy={strategy}"
    for method in ("mae", "pmae"):
        for depth in (1, 2, 4, 8):
            ablations[f"{method}_decoder_depth_{depth}"] = f"method={method}&decoder_depth={depth}"
    return {
        f"{dataset}_{name}": f"dataset={dataset}&{query}"
        for dataset in DATASETS
        for name, query in table.items()
    } | {f"cifar10_{name}": f"evaluations=layers&{query}" for name, query in ablations.items()}


PAPER_ALIASES = _aliases()
"""Former names of these presets, and the queries that they stand for."""
