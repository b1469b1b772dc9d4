"""Prometheus metrics: counters of this process, and gauges read from the database at a scrape."""

from __future__ import annotations

import http
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from starlette.types import Scope

from api.db.clock import database_now
from api.db.tables import RunRow, WorkerRow
from api.queue.reconcile import present
from api.settings import ApiSettings
from api.storage.space import Space, artifact_space
from pmae.schema import RUN_KINDS, RUN_STATES

_UNMATCHED = "(none)"
_METHODS = frozenset(http.HTTPMethod)
_OTHER_METHOD = "(other)"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class PrometheusMetrics:
    """The counters and histograms of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "pmae_request_duration_seconds",
            "Time from a request to the end of its response, without event streams.",
            ("method", "operation", "status"),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.leases_lost = Counter(
            "pmae_leases_lost",
            "Runs whose lease expired because their worker sent no heartbeat.",
            registry=self.registry,
        )

    def observe_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one response by its operation; paths and methods are unbounded."""
        # For a method that the path does not have, the scope holds the route of another method.
        route = scope.get("route") if status != http.HTTPStatus.METHOD_NOT_ALLOWED else None
        operation = getattr(route, "name", _UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD
        self._requests.labels(method, operation, str(status)).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class ServiceCollector(Collector):
    """Gauges of runs, queues, workers and the artifact disk, read at each scrape."""

    def __init__(self, sessions: sessionmaker[Session], settings: ApiSettings) -> None:
        self._sessions = sessions
        self._settings = settings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; if the database does not answer, only that and the disk."""
        try:
            with self._sessions() as session:
                found = [
                    *_runs(session),
                    *_queues(session),
                    _workers(session, self._settings.lease_seconds),
                ]
        except SQLAlchemyError:
            found = []
        yield GaugeMetricFamily(
            "pmae_database_up", "1 if the database answers, else 0.", value=float(bool(found))
        )
        yield from found
        with suppress(OSError):  # /readyz reports the error
            yield from _disk(artifact_space(self._settings))


def _disk(space: Space) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily(
        "pmae_artifact_disk_free_bytes",
        "Free space of the disk that runs write to.",
        value=space.free,
    )
    yield GaugeMetricFamily(
        "pmae_artifact_disk_size_bytes", "Size of the disk that runs write to.", value=space.size
    )


def _runs(session: Session) -> Iterator[GaugeMetricFamily]:
    rows = session.execute(
        select(RunRow.state, func.count()).where(RunRow.deleted_at.is_(None)).group_by(RunRow.state)
    )
    counts = {state: count for state, count in rows}  # noqa: C416 - rows are not plain tuples
    family = GaugeMetricFamily("pmae_runs", "Runs by their state.", labels=("state",))
    for state in RUN_STATES:
        family.add_metric((state,), counts.get(state, 0))
    yield family


def _queues(session: Session) -> Iterator[GaugeMetricFamily]:
    rows = session.execute(
        select(RunRow.kind, func.count(), func.max(database_now() - RunRow.queued_at))
        .where(RunRow.state == "queued", RunRow.deleted_at.is_(None))
        .group_by(RunRow.kind)
    )
    waiting = {kind: (count, wait) for kind, count, wait in rows}
    length = GaugeMetricFamily("pmae_queue_length", "Queued runs.", labels=("kind",))
    oldest = GaugeMetricFamily(
        "pmae_queue_oldest_wait_seconds",
        "Waiting time of the oldest queued run.",
        labels=("kind",),
    )
    for kind in RUN_KINDS:
        count, wait = waiting.get(kind, (0, 0.0))
        length.add_metric((kind,), count)
        oldest.add_metric((kind,), wait)
    yield length
    yield oldest


def _workers(session: Session, silence_seconds: float) -> GaugeMetricFamily:
    rows = session.execute(
        select(WorkerRow.drain_requested, RunRow.id)
        .outerjoin(RunRow, (RunRow.worker == WorkerRow.name) & (RunRow.state == "running"))
        .where(present(silence_seconds))
    )
    counts = {"busy": 0, "idle": 0, "draining": 0}
    for draining, run_id in rows:
        counts["busy" if run_id else "draining" if draining else "idle"] += 1
    family = GaugeMetricFamily(
        "pmae_workers", "Workers with a recent heartbeat.", labels=("activity",)
    )
    for activity, count in counts.items():
        family.add_metric((activity,), count)
    return family
