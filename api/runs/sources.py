"""The checkpoint of another run that a run needs: checked and held when the run is queued."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.checkpoints.in_use import Held, hold_checkpoint
from api.db.tables import CheckpointRow, RunRow
from api.evaluations.service import prepare_evaluation
from api.http.errors import ConflictError, InvalidRequestError, NotFoundError
from pmae.errors import SpecError
from pmae.models.compatibility import model_differences
from pmae.runs.layout import CONFIG_FILE
from pmae.schema import ProblemField
from pmae.spec import RUN_SPEC, EvaluateSpec, ExperimentSpec, RunSpec, resolve
from pmae.spec.catalog import dataset_facts


def prepare(session: Session, spec: RunSpec, runs_dir: Path) -> tuple[RunSpec, Held | None]:
    """Resolve an evaluation, and hold the checkpoint that a run needs.

    Args:
        session: in a transaction that has read nothing yet; the checkpoint cannot be deleted
            until it commits.
        spec: resolved, if it is a pretraining.
        runs_dir: the folder of all runs.

    Returns:
        The resolved spec, and the checkpoint or None if it needs none.

    Raises:
        NotFoundError: there is no such checkpoint, or it was removed.
        ConflictError: it is a rolling checkpoint.
        InvalidRequestError: the run cannot use this checkpoint.
    """
    if isinstance(spec, EvaluateSpec):
        return prepare_evaluation(session, spec, runs_dir)
    if spec.init_from is None:
        return spec, None
    held = hold_checkpoint(session, spec.init_from, runs_dir)
    _check_model(spec, held)
    return spec, held


def stored_spec(run: RunRow) -> RunSpec:
    """Return a run's spec in the current format, with all defaults written out.

    Raises:
        ConflictError: this version cannot run it.
    """
    spec = RUN_SPEC.validate_python(run.spec)
    try:
        return spec if isinstance(spec, EvaluateSpec) else resolve(spec)
    except SpecError as error:
        raise ConflictError(
            f"the spec of run {run.id} cannot be run by this version: {error}", code="invalid_spec"
        ) from error


def hold_again(session: Session, run: RunRow, runs_dir: Path) -> tuple[RunSpec, Held | None]:
    """Return the spec of a run to resume and hold the checkpoint that it needs.

    A pretraining with a checkpoint of its own continues from that, and needs no other.

    Raises:
        ConflictError: the checkpoint no longer exists.
    """
    spec = stored_spec(run)
    try:
        return prepare(session, spec, runs_dir)
    except NotFoundError as error:
        own = select(CheckpointRow.id).where(CheckpointRow.run_number == run.number).limit(1)
        if run.kind == "pretrain" and session.scalar(own) is not None:
            return spec, None
        raise checkpoint_gone(error) from error


def checkpoint_gone(error: NotFoundError) -> ConflictError:
    """Convert the error for a checkpoint that a stored run names, not the request."""
    return ConflictError(str(error), code=error.code)


def checkpoint_field(error: NotFoundError, spec: RunSpec) -> InvalidRequestError:
    """Convert the error for a checkpoint that the request's body names, not its URL."""
    pointer = "/checkpoint" if isinstance(spec, EvaluateSpec) else "/init_from"
    return InvalidRequestError(
        f"the spec cannot be run: {pointer}: {error}",
        code=error.code,
        fields=[ProblemField(pointer=pointer, message=str(error))],
    )


def _check_model(spec: ExperimentSpec, held: Held) -> None:
    """Compare the models as far as the specs describe them; the trainer checks the weights."""
    there = ExperimentSpec.model_validate(held.parent.spec)
    differences = model_differences(
        there,
        spec,
        channels_there=_channels(there, held.stored.folder),
        channels_here=dataset_facts(spec.dataset.name).channels,
    )
    if differences:
        message = (
            f"the model of {spec.init_from} differs from this run's: {'; '.join(differences)}; "
            "expected a checkpoint of the same model"
        )
        raise InvalidRequestError(
            f"the spec cannot be run: /init_from: {message}",
            code="invalid_spec",
            fields=[ProblemField(pointer="/init_from", message=message)],
        )


def _channels(spec: ExperimentSpec, folder: Path) -> int | None:
    known = dataset_facts(spec.dataset.name).channels
    if known is not None:
        return known
    try:
        channels = json.loads((folder / CONFIG_FILE).read_bytes())["channels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a damaged checkpoint: the trainer verifies it and reports the damage
    return channels if isinstance(channels, int) else None
