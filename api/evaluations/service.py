"""Resolve requests for evaluations, and list the runs that evaluate another run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.checkpoints.in_use import Held, hold_checkpoint
from api.db.tables import EvaluationRow, RunRow
from api.http.errors import InvalidRequestError
from api.http.pagination import PageParameters, read_cursor, write_cursor
from api.http.validation import spec_error_field
from api.runs.service import find_run_number
from api.runs.views import evaluation_view, run_summary
from pmae.errors import SpecError
from pmae.schema.evaluations import EvaluationRun, EvaluationRunPage
from pmae.spec import EvaluateSpec, ExperimentSpec, resolve_evaluate
from pmae.spec.sizes import check_neighbours, known_train_images


def prepare_evaluation(
    session: Session, spec: EvaluateSpec, runs_dir: Path
) -> tuple[EvaluateSpec, Held]:
    """Resolve a spec with the values of the run whose checkpoint it names; hold the checkpoint.

    Args:
        session: in a transaction that has read nothing yet.
        spec: as submitted.
        runs_dir: the folder of all runs.

    Raises:
        NotFoundError: there is no such checkpoint, or it was removed.
        ConflictError: it is a rolling checkpoint.
        InvalidRequestError: an evaluation cannot be applied to it.
    """
    held = hold_checkpoint(session, spec.checkpoint, runs_dir)
    pretrained = ExperimentSpec.model_validate(held.parent.spec)
    try:
        spec = resolve_evaluate(spec, pretrained)
        num_train = known_train_images(pretrained.dataset)
        check_neighbours(spec.evaluations, num_train, ("evaluations",))
    except SpecError as error:
        field = spec_error_field(error)
        raise InvalidRequestError(
            f"the spec cannot be run: {field.pointer}: {field.message}",
            code="invalid_spec",
            fields=[field],
        ) from error
    return spec, held


def list_evaluation_runs(session: Session, run_id: str, page: PageParameters) -> EvaluationRunPage:
    """Read one page of the runs that evaluate a run's checkpoints, newest first, with results.

    Raises:
        NotFoundError: there is no such run.
        InvalidRequestError: the cursor is not of this list.
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
    """Read the results of runs, by their numbers."""
    results: dict[int, list[EvaluationRow]] = defaultdict(list)
    for result in session.scalars(
        select(EvaluationRow)
        .where(EvaluationRow.run_number.in_(numbers))
        .order_by(EvaluationRow.key)
    ):
        results[result.run_number].append(result)
    return results
