"""Models of runs that evaluate the checkpoints of other runs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pmae.schema import Evaluation, RunSummary


class EvaluationRun(RunSummary):
    """Run that evaluates a checkpoint of another run, with its results so far."""

    checkpoint: str = Field(
        description="<run id>/<checkpoint name>.", examples=["3f9c0a1b2c4d/step-00000640"]
    )
    evaluations: list[Evaluation]


class EvaluationRunPage(BaseModel):
    """A page of the runs that evaluate a run's checkpoints, newest first."""

    model_config = ConfigDict(frozen=True)

    items: list[EvaluationRun]
    next_cursor: str | None = Field(
        default=None, description="Pass as `cursor` for the next page; null on the last."
    )
