"""Specs of pretraining runs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel, Tag, resolved
from pmae.spec.catalog import dataset_facts
from pmae.spec.methods import DEFAULT_METHOD, MethodName, get_method
from pmae.spec.parts.basis import BasisSpec
from pmae.spec.parts.checkpoint import CheckpointSpec, check_best, check_retention
from pmae.spec.parts.dataset import DatasetSpec
from pmae.spec.parts.evaluation import EvaluationSpec, LinearProbeSpec, resolve_evaluations
from pmae.spec.parts.loss import LossSpec
from pmae.spec.parts.masking import MaskingSpec
from pmae.spec.parts.model import ModelSpec, resolve_model
from pmae.spec.parts.monitor import MonitorSpec, resolve_monitor
from pmae.spec.parts.optimization import (
    AugmentationSpec,
    OptimizerSpec,
    ScheduleSpec,
    check_parts,
    resolve_augmentation,
    resolve_schedule,
)
from pmae.spec.versions import SPEC_VERSION, upgrade_spec


class ExperimentSpec(SpecModel):
    """Spec of a pretraining run and its evaluations."""

    kind: Literal["pretrain"] = "pretrain"
    version: Literal[1, 2] = Field(
        default=SPEC_VERSION,
        description="Version of the spec's format. A spec of version 1 keeps its meaning: fields "
        "that version 1 did not have get the values that reproduce its behaviour.",
    )
    name: str | None = Field(
        default=None, max_length=120, description="For people; need not be unique."
    )
    method: MethodName = Field(
        default=DEFAULT_METHOD,
        description="pmae: mask principal components. mae: mask patches. Others may be installed.",
    )
    dataset: DatasetSpec
    basis: BasisSpec | None = Field(default=None, description="PMAE only; default: pca.")
    masking: MaskingSpec = MaskingSpec()
    loss: LossSpec = LossSpec()
    model: ModelSpec = ModelSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    epochs: PositiveInt = Field(default=800, le=100_000)
    batch_size: PositiveInt = Field(
        default=512, le=65_536, description="Images of an optimiser step, over all devices."
    )
    accumulate_steps: PositiveInt = Field(
        default=1,
        le=1024,
        description="Split each batch into this many parts and accumulate their gradients: less "
        "memory, the same step.",
    )
    devices: PositiveInt = Field(
        default=1,
        le=64,
        description="GPUs of one machine that share each batch; without a GPU, CPU processes.",
    )
    precision: Literal["auto_gpu", "auto", "fp32", "bf16"] = Field(
        default="auto_gpu",
        description="Of the model's arithmetic. auto_gpu (default): bf16 on a GPU that supports "
        "it, fp32 otherwise. auto: the same on a CPU. Decided when training starts, and kept when "
        "it resumes elsewhere.",
    )
    compile: bool = Field(
        default=False,
        description="Compile the model with torch.compile: faster steps after a slow first one.",
    )
    init_from: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Start from another checkpoint's model weights: <run id>/<checkpoint name>, a "
        "checkpoint's id, or, for a trainer started by hand, the path of a checkpoint or a run.",
        examples=["3f9c0a1b2c4d/step-00000640"],
    )
    max_hours: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="Stop training after this many hours: the run fails with the code time_limit, "
        "keeps its state, and may train for as many hours again when it is resumed.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31)
    threads: PositiveInt = Field(
        default=1,
        le=256,
        description="CPU threads of the trainer. Another number changes the last bits of results.",
    )
    log_every_steps: PositiveInt = Field(default=10, description="Steps between two loss points.")
    validate_every_epochs: PositiveInt = Field(
        default=1, description="Epochs between two passes over the validation split."
    )
    monitor: MonitorSpec = MonitorSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    evaluations: tuple[EvaluationSpec, ...] = Field(
        default=(LinearProbeSpec(),),
        max_length=16,
        description="Run when training ends, and at the epochs that they name.",
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    notes: str = Field(default="", max_length=10_000)

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, fields: Any) -> Any:
        return upgrade_spec(fields)

    @property
    def resolution(self) -> int:
        """Edge length of the images in pixels. Only on a resolved spec."""
        return resolved(self.dataset.resolution, "dataset.resolution")

    @property
    def patch_size(self) -> int:
        """Edge length of a patch in pixels. Only on a resolved spec."""
        return resolved(self.model.patch_size, "model.patch_size")

    def peak_lr(self, images_per_step: int) -> float:
        """Peak learning rate for optimiser steps of ``images_per_step`` images."""
        return self.optimizer.base_lr * (self.optimizer.lr_batch_size or images_per_step) / 256


def resolve(spec: ExperimentSpec) -> ExperimentSpec:
    """Fill in every default, and check fields against each other.

    Resolving a resolved spec changes nothing.

    Raises:
        SpecError: fields that contradict each other; ``field`` names the one to change.
    """
    method, facts = get_method(spec.method), dataset_facts(spec.dataset.name)
    resolution = spec.dataset.resolution or facts.resolution
    check_retention(spec.checkpoint, spec.epochs)
    dataset = spec.dataset.model_copy(update={"resolution": resolution})
    check_parts(spec.batch_size, spec.accumulate_steps, spec.devices)
    _check_object_masks(spec)
    model = resolve_model(spec.model, resolution=resolution, patch_size=facts.patch_size)
    has_val = spec.dataset.val == "held_out"
    updates: dict[str, Any] = {
        "dataset": dataset,
        "basis": method.resolve_basis(spec.basis, resolution=resolution, channels=facts.channels),
        "masking": method.resolve_masking(spec.masking, facts),
        "loss": method.resolve_loss(spec.loss),
        "model": model,
        "monitor": resolve_monitor(
            spec.monitor,
            epochs=spec.epochs,
            embed_dim=resolved(model.embed_dim, "model.embed_dim"),
            num_classes=facts.num_classes,
            has_val=has_val,
        ),
        "schedule": resolve_schedule(spec.schedule, spec.epochs),
        "augmentation": resolve_augmentation(spec.augmentation, facts.horizontal_flip),
        "evaluations": resolve_evaluations(spec.evaluations, epochs=spec.epochs, dataset=dataset),
    }
    check_best(spec.checkpoint, has_val=has_val, monitor=updates["monitor"])
    return spec.model_copy(update=updates)


def _check_object_masks(spec: ExperimentSpec) -> None:
    if spec.masking.needs_object_masks and spec.accumulate_steps * spec.devices > 1:
        field = "accumulate_steps" if spec.accumulate_steps > 1 else "devices"
        raise SpecError(
            f"{field}: object masks are drawn for a whole batch, which cannot be split into parts; "
            "expected 1",
            field=(field,),
        )
