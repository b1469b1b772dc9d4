"""The experiment spec: everything that decides what a run computes.

A researcher writes a spec with as little as a method and a data set; :func:`resolve` writes every
default out. What is stored and trained is always a resolved spec, so that a run can be repeated
exactly. Defaults are those of the paper (arXiv 2502.06314, appendix) unless a field says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError

from pmae.data.catalog import dataset_facts
from pmae.errors import SpecError

PAPER_WARMUP_EPOCHS = 40
PAPER_WARMUP_SHARE = 0.05
"""The paper warms up for 40 of its 800 epochs; shorter runs keep that share."""
DEFAULT_PMAE_RATIO = 0.2
DEFAULT_MAE_RATIO = 0.75

MODEL_PRESETS: dict[str, dict[str, int]] = {
    "vit_tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "vit_small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "vit_base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
}

CropShare = Annotated[float, Field(gt=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, strip_whitespace=True)]


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise PydanticCustomError(
            "range_reversed",
            "[{low}, {high}] is not a range; valid is [low, high] with low <= high",
            {"low": value[0], "high": value[1]},
        )
    return value


class SpecModel(BaseModel):
    """Base of every part of a spec: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetSpec(SpecModel):
    """Which images."""

    name: str = Field(
        description="digits, fashion_mnist, or folder:<name> under the data root.",
        examples=["digits"],
    )
    resolution: PositiveInt | None = Field(
        default=None, le=1024, description="Edge length in pixels; default: the data set's."
    )
    max_train_images: PositiveInt | None = Field(
        default=None,
        description="Use only this many training images (a seeded choice, classes balanced).",
    )

    std_floor: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="Least standard deviation of a pixel that standardisation divides by, where "
        "black is 0 and white is 1: pixels that hardly ever change would blow up otherwise.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            dataset_facts(name)
        except SpecError as error:
            raise PydanticCustomError(
                "unknown_dataset", "{reason}", {"reason": str(error)}
            ) from error
        return name


class BasisSpec(SpecModel):
    """The orthonormal basis whose components are masked (PMAE only)."""

    kind: Literal["pca"] = Field(
        default="pca", description="pca: principal components of the standardised train set."
    )


class MaskingSpec(SpecModel):
    """What is hidden from the encoder."""

    strategy: Literal["random"] = Field(
        default="random", description="random: components (PMAE) or patches (MAE) drawn uniformly."
    )
    ratio: float | tuple[float, float] | None = Field(
        default=None,
        description="PMAE: share of variance masked (default 0.2). MAE: share of patches masked "
        "(default 0.75). Two numbers: drawn uniformly between them for every batch.",
        examples=[0.2, [0.1, 0.9]],
    )
    scope: Literal["batch", "image"] | None = Field(
        default=None,
        description="PMAE: one mask for the batch (default, as the paper) or one for each image. "
        "MAE draws its patches for each image.",
    )

    @field_validator("ratio")
    @classmethod
    def _valid(
        cls, ratio: float | tuple[float, float] | None
    ) -> float | tuple[float, float] | None:
        for value in ratio if isinstance(ratio, tuple) else (ratio,):
            if value is not None and not 0.0 < value < 1.0:
                raise PydanticCustomError(
                    "ratio_out_of_range",
                    "{value} is not a ratio; valid is a number above 0 and below 1",
                    {"value": value},
                )
        if isinstance(ratio, tuple):
            _check_range(ratio)
        return ratio

    @property
    def ratio_range(self) -> tuple[float, float]:
        """``(low, high)``; equal for a fixed ratio. Only on a resolved spec."""
        if self.ratio is None:
            raise ValueError("masking.ratio is not resolved")
        return self.ratio if isinstance(self.ratio, tuple) else (self.ratio, self.ratio)


class ModelSpec(SpecModel):
    """ViT encoder and MAE decoder. A number given here replaces the preset's."""

    preset: Literal["vit_tiny", "vit_small", "vit_base"] = Field(
        default="vit_tiny", description="Encoder size."
    )
    patch_size: PositiveInt | None = Field(
        default=None, description="Edge length in pixels; default: the data set's."
    )
    embed_dim: PositiveInt | None = Field(default=None, le=4096, description="Encoder width.")
    depth: PositiveInt | None = Field(default=None, le=64, description="Encoder blocks.")
    num_heads: PositiveInt | None = Field(default=None, le=64, description="Encoder heads.")
    mlp_ratio: float = Field(default=4.0, gt=0, le=16, description="MLP width over encoder width.")
    decoder_embed_dim: PositiveInt = Field(default=512, le=4096, description="Decoder width.")
    decoder_depth: PositiveInt = Field(default=8, le=64, description="Decoder blocks.")
    decoder_num_heads: PositiveInt = Field(default=16, le=64, description="Decoder heads.")
    decoder_mlp_ratio: float = Field(
        default=4.0, gt=0, le=16, description="MLP width over decoder width."
    )


