"""The tables. Times are Unix seconds by the database's clock, so that hosts' clocks may differ.

A list of runs never reads metric rows: a run's row carries its newest values (``last_metrics``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite gives ids by itself to INTEGER primary keys only."""


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, float: Double}  # noqa: RUF012


class RunRow(Base):
    """A run: its spec, its place in the queue, its lease, and its newest figures."""

    __tablename__ = "runs"

    number: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(120))
    method: Mapped[str] = mapped_column(String(16))
    dataset: Mapped[str] = mapped_column(String(120))
    # SQLite holds no text to its length, and would have to copy the table to change it.
    preset: Mapped[str | None] = mapped_column(String(64).with_variant(String(200), "postgresql"))
    spec: Mapped[dict[str, Any]]
    tags: Mapped[list[Any]]
    devices: Mapped[int] = mapped_column(Integer, default=1)
    """How many GPUs a slot needs to serve it."""
    rerun_of: Mapped[str | None] = mapped_column(String(32))
    parent_id: Mapped[str | None] = mapped_column(String(32), index=True)
    """Of an evaluation: id of the run whose checkpoint it is of."""
    owner: Mapped[str | None] = mapped_column(String(64))
    """Name of the API key that submitted it; None where keys are off."""
    notes: Mapped[str] = mapped_column(Text, default="")
    """For people, like name and tags: changing them changes nothing of the spec."""
    pinned: Mapped[bool] = mapped_column(Boolean, default=False)
    """It is not to be deleted."""

    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Of a failed run: code, message, log_tail."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """How often it was started since it last got further (wrote a newer checkpoint)."""
    max_attempts: Mapped[int] = mapped_column(Integer, default=5)
    lease_number: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None]
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)

    created_at: Mapped[float]
    queued_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    deleted_at: Mapped[float | None]
    """A tombstone: nobody sees the run any more; its files go first, then this row."""

    recorded_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    """How many bytes of events.jsonl of lease ``lease_number`` stand in SQL; 0 at each claim."""
    progress: Mapped[dict[str, Any]]
    last_metrics: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]]
    basis_digest: Mapped[str | None] = mapped_column(String(64))
    top1: Mapped[float | None]

    __table_args__ = (
        Index("ix_runs_queue", "state", "priority", "queued_at"),
        Index("ix_runs_lease", "state", "lease_until"),
        # Looked for every few seconds; there are hardly ever any.
        Index(
            "ix_runs_deleted",
            "deleted_at",
            sqlite_where=text("deleted_at IS NOT NULL"),
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
    )


class RunEventRow(Base):
    """What happened to a run: changes of state (who, when, why), stages, checkpoints, errors.

    That a run was deleted is no event of the run's own, and so stays when the others go with it.
    """

    __tablename__ = "run_events"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    run_number: Mapped[int | None] = mapped_column(
        BigId, ForeignKey("runs.number", ondelete="CASCADE"), index=True
    )
    """None: of a deletion."""
    key: Mapped[str | None] = mapped_column(String(200))
    """Identifies a trainer's event within its run, so that recording it twice adds nothing. Of a
    deletion: the run's id."""
    at: Mapped[float]
    type: Mapped[str] = mapped_column(String(16))
    actor: Mapped[str] = mapped_column(String(200))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]

    __table_args__ = (
        UniqueConstraint("run_number", "key"),
        # The ids of a deleted run's events are not given again: streams go on from an id.
        {"sqlite_autoincrement": True},
    )


class MetricRow(Base):
    """One point of one metric."""

    __tablename__ = "metrics"

    run_number: Mapped[int] = mapped_column(
        BigId, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    epoch: Mapped[float]
    time: Mapped[float]
    value: Mapped[float]

    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012


class MetricBlockRow(Base):
    """A summary of some neighbouring points of one metric (:mod:`api.db.metric_blocks`)."""

    __tablename__ = "metric_blocks"

    run_number: Mapped[int] = mapped_column(
        BigId, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """Their steps, divided by the number of steps in a block."""
    total: Mapped[int]
    """How many points they are."""
    first_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    first_time: Mapped[float]
    last_time: Mapped[float]
    least: Mapped[float]
    least_step: Mapped[int] = mapped_column(BigInteger)
    """Of the points with the least value the earliest's."""
    greatest: Mapped[float]
    greatest_step: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012


class CheckpointRow(Base):
    """A checkpoint whose manifest was written."""

    __tablename__ = "checkpoints"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_number: Mapped[int] = mapped_column(BigId, ForeignKey("runs.number", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    lease_number: Mapped[int]
    step: Mapped[int] = mapped_column(BigInteger)
    epoch: Mapped[float]
    created_at: Mapped[float]
    files: Mapped[dict[str, Any]]
    metrics: Mapped[dict[str, Any]]
    pinned: Mapped[bool] = mapped_column(Boolean, default=False)

    __table_args__ = (UniqueConstraint("run_number", "name"),)


class EvaluationRow(Base):
    """The outcome of one evaluation."""

    __tablename__ = "evaluations"

    run_number: Mapped[int] = mapped_column(
        BigId, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(120), primary_key=True)
    protocol: Mapped[str] = mapped_column(String(32))
    features: Mapped[str] = mapped_column(String(32))
    step: Mapped[int] = mapped_column(BigInteger)
    epoch: Mapped[float]
    split: Mapped[str] = mapped_column(String(16))
    top1: Mapped[float]
    details: Mapped[dict[str, Any]]


class WorkerRow(Base):
    """A worker, as it was last heard of: one slot, which runs one run at a time."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int]
    started_at: Mapped[float]
    last_seen_at: Mapped[float]
    kinds: Mapped[list[Any]]
    """The kinds of runs that it takes."""
    devices: Mapped[int] = mapped_column(Integer)
    """How many GPUs it has; 1 without any."""
    drain_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    """It gives back what it runs and takes nothing, until this is taken back."""


class IdempotencyKeyRow(Base):
    """A submission that was answered: the same key gets the same answer again."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Name of the API key that used it, empty where keys are off: others' keys are their own."""
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Of all of the request that decides its answer."""
    run_id: Mapped[str] = mapped_column(String(32))
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(index=True)


class ApiKeyRow(Base):
    """Who may use the service. Of the key itself only a digest is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """The public part of the key."""
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    """Of 256 random bits, which no dictionary holds: a plain digest is enough."""
    created_at: Mapped[float]
    created_by: Mapped[str | None] = mapped_column(String(64))
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]


class SignInSessionRow(Base):
    """A browser that was signed in with a key, and is until this ends or the key does."""

    __tablename__ = "sign_in_sessions"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """The public part of its token."""
    key_id: Mapped[str] = mapped_column(
        String(16), ForeignKey("api_keys.id", ondelete="CASCADE"), index=True
    )
    secret_sha256: Mapped[str] = mapped_column(String(64))
    """As of a key."""
    created_at: Mapped[float]
    expires_at: Mapped[float]
    last_used_at: Mapped[float | None]
    browser: Mapped[str] = mapped_column(String(80))
    """The browser and its system, for people; empty: unknown."""
    revoked_at: Mapped[float | None]


class AuditRow(Base):
    """A request that changed something, or tried to."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    at: Mapped[float]
    actor: Mapped[str | None] = mapped_column(String(64), index=True)
    """Name of the API key; None without a valid one."""
    role: Mapped[str | None] = mapped_column(String(16))
    operation: Mapped[str] = mapped_column(String(64))
    """Name of the route."""
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(Text)
    status: Mapped[int]
    request_id: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
