"""Specs of the evaluations of a pretrained encoder, one class a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel
from pmae.spec.catalog import dataset_facts
from pmae.spec.parts.dataset import DatasetSpec

Pooling = Literal["cls", "mean"]
Layers = Literal["last", "all"]
Protocol = Literal["linear", "mlp", "knn", "finetune"]
PROTOCOL_NAMES: Mapping[str, str] = {
    "linear": "linear probe",
    "mlp": "MLP probe",
    "knn": "k-NN",
    "finetune": "fine-tuning",
}
"""Names for people."""
SHORT_PROTOCOL_NAMES: Mapping[str, str] = {
    protocol: name.removesuffix(" probe") for protocol, name in PROTOCOL_NAMES.items()
}
"""Short names for people, for tables and captions."""
_Beta = Annotated[float, Field(ge=0, lt=1)]
_Baselines = tuple[Literal["raw_pixels", "untrained_encoder"], ...]
PAPER_K = tuple(range(2, 20))
K_WITHOUT_VAL = 10
"""Neighbours of a k-NN without validation images to choose by: the middle of the paper's range."""


class _Evaluation(SpecModel):
    """Fields of every protocol."""

    dataset: DatasetSpec | None = Field(
        default=None,
        description="Transfer: train and measure on these images, at the pretraining resolution; "
        "default: the pretraining data set.",
    )
    at_epochs: tuple[PositiveInt, ...] = Field(
        default=(),
        max_length=1000,
        description="Also evaluate after these epochs of pretraining, which gives a curve; the end "
        "is always evaluated.",
    )
    features: Pooling = Field(
        default="cls",
        description="Representation of an image: the CLS token, or the mean of the patch tokens.",
    )
    label_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Train the classifier on this fraction of the training images, a seeded choice "
        "with classes balanced, as if the others had no labels; all of them still standardise the "
        "pixels.",
        examples=[0.01, 0.1],
    )

    def model_post_init(self, _context: object) -> None:
        """Mark the protocol as set, so that it survives ``exclude_unset``."""
        self.model_fields_set.add("protocol")


class _Frozen(_Evaluation):
    """Fields of the protocols that freeze the encoder."""

    layers: Layers = Field(
        default="last",
        description="last: the last block's features. all: those of every block, for an accuracy "
        "at each depth; the reported figure is still the last block's.",
    )
    standardize: bool | None = Field(
        default=None,
        description="Standardise each feature by the training features' statistics; default: "
        "true for probes of recipe cached, else false.",
    )
    baselines: _Baselines = Field(
        default=(),
        description="Also train the same classifier, by the same recipe, on these features.",
    )


class _Probe(_Frozen):
    """A classifier on frozen features, trained by SGD."""

    recipe: Literal["cached", "paper"] = Field(
        default="cached",
        description="cached: the features of unaugmented images, extracted once. paper: images "
        "augmented as in pretraining and encoded again in every epoch.",
    )
    epochs: PositiveInt = Field(default=100, le=10_000)
    base_lr: float = Field(default=0.1, gt=0, description="For a batch of 256; SGD, momentum 0.9.")
    batch_size: PositiveInt = Field(default=256, le=65_536)
    warmup_epochs: float | None = Field(
        default=None, ge=0, description="Default: 10 % of the epochs (10 of 100), at most 10."
    )
    num_seeds: PositiveInt = Field(
        default=1,
        le=100,
        description="Number of trainings, a seed each; mean and standard deviation are reported.",
    )


class LinearProbeSpec(_Probe):
    """A linear classifier on frozen features."""

    protocol: Literal["linear"] = "linear"


class MlpProbeSpec(_Probe):
    """An MLP on frozen features: two hidden layers of the encoder's width with ReLU."""

    protocol: Literal["mlp"] = "mlp"


class KnnSpec(_Frozen):
    """k-NN: the majority class of the nearest training images by Euclidean distance of features."""

    protocol: Literal["knn"] = "knn"
    k: tuple[PositiveInt, ...] = Field(
        default=PAPER_K,
        min_length=1,
        max_length=100,
        description="Numbers of neighbours to try; the best on validation images is measured on "
        f"test images. Without validation images one number; default: {K_WITHOUT_VAL}.",
    )


class FinetuneSpec(_Evaluation):
    """Fine-tuning: all weights and a linear classifier, trained by AdamW on augmented images."""

    protocol: Literal["finetune"] = "finetune"
    epochs: PositiveInt = Field(default=100, le=10_000)
    base_lr: float = Field(default=1e-3, gt=0, description="For a batch of 256; AdamW.")
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    weight_decay: float = Field(default=0.05, ge=0, le=10)
    batch_size: PositiveInt = Field(default=256, le=65_536)
    warmup_epochs: float | None = Field(
        default=None, ge=0, description="Default: 5 % of the epochs (5 of 100), at most 5."
    )
    num_seeds: PositiveInt = Field(
        default=1,
        le=100,
        description="Number of trainings, a seed each; mean and standard deviation are reported.",
    )
    baselines: tuple[Literal["untrained_encoder"], ...] = Field(
        default=(), description="Also train the same network, by the same recipe, from scratch."
    )


def _protocol(value: Any) -> str | None:
    """A probe that names no protocol is a linear one."""
    if isinstance(value, Mapping):
        name = value.get("protocol", "linear")
        return name if isinstance(name, str) else None
    name = getattr(value, "protocol", "linear")
    return name if isinstance(name, str) else None