class OptimizerSpec(SpecModel):
    """AdamW, as METHOD section 3: the learning rate is ``base_lr * batch_size / 256``."""

    name: Literal["adamw"] = "adamw"
    base_lr: float = Field(default=1.5e-4, gt=0, le=10, description="For a batch of 256.")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.95)
    )
    weight_decay: float = Field(default=0.05, ge=0, le=10)
    implementation: Literal["fused", "foreach"] = Field(
        default="fused",
        description="AdamW's kernel. The two differ in their last bits, so a run records which.",
    )


class ScheduleSpec(SpecModel):
    """Linear warm-up, then cosine to 0, step by step."""

    warmup_epochs: float | None = Field(
        default=None, ge=0, description="Default: 5 % of the epochs (the paper's 40 of 800)."
    )


class AugmentationSpec(SpecModel):
    """RandomResizedCrop (antialiased bicubic) and horizontal flip."""

    crop_scale: tuple[CropShare, CropShare] = Field(
        default=(0.2, 1.0), description="Range of the crop's share of the area; (1, 1): no crop."
    )
    crop_ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = Field(
        default=(3 / 4, 4 / 3), description="Range of the crop's aspect ratio."
    )
    horizontal_flip: bool | None = Field(
        default=None, description="Default: true where a mirrored image keeps its class."
    )

    @field_validator("crop_scale", "crop_ratio")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _check_range(value)


class CheckpointSpec(SpecModel):
    """When weights and training state are written."""

    every_epochs: PositiveInt = Field(
        default=100, description="Kept checkpoints; the last is kept too."
    )
    milestones: tuple[PositiveInt, ...] = Field(
        default=(), max_length=1000, description="Epochs whose checkpoints are made and stay."
    )
    keep_last: PositiveInt | None = Field(
        default=None,
        description="Keep only so many of the newest checkpoints, the best one (`keep_best`), "
        "milestones, and those that somebody pinned; default: keep all.",
    )
    keep_best: Literal["val_loss", "val_online_probe_top1", "train_loss"] | None = Field(
        default=None,
        description="Keep the checkpoint with the least loss or the highest accuracy too.",
    )
    latest_seconds: float = Field(
        default=30.0,
        ge=0,
        description="The rolling checkpoint is replaced at the first step after this long: what a "
        "killed run loses, and what the dashboard shows.",
    )


class LinearProbeSpec(SpecModel):
    """A linear classifier on the frozen CLS token, from features extracted once."""

    protocol: Literal["linear"] = "linear"
    epochs: PositiveInt = Field(default=100, le=10_000)
    base_lr: float = Field(default=0.1, gt=0, description="For a batch of 256; SGD, momentum 0.9.")
    batch_size: PositiveInt = Field(default=256, le=65_536)
    warmup_epochs: float = Field(default=10.0, ge=0)
    standardize: bool = Field(
        default=True, description="Standardise each feature by the training features' statistics."
    )
    baselines: tuple[Literal["raw_pixels", "untrained_encoder"], ...] = Field(
        default=(),
        description="Give the same classifier, by the same recipe, these features too.",
    )


