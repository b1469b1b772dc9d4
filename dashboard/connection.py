"""Connection to the API: shared clients, refreshing parts of pages, and error messages."""

from __future__ import annotations

import http
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

import streamlit as st

from dashboard.live.changes import Changes
from dashboard.settings import DashboardSettings
from dashboard.web.reader import session_token
from pmae.client import ApiError, ClientError, PmaeClient, ServiceUnreachableError
from pmae.client.connection import Answers
from pmae.client.errors import may_pass
from pmae.schema import TERMINAL_STATES, Checkpoint, RunSummary
from pmae.schema.access import Identity
from pmae.schema.methods import MethodView

LIVE_SECONDS = 2.0
"""Interval between two checks for events of a page."""
MAX_AGE_SECONDS = 10.0
"""Maximum age of data on a page before it is read again, even without an event."""
RETRY_SECONDS = 2.0
_READER, _METHODS, _LINKS, _READ = "reader", "methods", "download_links", "read_for_"
_answers: ContextVar[Answers | None] = ContextVar("answers", default=None)
_DATABASE_AWAY = "database_unavailable"
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Reader:
    """Identity of the reader at the service, by a token."""

    token: str | None = field(repr=False)
    identity: Identity


@dataclass(frozen=True)
class _Read:
    """Cached answers of one part of a page."""

    version: int | None
    at: float
    answers: Answers


@dataclass(frozen=True)
class _Links:
    """Signed links to the files of a checkpoint, by name."""

    urls: dict[str, str]
    renew_at: datetime


@st.cache_resource
def settings() -> DashboardSettings:
    """Read the settings from the environment, once per process."""
    return DashboardSettings()


@st.cache_resource
def changes() -> Changes:
    """Return the watcher of the service's changes, shared by all sessions."""
    return Changes(connection())


@st.cache_resource
def connection() -> PmaeClient:
    """Return the client without a key, whose connections all sessions share."""
    return PmaeClient(settings().service_url)


def client() -> PmaeClient:
    """Return the client with the token of the reader's session, if there is one."""
    token = session_token()
    service = connection().with_key(token) if token else connection()
    answers = _answers.get()
    return service if answers is None else service.remembering(answers)


def identity() -> Identity:
    """Return the reader's identity, requested once per open page.

    A page that reconnects with another session is reset: no choices and no uploaded images of the
    previous reader are left.

    Raises:
        ClientError: the service does not know the reader, or does not answer.
    """
    token = session_token()
    known: _Reader | None = st.session_state.get(_READER)
    if known is None or known.token != token:
        if known is not None:
            st.session_state.clear()
        known = _Reader(token, client().identity())
        st.session_state[_READER] = known
    return known.identity


def methods() -> dict[str, MethodView]:
    """Return the service's methods by name, requested once per open page."""
    known: dict[str, MethodView] | None = st.session_state.get(_METHODS)
    if known is None:
        known = {method.name: method for method in client().methods()}
        st.session_state[_METHODS] = known
    return known


def method_title(run: RunSummary) -> str:
    """Return the title of a run's method, or its name if the method is no longer installed."""
    method = methods().get(run.method)
    return method.title if method else run.method


def beginning(items: Iterator[_T], most: int) -> tuple[list[_T], bool]:
    """Return at most ``most`` items, and True if there are more."""
    found = list(islice(items, most + 1))
    return found[:most], len(found) > most


def download_urls(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the URLs of a checkpoint's files for the reader's browser; none if it is gone.

    If the service requires keys, they are temporary links made in the reader's name, and renewed
    after half of their lifetime.
    """
    public = settings().download_url
    if identity().name is None:
        url = connection().download_url
        return {name: url(checkpoint.id, name, base_url=public) for name in checkpoint.files}
    made: dict[str, _Links] = st.session_state.setdefault(_LINKS, {})
    known = made.get(checkpoint.id)
    now = datetime.now(UTC)
    if known is None or now >= known.renew_at:
        try:
            found = client().download_links(checkpoint.id, base_url=public)
        except ApiError as error:
            if error.problem.status != http.HTTPStatus.NOT_FOUND:
                raise
            return {}
        left = min((link.expires_at for link in found), default=now) - now
        known = _Links({link.file_name: link.url for link in found}, now + left / 2)
        made[checkpoint.id] = known
    return known.urls


def refresh_seconds(run: RunSummary) -> float | None:
    """Return the refresh interval of a run's page; None when the run has ended."""
    return None if run.state in TERMINAL_STATES else LIVE_SECONDS


def live(
    body: Callable[[], None], *, key: str, every: float | None, run_id: str | None = None
) -> None:
    """Draw ``body`` as a part of the page that refreshes by itself.

    It is redrawn every few seconds, but reads from the service only after an event, or after
    MAX_AGE_SECONDS: logs grow, and workers come and go, without events. While the event stream is
    broken, every redraw reads.

    Args:
        body: reads with :func:`client`, and draws.
        key: name of this part of the page.
        every: seconds between redraws; None: no refresh.
        run_id: run whose events matter; None: all runs.
    """
    st.session_state.pop(_READ + key, None)  # drawing the whole page reads anew

    def guarded() -> None:
        with shown_errors(), _remembering(key, run_id):
            body()

    st.fragment(guarded, run_every=every, key=key)()


@contextmanager
def _remembering(key: str, run_id: str | None) -> Iterator[None]:
    """Let :func:`client` answer from the cache, unless something may have changed since."""
    version, now = changes().version(run_id, session_token()), time.monotonic()
    read: _Read | None = st.session_state.get(_READ + key)
    if (
        read is None
        or version is None
        or read.version != version
        or now - read.at > MAX_AGE_SECONDS
    ):
        read = _Read(version, now, {})
        st.session_state[_READ + key] = read
    before = _answers.set(read.answers)
    try:
        yield
    finally:
        _answers.reset(before)


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show errors of the service; rerun the app when an absent service answers again."""
    try:
        yield
    except ServiceUnreachableError as error:
        _wait_for_service(f"The service does not answer: {error}")
    except ClientError as error:
        if isinstance(error, ApiError) and error.problem.code == _DATABASE_AWAY:
            _wait_for_service("The service's database does not answer")
            return
        if isinstance(error, ApiError) and error.problem.status == http.HTTPStatus.UNAUTHORIZED:
            st.session_state.clear()  # the next run requests the identity, and leads to sign-in
            st.rerun()
        st.error(str(error))


def _wait_for_service(why: str) -> None:
    """Show why the page is empty, and rerun the app when the service answers."""
    st.warning(f"{why}. This page comes back by itself as soon as it does.", icon="⏳")
    shown = time.monotonic()

    def ask() -> None:
        if time.monotonic() - shown < RETRY_SECONDS / 2:
            return  # drawn just now, since the service did not answer
        try:
            client().runs(limit=1)
        except ClientError as error:
            if may_pass(error):
                return
        st.rerun()

    st.fragment(ask, run_every=RETRY_SECONDS)()
