"""Sessions of browsers signed in with a key. Each function uses a database session briefly.

A session's token is accepted instead of its key, and ends with it. The API reads it from the
``Authorization`` header only, never from a cookie, so that no page of another site can send it.
"""

from __future__ import annotations

import re

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from api.auth import keys
from api.auth.errors import ForbiddenError, UnauthorizedError
from api.auth.principal import Principal
from api.db.clock import DAY_SECONDS, database_now
from api.db.tables import ApiKeyRow, SignInSessionRow
from api.http.errors import ConflictError, NotFoundError
from api.runs.views import moment, optional_moment
from pmae.schema import ProblemField
from pmae.schema.access import NewSignInSession, SignInSession

KEPT_DAYS = 30
"""Days for which an ended session is kept, so that its browser learns why it ended."""
MAX_LISTED = 1_000
_MAX_BROWSER = 80
_BROWSERS = (
    ("Edge", r"Edg(?:e|A|iOS)?/(\d+)"),
    ("Opera", r"OPR/(\d+)"),
    ("Firefox", r"(?:Firefox|FxiOS)/(\d+)"),
    ("Chrome", r"(?:Chrome|CriOS|HeadlessChrome)/(\d+)"),
    ("Safari", r"Version/(\d+)[\d.]* (?:Mobile/\S+ )?Safari/"),
)
"""Order matters: most browsers also name Safari, and several also name Chrome."""
_SYSTEMS = (
    ("Android", "Android"),
    ("iOS", "iPhone|iPad"),
    ("Windows", "Windows"),
    ("macOS", "Mac OS X"),
    ("ChromeOS", "CrOS"),
    ("Linux", "Linux"),
)


def create_session(
    session: Session, principal: Principal, *, user_agent: str, days: int
) -> NewSignInSession:
    """Begin a session with the caller's key.

    Args:
        session: in a transaction.
        principal: the caller.
        user_agent: header of the browser.
        days: until it expires, unless the key ends before.

    Raises:
        ConflictError: keys are off.
        ForbiddenError: the caller sent a session's token instead of a key.
    """
    if principal.key_id is None:
        raise ConflictError(
            "keys are off, so there are no sessions; requests need none",
            code="keys_are_off",
        )
    if principal.session_id is not None:
        raise ForbiddenError(
            "a session begins with a key, `Authorization: Bearer pmae_...`; this request has the "
            "token of another session",
            code="key_needed",
        )
    _forget_old(session)  # before any read: on SQLite a transaction that writes must write first
    key = session.get(ApiKeyRow, principal.key_id)
    if key is None:
        raise UnauthorizedError("the key was removed meanwhile; an admin creates a new one")
    token = keys.mint("pmaes")
    row = SignInSessionRow(
        id=token.id,
        key_id=key.id,
        secret_sha256=token.secret_sha256,
        created_at=database_now(),
        expires_at=database_now() + days * DAY_SECONDS,
        browser=browser_name(user_agent),
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    if key.expires_at is not None and key.expires_at < row.expires_at:
        row.expires_at = key.expires_at
    view = _view(row, key.name, current_id=None)
    return NewSignInSession(**view.model_dump(), token=token.text)


def list_sessions(session: Session, principal: Principal) -> list[SignInSession]:
    """List the caller's active sessions, newest first; for an admin, everybody's."""
    now = database_now()
    query = (
        select(SignInSessionRow, ApiKeyRow.name)
        .join(ApiKeyRow, ApiKeyRow.id == SignInSessionRow.key_id)
        .where(
            SignInSessionRow.revoked_at.is_(None),
            SignInSessionRow.expires_at > now,
            ApiKeyRow.revoked_at.is_(None),
            or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now),
        )
        .order_by(SignInSessionRow.created_at.desc(), SignInSessionRow.id)
        .limit(MAX_LISTED)
    )
    if not principal.may("admin"):
        query = query.where(SignInSessionRow.key_id == principal.key_id)
    found = session.execute(query)
    return [_view(row, name, current_id=principal.session_id) for row, name in found]


def end_session(session: Session, principal: Principal, session_id: str) -> None:
    """End a session of the caller's key; an admin can end any. Repeating it changes nothing.

    Raises:
        NotFoundError: there is no such session, or it belongs to somebody else.
    """
    own = SignInSessionRow.id == session_id
    if not principal.may("admin"):
        own &= SignInSessionRow.key_id == principal.key_id
    ended = session.execute(
        update(SignInSessionRow)
        .where(own, SignInSessionRow.revoked_at.is_(None))
        .values(revoked_at=database_now())
        .returning(SignInSessionRow.id)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if ended is None and session.scalar(select(SignInSessionRow.id).where(own)) is None:
        message = (
            f"there is no session {session_id!r} of this key; GET /api/v1/sessions lists the "
            "active ones"
        )
        field = ProblemField(pointer="session_id", message=message)
        raise NotFoundError(message, code="session_not_found", fields=[field])


def end_current_session(session: Session, principal: Principal) -> None:
    """End the session whose token the request has.

    Raises:
        NotFoundError: it has a key, or nothing.
    """
    if principal.session_id is None:
        raise NotFoundError(
            "expected the token of a session, pmaes_...; this request has none",
            code="session_not_found",
        )
    end_session(session, principal, principal.session_id)


def holding_sessions(session: Session, session_ids: set[str]) -> set[str]:
    """Select the active ones of these sessions; their keys are not checked."""
    return set(
        session.scalars(
            select(SignInSessionRow.id).where(
                SignInSessionRow.id.in_(session_ids),
                SignInSessionRow.revoked_at.is_(None),
                SignInSessionRow.expires_at > database_now(),
            )
        )
    )


def browser_name(user_agent: str) -> str:
    """Shorten a ``User-Agent`` to ``Firefox 131, Linux``; unknown ones are kept as they are.

    Unprintable characters are removed.
    """
    system = next((name for name, sign in _SYSTEMS if re.search(sign, user_agent)), None)
    for name, pattern in _BROWSERS:
        version = re.search(pattern, user_agent)
        if version:
            browser = f"{name} {version[1]}"
            return (f"{browser}, {system}" if system else browser)[:_MAX_BROWSER]
    return "".join(filter(str.isprintable, user_agent))[:_MAX_BROWSER]


def _forget_old(session: Session) -> None:
    old = database_now() - KEPT_DAYS * DAY_SECONDS
    session.execute(
        delete(SignInSessionRow)
        .where(or_(SignInSessionRow.expires_at < old, SignInSessionRow.revoked_at < old))
        .execution_options(synchronize_session=False)
    )


def _view(row: SignInSessionRow, name: str, *, current_id: str | None) -> SignInSession:
    return SignInSession.model_validate(
        {
            "id": row.id,
            "name": name,
            "created_at": moment(row.created_at),
            "expires_at": moment(row.expires_at),
            "last_used_at": optional_moment(row.last_used_at),
            "browser": row.browser,
            "current": row.id == current_id,
        }
    )