class ExperimentSpec(SpecModel):
    """One pretraining run and the evaluations at its end."""

    kind: Literal["pretrain"] = "pretrain"
    version: Literal[1] = Field(default=1, description="Version of the spec's format.")
    name: str | None = Field(
        default=None, max_length=120, description="For people; need not be unique."
    )
    method: Literal["pmae", "mae"] = Field(
        default="pmae", description="pmae: mask principal components. mae: mask patches."
    )
    dataset: DatasetSpec
    basis: BasisSpec | None = Field(default=None, description="PMAE only; default: pca.")
    masking: MaskingSpec = MaskingSpec()
    model: ModelSpec = ModelSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    epochs: PositiveInt = Field(default=800, le=100_000)
    batch_size: PositiveInt = Field(default=512, le=65_536)
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = Field(default=0, ge=0, lt=2**31)
    threads: PositiveInt = Field(
        default=1,
        le=256,
        description="CPU threads of the trainer. Another number changes the bits.",
    )
    log_every_steps: PositiveInt = Field(default=10, description="Steps between two loss points.")
    validate_every_epochs: PositiveInt = Field(
        default=1, description="Epochs between two passes over the validation split."
    )
    checkpoint: CheckpointSpec = CheckpointSpec()
    evaluations: tuple[LinearProbeSpec, ...] = Field(
        default=(LinearProbeSpec(),), max_length=16, description="Run once, when training ends."
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    notes: str = Field(default="", max_length=10_000)

    @property
    def resolution(self) -> int:
        """Edge length of the images in pixels. Only on a resolved spec."""
        return _resolved(self.dataset.resolution, "dataset.resolution")

    @property
    def patch_size(self) -> int:
        """Edge length of a patch in pixels. Only on a resolved spec."""
        return _resolved(self.model.patch_size, "model.patch_size")

    @property
    def learning_rate(self) -> float:
        """Peak learning rate of the optimiser."""
        return self.optimizer.base_lr * self.batch_size / 256


def _resolved(value: int | None, name: str) -> int:
    if value is None:
        raise ValueError(f"{name} is not resolved; call pmae.spec.resolve first")
    return value


def resolve(spec: ExperimentSpec) -> ExperimentSpec:
    """Write every default out and check what only the whole spec can tell.

    Resolving a resolved spec changes nothing.

    Raises:
        SpecError: fields that do not go together; ``field`` names the one to change.
    """
    facts = dataset_facts(spec.dataset.name)
    resolution = spec.dataset.resolution or facts.resolution
    _check_retention(spec)
    model = _resolve_model(spec.model, facts.patch_size)
    _check_patches(resolution, model)
    updates: dict[str, Any] = {
        "dataset": spec.dataset.model_copy(update={"resolution": resolution}),
        "basis": _resolve_basis(spec),
        "masking": _resolve_masking(spec),
        "model": model,
        "schedule": _resolve_schedule(spec),
        "augmentation": _resolve_augmentation(spec, facts.horizontal_flip),
    }
    return spec.model_copy(update=updates)


def _check_retention(spec: ExperimentSpec) -> None:
    checkpoint = spec.checkpoint
    if checkpoint.keep_best is not None and checkpoint.keep_last is None:
        raise SpecError(
            "checkpoint.keep_best: every checkpoint stays as long as keep_last is not given; "
            "give keep_last too",
            field=("checkpoint", "keep_best"),
        )
    late = [epoch for epoch in checkpoint.milestones if epoch > spec.epochs]
    if late:
        raise SpecError(
            f"checkpoint.milestones: the run has {spec.epochs} epochs, {late[0]} is none of them",
            field=("checkpoint", "milestones"),
        )


def _resolve_model(model: ModelSpec, patch_size: int) -> ModelSpec:
    numbers = MODEL_PRESETS[model.preset] | {"patch_size": patch_size}
    missing = {name: value for name, value in numbers.items() if getattr(model, name) is None}
    resolved = model.model_copy(update=missing)
    for prefix in ("", "decoder_"):
        width, heads = (
            getattr(resolved, prefix + "embed_dim"),
            getattr(resolved, prefix + "num_heads"),
        )
        if width % heads:
            raise SpecError(
                f"model.{prefix}num_heads: {heads} heads do not divide the width {width}; "
                f"valid are {_divisors(width, 64)}",
                field=("model", prefix + "num_heads"),
            )
        if width % 4:
            raise SpecError(
                f"model.{prefix}embed_dim: {width} is not a multiple of 4, which the sine-cosine "
                "positions of a plane need",
                field=("model", prefix + "embed_dim"),
            )
    return resolved


def _check_patches(resolution: int, model: ModelSpec) -> None:
    patch_size = _resolved(model.patch_size, "model.patch_size")
    if resolution % patch_size or patch_size == resolution:
        valid = [size for size in _divisors(resolution, 64) if size < resolution]
        raise SpecError(
            f"model.patch_size: {patch_size} does not divide the resolution {resolution} into "
            f"patches; valid are {valid}",
            field=("model", "patch_size"),
        )


def _divisors(number: int, most: int) -> list[int]:
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]


def _resolve_basis(spec: ExperimentSpec) -> BasisSpec | None:
    if spec.method == "pmae":
        return spec.basis or BasisSpec()
    if spec.basis is not None:
        raise SpecError("basis: MAE masks patches and has no basis; leave it out", field=("basis",))
    return None


def _resolve_masking(spec: ExperimentSpec) -> MaskingSpec:
    pmae = spec.method == "pmae"
    if not pmae and spec.masking.scope == "batch":
        raise SpecError(
            "masking.scope: MAE draws its patches for each image; valid is 'image'",
            field=("masking", "scope"),
        )
    ratio = spec.masking.ratio
    if ratio is None:
        ratio = DEFAULT_PMAE_RATIO if pmae else DEFAULT_MAE_RATIO
    scope = spec.masking.scope or ("batch" if pmae else "image")
    return spec.masking.model_copy(update={"ratio": ratio, "scope": scope})


def _resolve_schedule(spec: ExperimentSpec) -> ScheduleSpec:
    warmup = spec.schedule.warmup_epochs
    if warmup is None:
        warmup = min(PAPER_WARMUP_EPOCHS, PAPER_WARMUP_SHARE * spec.epochs)
    elif warmup > spec.epochs:
        raise SpecError(
            f"schedule.warmup_epochs: {warmup} is more than the {spec.epochs} epochs of the run",
            field=("schedule", "warmup_epochs"),
        )
    return ScheduleSpec(warmup_epochs=warmup)


def _resolve_augmentation(spec: ExperimentSpec, flip: bool) -> AugmentationSpec:
    if spec.augmentation.horizontal_flip is not None:
        return spec.augmentation
    return spec.augmentation.model_copy(update={"horizontal_flip": flip})


def load_spec(source: str) -> ExperimentSpec:
    """Read a spec from a JSON or YAML file, or take the preset of that name.

    Raises:
        SpecError: there is neither, or the file does not hold a spec.
    """
    from pmae.presets import PRESETS, get_preset

    path = Path(source)
    if source in PRESETS or not path.is_file():
        return get_preset(source).spec
    try:
        return ExperimentSpec.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise SpecError(f"{source} does not hold a spec: {error}") from error