EvaluationSpec = Annotated[
    Annotated[LinearProbeSpec, Tag("linear")]
    | Annotated[MlpProbeSpec, Tag("mlp")]
    | Annotated[KnnSpec, Tag("knn")]
    | Annotated[FinetuneSpec, Tag("finetune")],
    Discriminator(
        _protocol,
        custom_error_type="unknown_protocol",
        custom_error_message="not a protocol; expected linear, mlp, knn or finetune for `protocol`",
    ),
]


def resolve_evaluations(
    evaluations: Sequence[EvaluationSpec], *, epochs: int, dataset: DatasetSpec
) -> tuple[EvaluationSpec, ...]:
    """Fill in the defaults of a run's evaluations.

    Args:
        evaluations: as their author wrote them.
        epochs: of the run.
        dataset: resolved; of the pretraining.

    Raises:
        SpecError: an epoch that the run does not have, or images that the encoder cannot take.
    """
    return tuple(
        _resolve(evaluation, ("evaluations", index), epochs, dataset)
        for index, evaluation in enumerate(evaluations)
    )


def resolve_evaluation(evaluation: EvaluationSpec, dataset: DatasetSpec) -> EvaluationSpec:
    """Fill in the defaults of one evaluation of a checkpoint that was pretrained on ``dataset``.

    Raises:
        SpecError: images that the encoder cannot take, or ``at_epochs``.
    """
    return _resolve(evaluation, (), 0, dataset)


def _resolve(
    evaluation: EvaluationSpec, place: tuple[str | int, ...], epochs: int, pretrained: DatasetSpec
) -> EvaluationSpec:
    prefix = "".join(f"{part}." for part in place)
    late = [epoch for epoch in evaluation.at_epochs if epoch > epochs]
    if late:
        valid = f"the run has {epochs} epochs" if epochs else "a checkpoint is of one epoch"
        raise SpecError(
            f"{prefix}at_epochs: {valid}, {late[0]} is none of them", field=(*place, "at_epochs")
        )
    updates: dict[str, Any] = {"at_epochs": tuple(sorted(set(evaluation.at_epochs)))}
    if evaluation.dataset is not None:
        updates["dataset"] = _transfer(evaluation.dataset, pretrained, (*place, "dataset"))
    if not isinstance(evaluation, KnnSpec) and evaluation.warmup_epochs is None:
        updates["warmup_epochs"] = warmup_epochs(evaluation)
    if isinstance(evaluation, KnnSpec) and (evaluation.dataset or pretrained).val == "none":
        updates["k"] = _only_k(evaluation.k, prefix, place)
    if not isinstance(evaluation, FinetuneSpec) and evaluation.standardize is None:
        updates["standardize"] = getattr(evaluation, "recipe", None) == "cached"
    return evaluation.model_copy(update=updates)


def _only_k(k: tuple[int, ...], prefix: str, place: tuple[str | int, ...]) -> tuple[int, ...]:
    """Reduce to one number of neighbours, since there are no validation images to choose by."""
    if k == PAPER_K:
        return (K_WITHOUT_VAL,)
    if len(k) > 1:
        raise SpecError(
            f"{prefix}k: {len(k)} numbers, but no validation images to choose by (dataset.val is "
            "none); expected one number",
            field=(*place, "k"),
        )
    return k


def warmup_epochs(evaluation: LinearProbeSpec | MlpProbeSpec | FinetuneSpec) -> float:
    """Epochs of a classifier's warm-up; default: the fraction of its epochs in the paper."""
    if evaluation.warmup_epochs is not None:
        return evaluation.warmup_epochs
    max_epochs, fraction = (5.0, 0.05) if isinstance(evaluation, FinetuneSpec) else (10.0, 0.1)
    return min(max_epochs, fraction * evaluation.epochs)


def check_warmups(evaluations: Sequence[EvaluationSpec], place: tuple[str, ...]) -> None:
    """Refuse a classifier's warm-up that is longer than its training.

    Args:
        evaluations: resolved or not.
        place: path of the evaluations in the spec.

    Raises:
        SpecError: names the field.
    """
    for index, evaluation in enumerate(evaluations):
        if isinstance(evaluation, KnnSpec) or evaluation.warmup_epochs is None:
            continue
        if evaluation.warmup_epochs > evaluation.epochs:
            field: tuple[str | int, ...] = (*place, index, "warmup_epochs")
            raise SpecError(
                f"{'.'.join(map(str, field))}: {evaluation.warmup_epochs:g} is more than the "
                f"{evaluation.epochs} epochs of the classifier",
                field=field,
            )


def _transfer(
    dataset: DatasetSpec, pretrained: DatasetSpec, place: tuple[str | int, ...]
) -> DatasetSpec:
    prefix = ".".join(map(str, place))
    if dataset.resolution not in (None, pretrained.resolution):
        raise SpecError(
            f"{prefix}.resolution: the encoder takes images of {pretrained.resolution} pixels; "
            "leave it out",
            field=(*place, "resolution"),
        )
    channels = dataset_facts(pretrained.name).channels
    others = dataset_facts(dataset.name).channels
    if None not in (channels, others) and channels != others:
        raise SpecError(
            f"{prefix}.name: the encoder takes images of {channels} channels, {dataset.name} has "
            f"{others}",
            field=(*place, "name"),
        )
    return dataset.model_copy(update={"resolution": pretrained.resolution})
