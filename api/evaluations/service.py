"""From a request for evaluations to a spec that can be run, and the runs that evaluate another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.checkpoints.service import MANIFEST_FILE, find_checkpoint
from api.db import run_states
from api.db.tables import EvaluationRow, RunRow
from api.errors import ConflictError, InvalidRequestError, NotFoundError
from api.runs.cursors import PageParameters, read_cursor, write_cursor
from api.runs.service import find_run_number
from api.runs.views import evaluation_view, run_summary
from api.validation import spec_error_field
from pmae.errors import SpecError
from pmae.layout import checkpoint_id
from pmae.schema import ProblemField
from pmae.schema_evaluations import EvaluationRun, EvaluationRunPage
from pmae.spec import EvaluateSpec, ExperimentSpec, resolve_evaluate


def prepare(
    session: Session, spec: EvaluateSpec, runs_dir: Path
) -> tuple[EvaluateSpec, run_states.Parent]:
    """Resolve a spec by the run whose checkpoint it names, and keep that run from being deleted.

    Args:
        session: in a transaction; what is queued in it is safe from the parent's deletion.
        spec: as its author wrote it.
        runs_dir: the folder of all runs.

    Raises:
        NotFoundError: there is no such checkpoint (any more).
        ConflictError: it is a rolling one.
        InvalidRequestError: an evaluation does not suit it.
    """
    # First of all, since a transaction that writes must write first (see api.db.session).
    held = run_states.hold(session, spec.parent_id)
    step = int(spec.checkpoint_name.rpartition("-")[2])
    stored = find_checkpoint(session, checkpoint_id(spec.parent_id, step), runs_dir)
    if stored.view.kind == "latest":
        message = (
            f"{stored.view.id} is the rolling checkpoint, which the next one replaces before it is "
            "measured; kept ones can be evaluated"
        )
        raise ConflictError(message, code="rolling_checkpoint")
    if held is None or not (stored.folder / MANIFEST_FILE).is_file():
        raise stored.gone()
    try:
        return resolve_evaluate(spec, ExperimentSpec.model_validate(held.spec)), held
    except SpecError as error:
        field = spec_error_field(error)
        raise InvalidRequestError(
            f"the spec cannot be run: {field.pointer}: {field.message}",
            code="invalid_spec",
            fields=[field],
        ) from error


def hold_checkpoint(session: Session, run: RunRow, runs_dir: Path) -> None:
    """Of a run that evaluates: refuse to queue it again without its checkpoint.

    Raises:
        ConflictError: the checkpoint is not there any more.
    """
    if run.kind != "evaluate":
        return
    try:
        prepare(session, EvaluateSpec.model_validate(run.spec), runs_dir)
    except NotFoundError as error:
        raise checkpoint_gone(error) from error


def checkpoint_gone(error: NotFoundError) -> ConflictError:
    """The same error where it is not the request that names the checkpoint, but a run."""
    return ConflictError(str(error), code=error.code)


def checkpoint_field(error: NotFoundError) -> InvalidRequestError:
    """The same error where a body names the checkpoint, and not the address."""
    return InvalidRequestError(
        f"the spec cannot be run: /checkpoint: {error}",
        code=error.code,
        fields=[ProblemField(pointer="/checkpoint", message=str(error))],
    )


def list_evaluation_runs(session: Session, run_id: str, page: PageParameters) -> EvaluationRunPage:
    """A page of the runs that evaluate a run's checkpoints, newest first, with their results.

    Raises:
        NotFoundError: there is no such run.
        InvalidRequestError: the cursor is not one of this list's.
    """
    find_run_number(session, run_id)
    this_list = f"evaluations of {run_id}"
    query = select(RunRow).where(RunRow.parent_id == run_id, RunRow.deleted_at.is_(None))
    if page.cursor is not None:
        _, number = read_cursor(page.cursor, this_list)
        query = query.where(RunRow.number < number)
    found = session.scalars(query.order_by(RunRow.number.desc()).limit(page.limit + 1)).all()
    rows = found[: page.limit]
    results = _results(session, [row.number for row in rows])
    return EvaluationRunPage(
        items=[
            EvaluationRun(
                **dict(run_summary(row)),
                checkpoint=row.spec["checkpoint"],
                evaluations=[evaluation_view(result) for result in results[row.number]],
            )
            for row in rows
        ],
        next_cursor=(
            write_cursor(this_list, None, rows[-1].number) if len(found) > page.limit else None
        ),
    )


def _results(session: Session, numbers: Sequence[int]) -> Mapping[int, list[EvaluationRow]]:
    """What runs have measured, by their numbers."""
    results: dict[int, list[EvaluationRow]] = defaultdict(list)
    for result in session.scalars(
        select(EvaluationRow)
        .where(EvaluationRow.run_number.in_(numbers))
        .order_by(EvaluationRow.key)
    ):
        results[result.run_number].append(result)
    return results
