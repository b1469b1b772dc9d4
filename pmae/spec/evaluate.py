"""Specs of runs that evaluate an existing checkpoint."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from pmae.runs.layout import stored_checkpoint_name
from pmae.spec.base import PositiveInt, SpecModel, Tag
from pmae.spec.experiment import ExperimentSpec
from pmae.spec.parts.evaluation import EvaluationSpec, resolve_evaluations


def _checkpoint_name(reference: str) -> str:
    name = stored_checkpoint_name(reference)
    if name is None:
        raise PydanticCustomError(
            "unknown_checkpoint",
            "{reference} names no checkpoint; expected <run id>/<checkpoint name> or a "
            "checkpoint's id, for example 3f9c0a1b2c4d/step-00000640 or 3f9c0a1b2c4d-00000640",
            {"reference": repr(reference)},
        )
    return name


def _at_least_one(evaluations: tuple[EvaluationSpec, ...]) -> tuple[EvaluationSpec, ...]:
    """Refuse an empty list; pydantic's ``min_length`` would not count invalid evaluations."""
    if not evaluations:
        raise PydanticCustomError("no_evaluation", "at least one evaluation is needed")
    return evaluations


class EvaluationRequest(SpecModel):
    """Evaluations of a checkpoint, as requested."""

    name: str | None = Field(
        default=None, max_length=120, description="For people; need not be unique."
    )
    evaluations: Annotated[tuple[EvaluationSpec, ...], AfterValidator(_at_least_one)] = Field(
        max_length=16,
        json_schema_extra={"minItems": 1},
        description="Run in this order. `at_epochs` is refused: a checkpoint is of one epoch.",
        examples=[[{"protocol": "knn", "features": "mean"}]],
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Of the classifiers; default: the pretraining's, which gives the same figures "
        "as an evaluation at the end of the pretraining run.",
    )
    threads: PositiveInt | None = Field(
        default=None, le=256, description="CPU threads; default: the pretraining's."
    )
    precision: Literal["fp32", "bf16"] | None = Field(
        default=None,
        description="Of the encoder's arithmetic; classifiers on frozen features compute in fp32. "
        "Default: the pretraining's, on hardware that computes in it, and fp32 elsewhere; decided "
        "when the run starts, and kept when it resumes elsewhere.",
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    notes: str = Field(default="", max_length=10_000)


class EvaluateSpec(EvaluationRequest):
    """Spec of a run that evaluates a checkpoint of another run."""

    kind: Literal["evaluate"] = "evaluate"
    version: Literal[1] = Field(default=1, description="Version of the spec's format.")
    checkpoint: Annotated[str, Field(max_length=64), AfterValidator(_checkpoint_name)] = Field(
        description="A kept checkpoint: <run id>/<checkpoint name>, or its id.",
        examples=["3f9c0a1b2c4d/step-00000640"],
    )

    @property
    def parent_id(self) -> str:
        """Id of the run that made the checkpoint."""
        return self.checkpoint.partition("/")[0]

    @property
    def checkpoint_name(self) -> str:
        """The checkpoint's name within its run."""
        return self.checkpoint.partition("/")[2]


def resolve_evaluate(spec: EvaluateSpec, parent: ExperimentSpec) -> EvaluateSpec:
    """Fill in every default. Resolving a resolved spec changes nothing.

    Args:
        spec: as its author wrote it.
        parent: resolved spec of the run that made the checkpoint.

    Raises:
        SpecError: an evaluation that does not suit the checkpoint; ``field`` names what to change.
    """
    evaluations = resolve_evaluations(spec.evaluations, epochs=0, dataset=parent.dataset)
    return spec.model_copy(
        update={
            "evaluations": evaluations,
            "seed": parent.seed if spec.seed is None else spec.seed,
            "threads": spec.threads or parent.threads,
        }
    )
