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
"""SQLite generates ids for INTEGER primary keys only."""


class Base(DeclarativeBase):
    """Base class of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, float: Double}  # noqa: RUF012


class RunRow(Base):
    """A run: its spec, its place in the queue, its lease, and its newest metrics."""

    __tablename__ = "runs"

    number: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(120))
    method: Mapped[str] = mapped_column(String(16))
    dataset: Mapped[str] = mapped_column(String(120))
    # SQLite does not enforce lengths, and would have to copy the table to change one.
    preset: Mapped[str | None] = mapped_column(String(64).with_variant(String(200), "postgresql"))
    spec: Mapped[dict[str, Any]]
    tags: Mapped[list[Any]]
    devices: Mapped[int] = mapped_column(Integer, default=1)
    """Number of GPUs that a slot needs to serve it."""
    rerun_of: Mapped[str | None] = mapped_column(String(32))
    parent_id: Mapped[str | None] = mapped_column(String(32), index=True)
    """Of an evaluation: id of the run whose checkpoint it evaluates."""
    owner: Mapped[str | None] = mapped_column(String(64))
    """Name of the API key that submitted it; None where keys are off."""
    notes: Mapped[str] = mapped_column(Text, default="")
    """For people, like name and tags; not part of the spec."""
    pinned: Mapped[bool] = mapped_column(Boolean, default=False)
    """True: it cannot be deleted."""

    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Of a failed run: code, message, log_tail."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    """Number of starts since it last made progress (wrote a newer checkpoint)."""
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
    """Tombstone: the run is hidden; its files are removed first, then this row."""

    recorded_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of events.jsonl of lease ``lease_number`` recorded in SQL; 0 at each claim."""
    progress: Mapped[dict[str, Any]]
    last_metrics: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]]
    basis_digest: Mapped[str | None] = mapped_column(String(64))
    top1: Mapped[float | None]

    __table_args__ = (
        Index("ix_runs_queue", "state", "priority", "queued_at"),
        Index("ix_runs_lease", "state", "lease_until"),
        # Queried every few seconds, and usually empty.
        Index(
            "ix_runs_deleted",
            "deleted_at",
            sqlite_where=text("deleted_at IS NOT NULL"),
            postgresql_where=text("deleted_at IS NOT NULL"),
        ),
    )


class RunEventRow(Base):
    """An entry of a run's history: a change of state, a stage, a checkpoint, an error.

    A deletion has no ``run_number``, so it is kept when the run's own entries are removed.
    """

    __tablename__ = "run_events"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    run_number: Mapped[int | None] = mapped_column(
        BigId, ForeignKey("runs.number", ondelete="CASCADE"), index=True
    )
    """Number of the run; None for a deletion."""
    key: Mapped[str | None] = mapped_column(String(200))
    """Identifies a trainer's event within its run, so that it is recorded once. Of a deletion: the
    run's id."""
    at: Mapped[float]
    type: Mapped[str] = mapped_column(String(16))
    actor: Mapped[str] = mapped_column(String(200))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]

    __table_args__ = (
        UniqueConstraint("run_number", "key"),
        # Ids are never reused: event streams continue from an id.
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
    """A summary of consecutive points of one metric (:mod:`api.db.metric_blocks`)."""

    __tablename__ = "metric_blocks"

    run_number: Mapped[int] = mapped_column(
        BigId, ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    """Step of its points, divided by ``BLOCK_STEPS`` and rounded down."""
    total: Mapped[int]
    """Number of points."""
    first_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    first_time: Mapped[float]
    last_time: Mapped[float]
    least: Mapped[float]
    least_step: Mapped[int] = mapped_column(BigInteger)
    """The first step with the minimum value."""
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
    """A worker as of its last heartbeat: one slot, which runs one run at a time."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    pid: Mapped[int]
    started_at: Mapped[float]
    last_seen_at: Mapped[float]
    kinds: Mapped[list[Any]]
    """The kinds of runs that it takes."""
    devices: Mapped[int] = mapped_column(Integer)
    """Number of GPUs; 1 without any."""
    drain_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    """True: it gives its run back and claims none."""


class IdempotencyKeyRow(Base):
    """A submission and its response, which a request with the same key gets again."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Name of the API key that sent it; empty where keys are off. Each owner has its own keys."""
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Digest of everything in the request that the response depends on."""
    run_id: Mapped[str] = mapped_column(String(32))
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[float] = mapped_column(index=True)


class ApiKeyRow(Base):
    """An API key. Only a digest of the secret is stored."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """The public part of the key."""
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    """A plain digest is enough for 256 random bits, which no dictionary holds."""
    created_at: Mapped[float]
    created_by: Mapped[str | None] = mapped_column(String(64))
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    last_used_at: Mapped[float | None]


class SignInSessionRow(Base):
    """The session of a signed-in browser; ends at its expiry, or with its key."""

    __tablename__ = "sign_in_sessions"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    """The public part of its token."""
    key_id: Mapped[str] = mapped_column(
        String(16), ForeignKey("api_keys.id", ondelete="CASCADE"), index=True
    )
    secret_sha256: Mapped[str] = mapped_column(String(64))
    """Digest of the secret part, as of a key."""
    created_at: Mapped[float]
    expires_at: Mapped[float]
    last_used_at: Mapped[float | None]
    browser: Mapped[str] = mapped_column(String(80))
    """Name of the browser and its system, for people; empty: unknown."""
    revoked_at: Mapped[float | None]


class AuditRow(Base):
    """An entry of the audit trail: a request that changed something, or tried to."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=True)
    at: Mapped[float]
    actor: Mapped[str | None] = mapped_column(String(64), index=True)
    """Name of the API key; None without a valid key."""
    role: Mapped[str | None] = mapped_column(String(16))
    operation: Mapped[str] = mapped_column(String(64))
    """Name of the route."""
    method: Mapped[str] = mapped_column(String(8))
    path: Mapped[str] = mapped_column(Text)
    status: Mapped[int]
    request_id: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(String(64))
