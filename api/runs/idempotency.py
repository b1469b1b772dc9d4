"""``Idempotency-Key``: a request that is sent again queues no second run.

The key's row is written in the transaction that queues the run, before the run's row. Of two
concurrent requests with one key the second waits for the first, and gets the same response.
"""

from __future__ import annotations

import hashlib
import http
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import JSONResponse
from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from api.db.clock import DAY_SECONDS, database_now
from api.db.tables import IdempotencyKeyRow
from api.http.errors import InvalidRequestError
from api.http.responses import API_PREFIX
from pmae.schema import ProblemField
from pmae.spec.messages import with_message

HEADER = "idempotency-key"
REPLAYED_HEADER = "Idempotent-Replayed"

IdempotencyHeader = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=with_message(
            r"^[\x21-\x7e]*$", "expected visible ASCII characters, without spaces"
        ),
        description="Chosen by the client, 1 to 200 visible ASCII characters. Sending the request "
        "again with the same key queues nothing, and returns the first response.",
        examples=["0c8a1e52-6f0e-4b43-9d55-0d6b8f7c2a11"],
    ),
]


@dataclass(frozen=True)
class Submission:
    """A request to queue a run, with an idempotency key.

    Attributes:
        owner: name of the API key; empty where keys are off.
        key: chosen by the client.
        request_sha256: digest of everything that the response depends on.
    """

    owner: str
    key: str
    request_sha256: str

    @classmethod
    def of(
        cls,
        key: str | None,
        *,
        owner: str | None,
        request: Mapping[str, Any],
    ) -> Submission | None:
        """Make one from JSON of everything that the response depends on; None without a key."""
        if key is None:
            return None
        # A body may hold lone surrogates, which UTF-8 cannot encode; JSON in ASCII escapes them.
        text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return cls(owner or "", key, hashlib.sha256(text.encode()).hexdigest())


def find_answer(session: Session, submission: Submission | None) -> JSONResponse | None:
    """Find the response to an earlier request with the same key; None if there was none.

    Raises:
        InvalidRequestError: the key was used with another request; names the run that it queued.
    """
    if submission is None:
        return None
    row = session.get(IdempotencyKeyRow, (submission.owner, submission.key))
    if row is None:
        return None
    if row.request_sha256 != submission.request_sha256:
        message = (
            f"the key {submission.key!r} was sent with another request, which queued run "
            f"{row.run_id}; expected a key that was not used yet"
        )
        raise InvalidRequestError(
            message,
            code="idempotency_key_reused",
            fields=[ProblemField(pointer=HEADER, message=message)],
        )
    return accepted(row.answer, replayed=True)


def accepted(answer: Mapping[str, Any], *, replayed: bool = False) -> JSONResponse:
    """Build the response to a request that queued a run.

    Args:
        answer: a :class:`~pmae.schema.Run` as JSON.
        replayed: an earlier request of the same key has queued it.
    """
    headers = {"Location": f"{API_PREFIX}/runs/{answer['id']}"}
    if replayed:
        headers[REPLAYED_HEADER] = "true"
    return JSONResponse(answer, http.HTTPStatus.ACCEPTED, headers=headers)


def claim_key(session: Session, submission: Submission | None) -> JSONResponse | None:
    """Claim the key for this request; :func:`keep_answer` stores the response.

    Returns:
        None if the request is the first with the key, or has none; else the first response.

    Raises:
        InvalidRequestError: the key was used with another request.
    """
    if submission is None:
        return None
    postgres = session.get_bind().dialect.name == "postgresql"
    insert = (postgresql.insert if postgres else sqlite.insert)(IdempotencyKeyRow)
    values = {
        "owner": submission.owner,
        "key": submission.key,
        "request_sha256": submission.request_sha256,
        "run_id": "",
        "answer": {},
        "created_at": database_now(),
    }
    statement = insert.values(values).on_conflict_do_nothing().returning(IdempotencyKeyRow.key)
    if session.scalar(statement) is not None:
        return None
    return find_answer(session, submission)


def keep_answer(session: Session, submission: Submission | None, answer: Mapping[str, Any]) -> None:
    """Store the response to a submission, in the transaction that claimed its key."""
    if submission is None:
        return
    session.execute(
        update(IdempotencyKeyRow)
        .where(IdempotencyKeyRow.owner == submission.owner, IdempotencyKeyRow.key == submission.key)
        .values(run_id=answer["id"], answer=answer)
        .execution_options(synchronize_session=False)
    )


def forget_old_keys(sessions: sessionmaker[Session], *, retention_days: float) -> int:
    """Remove keys used more than ``retention_days`` ago; return their number."""
    old = IdempotencyKeyRow.created_at < database_now() - retention_days * DAY_SECONDS
    with sessions() as session:
        if session.scalar(select(IdempotencyKeyRow.key).where(old).limit(1)) is None:
            return 0
    with sessions.begin() as session:
        statement = delete(IdempotencyKeyRow).where(old).returning(IdempotencyKeyRow.key)
        return len(session.scalars(statement).all())
