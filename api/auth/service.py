"""Keys in the database. Each function uses a session briefly."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import cast

from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.auth import keys
from api.auth.errors import ForbiddenError, UnauthorizedError
from api.auth.principal import Principal
from api.db.clock import DAY_SECONDS, database_now
from api.db.tables import ApiKeyRow, SignInSessionRow
from api.http.errors import ConflictError, InvalidRequestError, NotFoundError
from api.runs.views import moment, optional_moment
from pmae.schema import ProblemField
from pmae.schema.access import ApiKey, ApiKeyRequest, NewApiKey, Role

NOTED_SECONDS = 60
"""Precision of ``last_used_at``, so that most reads do not cause a write."""
_TAKEN_NAMES = frozenset({"api", "reconciler"})
"""Name of the service itself in histories."""
_KEYS = ApiKeyRow.metadata.tables[ApiKeyRow.__tablename__]
_FIND_KEY = select(_KEYS, database_now().label("now")).where(_KEYS.c.id == bindparam("key_id"))
_SIGN_INS = SignInSessionRow.metadata.tables[SignInSessionRow.__tablename__]
_FIND_SIGN_IN = (
    select(
        _KEYS.c.id.label("key_id"),
        _KEYS.c.name,
        _KEYS.c.role,
        _KEYS.c.revoked_at.label("key_revoked_at"),
        _KEYS.c.expires_at.label("key_expires_at"),
        _SIGN_INS.c.secret_sha256,
        _SIGN_INS.c.revoked_at,
        _SIGN_INS.c.expires_at,
        database_now().label("now"),
    )
    .join(_SIGN_INS, _SIGN_INS.c.key_id == _KEYS.c.id)
    .where(_SIGN_INS.c.id == bindparam("session_id"))
)
_logger = logging.getLogger(__name__)


def create_key(session: Session, request: ApiKeyRequest, *, created_by: str | None) -> NewApiKey:
    """Create a key. It takes over the name and the runs of a revoked or expired one.

    Args:
        session: in a transaction.
        request: name, role and life.
        created_by: name of the caller's key; None for the command line.

    Raises:
        ConflictError: a valid key has that name.
        InvalidRequestError: the name is reserved for the service.
    """
    if request.name in _TAKEN_NAMES:
        message = f"{request.name!r} is reserved for the service; expected another name"
        raise InvalidRequestError(message, fields=[ProblemField(pointer="/name", message=message)])
    ended = or_(ApiKeyRow.revoked_at.is_not(None), ApiKeyRow.expires_at <= database_now())
    session.execute(
        delete(ApiKeyRow)
        .where(ApiKeyRow.name == request.name, ended)
        .execution_options(synchronize_session=False)
    )
    key = keys.mint()
    days = request.expires_days
    row = ApiKeyRow(
        id=key.id,
        name=request.name,
        role=request.role,
        secret_sha256=key.secret_sha256,
        created_at=database_now(),
        created_by=created_by,
        expires_at=None if days is None else database_now() + days * DAY_SECONDS,
    )
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        raise ConflictError(
            f"there is a key named {request.name!r}; revoke it first, or choose another name",
            code="key_exists",
        ) from error
    session.refresh(row)
    return NewApiKey(**key_view(row).model_dump(), key=key.text)


def list_keys(session: Session) -> list[ApiKey]:
    """List all keys by name."""
    return [key_view(row) for row in session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.name))]


def revoke_key(session: Session, name: str) -> None:
    """Revoke a key, its sessions and its links. Repeating it changes nothing.

    Raises:
        NotFoundError: there is no key of that name.
    """
    found = session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.name == name, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=database_now())
        .returning(ApiKeyRow.id)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    known = select(ApiKeyRow.id).where(ApiKeyRow.name == name)
    if found is None and session.scalar(known) is None:
        message = f"there is no key named {name!r}; GET /api/v1/keys and `pmae keys list` list them"
        field = ProblemField(pointer="name", message=message)
        raise NotFoundError(message, code="key_not_found", fields=[field])


def verify_bearer(sessions: sessionmaker[Session], text: str) -> Principal:
    """Identify the holder of a key, or of the token of a session.

    Raises:
        UnauthorizedError: it is unknown, or no longer valid. Only a caller with the right secret
            learns which.
    """
    key = keys.parse(text)
    if key is None:
        raise _unknown_key()
    with sessions() as session:
        return _verify_sign_in(session, key) if key.prefix == "pmaes" else _verify_key(session, key)


def _verify_key(session: Session, key: keys.Key) -> Principal:
    found = _find(session, key.id)
    if found is None or not key.is_of(found[0].secret_sha256):
        raise _unknown_key()
    row, now = found
    _refuse_ended(row.name, _why_ended(row.revoked_at, row.expires_at, now))
    return Principal(row.name, cast("Role", row.role), row.id)


def _verify_sign_in(session: Session, token: keys.Key) -> Principal:
    found = session.connection().execute(_FIND_SIGN_IN, {"session_id": token.id}).one_or_none()
    if found is None or not token.is_of(found.secret_sha256):
        raise UnauthorizedError(
            "the session is unknown to this service; sign in again", code="session_invalid"
        )
    _refuse_ended(found.name, _why_ended(found.key_revoked_at, found.key_expires_at, found.now))
    ended = _why_ended(found.revoked_at, found.expires_at, found.now)
    if ended is not None:
        how, code = ("was ended", "ended") if found.revoked_at is not None else (ended, "expired")
        raise UnauthorizedError(f"the session {how}; sign in again", code=f"session_{code}")
    return Principal(found.name, found.role, found.key_id, token.id)


def _unknown_key() -> UnauthorizedError:
    return UnauthorizedError("the key is unknown to this service; `pmae keys create` creates one")


def _refuse_ended(name: str, ended: str | None) -> None:
    if ended is not None:
        message = f"the key {name!r} {ended}; an admin creates a new one"
        raise UnauthorizedError(message, code=f"key_{ended.split()[-1]}")


def verify_link_key(sessions: sessionmaker[Session], key_id: str) -> Principal:
    """Identify the key that made a signed link; the link gives the role of a viewer.

    Raises:
        ForbiddenError: the key that made the link is no longer valid.
    """
    with sessions() as session:
        found = _find(session, key_id)
    if found is None or _why_ended(found[0].revoked_at, found[0].expires_at, found[1]) is not None:
        raise ForbiddenError(
            "the key that made this link is no longer valid; sign in and create a new link",
            code="link_invalid",
        )
    return Principal(found[0].name, "viewer", key_id)


def holding_keys(session: Session, key_ids: Collection[str]) -> set[str]:
    """Select the valid ones of these keys, in one query."""
    holds = or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > database_now())
    return set(
        session.scalars(
            select(ApiKeyRow.id).where(
                ApiKeyRow.id.in_(key_ids), ApiKeyRow.revoked_at.is_(None), holds
            )
        )
    )


def key_view(row: ApiKeyRow) -> ApiKey:
    """Convert a key for a response."""
    return ApiKey.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "role": row.role,
            "created_at": moment(row.created_at),
            "created_by": row.created_by,
            "expires_at": optional_moment(row.expires_at),
            "revoked_at": optional_moment(row.revoked_at),
            "last_used_at": optional_moment(row.last_used_at),
        }
    )


def _find(session: Session, key_id: str) -> tuple[ApiKeyRow, float] | None:
    """Find a key's row, and the database's time.

    Not through the ORM, which takes twice as long: this runs before every request.
    """
    found = session.connection().execute(_FIND_KEY, {"key_id": key_id}).mappings().one_or_none()
    if found is None:
        return None
    columns = dict(found)
    now = float(columns.pop("now"))
    return ApiKeyRow(**columns), now


def _why_ended(revoked_at: float | None, expires_at: float | None, now: float) -> str | None:
    if revoked_at is not None:
        return "was revoked"
    if expires_at is not None and expires_at <= now:
        return "has expired"
    return None


def note_use(
    sessions: sessionmaker[Session], key_id: str | None, session_id: str | None = None
) -> None:
    """Record that a key, and its session if any, was used now, unless that was done recently.

    An error is logged.
    """
    try:
        with sessions.begin() as session:
            _note(session, ApiKeyRow, key_id)
            if session_id is not None:
                _note(session, SignInSessionRow, session_id)
    except SQLAlchemyError as error:
        _logger.warning("the use of the key %s was not recorded: %s", key_id, error)


def _note(session: Session, kind: type[ApiKeyRow | SignInSessionRow], row_id: str | None) -> None:
    long_ago = database_now() - NOTED_SECONDS
    session.execute(
        update(kind)
        .where(kind.id == row_id, or_(kind.last_used_at.is_(None), kind.last_used_at < long_ago))
        .values(last_used_at=database_now())
        .execution_options(synchronize_session=False)
    )
