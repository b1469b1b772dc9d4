"""The order in which queued runs start, and the reason why each waits."""

from __future__ import annotations

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, load_only

from api.db.tables import RunRow, WorkerRow
from api.queue.reconcile import idles, present
from api.runs.views import moment
from pmae.schema import Queue, QueuedRun

_MAX_LISTED = 500


class Slots:
    """The workers that are up: which of them could take a queued run."""

    def __init__(self, session: Session, *, silence_seconds: float) -> None:
        rows = session.execute(
            select(WorkerRow, idles().label("idle"))
            .where(present(silence_seconds))
            .order_by(WorkerRow.name)
        ).all()
        self._workers = [(row.WorkerRow, bool(row.idle)) for row in rows]

    def why_none(self, kind: str, devices: int) -> str | None:
        """Explain why no worker can take a run; None if one can."""
        if not self._workers:
            return "no worker is up"
        if self._fitting(kind, devices):
            return None
        what = f"{kind} runs" + (f" on {devices} devices" if devices > 1 else "")
        up = "; ".join(_describe(worker) for worker, _ in self._workers)
        return f"no worker that is up takes {what}; up: {up}"

    def _fitting(self, kind: str, devices: int) -> list[tuple[WorkerRow, bool]]:
        return [
            (worker, idle)
            for worker, idle in self._workers
            if kind in worker.kinds and devices <= worker.devices
        ]

    def why_waits(self, run: RunRow, ahead: int) -> str:
        """Explain why ``run``, with ``ahead`` runs of its kind before it, has not started."""
        why_none = self.why_none(run.kind, run.devices)
        if why_none is not None:
            return f"waits: {why_none}"
        fitting = self._fitting(run.kind, run.devices)
        usable = [idle for worker, idle in fitting if not worker.drain_requested]
        others = "1 run of its kind starts" if ahead == 1 else f"{ahead} runs of its kind start"
        before = f"; {others} before it" if ahead else ""
        if not usable:
            return "waits: every worker that could take it is being drained"
        if not any(usable):
            busy = (
                "the one worker that can take it is"
                if len(usable) == 1
                else (f"all {len(usable)} workers that can take it are")
            )
            return f"waits: {busy} busy{before}"
        return f"waits to be picked up{before}"


def _describe(worker: WorkerRow) -> str:
    devices = f"{worker.devices} device{'s' if worker.devices > 1 else ''}"
    return f"{worker.name} ({', '.join(worker.kinds)}; {devices})"


def why_waits(session: Session, run: RunRow, *, silence_seconds: float) -> str:
    """Explain why a queued run has not started."""
    before = or_(
        RunRow.priority > run.priority,
        and_(
            RunRow.priority == run.priority,
            or_(
                RunRow.queued_at < run.queued_at,
                and_(RunRow.queued_at == run.queued_at, RunRow.number < run.number),
            ),
        ),
    )
    waiting = (RunRow.state == "queued", RunRow.kind == run.kind)
    ahead = session.scalar(select(func.count()).where(*waiting, before)) or 0
    return Slots(session, silence_seconds=silence_seconds).why_waits(run, ahead)


def list_queue(session: Session, *, silence_seconds: float) -> Queue:
    """List the queued runs in the order in which they start."""
    slots = Slots(session, silence_seconds=silence_seconds)
    columns = (
        RunRow.number, RunRow.id, RunRow.name, RunRow.kind, RunRow.devices, RunRow.priority,
        RunRow.queued_at,
    )  # fmt: skip
    rows = session.scalars(
        select(RunRow)
        .options(load_only(*columns, raiseload=True))
        .where(RunRow.state == "queued")
        .order_by(RunRow.priority.desc(), RunRow.queued_at, RunRow.number)
        .limit(_MAX_LISTED)
    ).all()
    total = session.scalar(select(func.count()).where(RunRow.state == "queued")) or 0
    ahead_of_kind: dict[str, int] = {}
    items: list[QueuedRun] = []
    for position, row in enumerate(rows, 1):
        ahead = ahead_of_kind.get(row.kind, 0)
        ahead_of_kind[row.kind] = ahead + 1
        items.append(
            QueuedRun(
                position=position,
                run_id=row.id,
                name=row.name,
                kind=row.kind,
                devices=row.devices,
                priority=row.priority,
                queued_at=moment(row.queued_at),
                waits=slots.why_waits(row, ahead),
            )
        )
    return Queue(total=total, items=items)
