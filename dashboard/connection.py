"""The connection to the API, and what a page does when there is none."""

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
"""Between two looks whether an event came for what is on a page."""
MAX_AGE_SECONDS = 10.0
"""What is on a page and may change is read again after this long, although no event came."""
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
    """What a part of a page has read of the service."""

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
    """Read once: the environment of this process."""
    return DashboardSettings()


@st.cache_resource
def changes() -> Changes:
    """What has changed in the service, for all sessions."""
    return Changes(connection())


@st.cache_resource
def connection() -> PmaeClient:
    """The connections that all sessions share. It has no key."""
    return PmaeClient(settings().service_url)


def client() -> PmaeClient:
    """The service as the reader may use it: with the token of their session, if there is one."""
    token = session_token()
    service = connection().with_key(token) if token else connection()
    answers = _answers.get()
    return service if answers is None else service.remembering(answers)


def identity() -> Identity:
    """Identity of the reader at the service, asked for once for each page that is open.

    A page that was connected again under another session starts anew: nothing of the reader before
    is left, no choices and no uploaded images.

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
    """The service's methods by name, asked for once for each page that is open."""
    known: dict[str, MethodView] | None = st.session_state.get(_METHODS)
    if known is None:
        known = {method.name: method for method in client().methods()}
        st.session_state[_METHODS] = known
    return known


def method_title(run: RunSummary) -> str:
    """A run's method as papers write it; its name where the service has the method no more."""
    method = methods().get(run.method)
    return method.title if method else run.method


def beginning(items: Iterator[_T], most: int) -> tuple[list[_T], bool]:
    """At most so many of a list, and whether there are more."""
    found = list(islice(items, most + 1))
    return found[:most], len(found) > most


def download_urls(checkpoint: Checkpoint) -> dict[str, str]:
    """Where the reader's browser fetches each of a checkpoint's files.

    Where the service asks for keys these are links that hold for some minutes, made in the
    reader's name and again when half of their time is over. None for a checkpoint that is gone.
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
    """How often a run's page refreshes: not at all when the run has ended."""
    return None if run.state in TERMINAL_STATES else LIVE_SECONDS


def live(
    body: Callable[[], None], *, key: str, every: float | None, run_id: str | None = None
) -> None:
    """Draw ``body`` as a part of the page that refreshes alone.

    It is drawn every few seconds, since what is not drawn again vanishes, but nothing is read of
    the service again unless an event came, or MAX_AGE_SECONDS have passed: a log grows, and workers
    come and go, without one. While the events cannot be read, it is read again each time.

    Args:
        body: reads by :func:`client`, and draws.
        key: of this part of the page.
        every: seconds; None: it does not refresh.
        run_id: the run whose events count; None: those of all runs.
    """
    st.session_state.pop(_READ + key, None)  # a page that is drawn as a whole reads anew

    def guarded() -> None:
        with shown_errors(), _remembering(key, run_id):
            body()

    st.fragment(guarded, run_every=every, key=key)()


@contextmanager
def _remembering(key: str, run_id: str | None) -> Iterator[None]:
    """Let :func:`client` give what was read before, unless something may have changed since."""
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
    """Show what the service refused, or that it does not answer; then come back by itself."""
    try:
        yield
    except ServiceUnreachableError as error:
        _wait_for_service(f"The service does not answer: {error}")
    except ClientError as error:
        if isinstance(error, ApiError) and error.problem.code == _DATABASE_AWAY:
            _wait_for_service("The service's database does not answer")
            return
        if isinstance(error, ApiError) and error.problem.status == http.HTTPStatus.UNAUTHORIZED:
            st.session_state.clear()  # the next run asks who the reader is, and leads to sign-in
            st.rerun()
        st.error(str(error))


def _wait_for_service(why: str) -> None:
    """Say why there is nothing to see, and run the app again when the service answers."""
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
