"""The connection to the API, and what a page does when there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st

from dashboard.settings import DashboardSettings
from pmae.client import ClientError, PmaeClient, ServiceUnreachableError
from pmae.schema import TERMINAL_STATES, RunSummary

LIVE_SECONDS = 2.0
"""Between two refreshes of what changes while a run is under way."""
RETRY_SECONDS = 2.0


@st.cache_resource
def settings() -> DashboardSettings:
    """Read once: the environment of this process."""
    return DashboardSettings()


@st.cache_resource
def client() -> PmaeClient:
    """The one client that all sessions share."""
    return PmaeClient(settings().service_url)


def download_url(checkpoint_id: str, file_name: str) -> str:
    """Where the reader's browser fetches a checkpoint's file."""
    return client().download_url(checkpoint_id, file_name, base_url=settings().download_url)


def refresh_seconds(run: RunSummary) -> float | None:
    """How often a run's page refreshes: not at all when the run has ended."""
    return None if run.state in TERMINAL_STATES else LIVE_SECONDS


def live(body: Callable[[], None], *, key: str, every: float | None) -> None:
    """Draw ``body`` as a part of the page that refreshes alone, ``every`` seconds."""

    def guarded() -> None:
        with shown_errors():
            body()

    st.fragment(guarded, run_every=every, key=key)()


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show what the service refused, or that it does not answer; then come back by itself."""
    try:
        yield
    except ServiceUnreachableError as error:
        st.warning(
            f"The service does not answer: {error}. "
            "This page comes back by itself as soon as it does.",
            icon="⏳",
        )
        _wait_for_service()
    except ClientError as error:
        st.error(str(error))


def _wait_for_service() -> None:
    """Run the app again when the service answers."""
    shown = time.monotonic()

    def ask() -> None:
        if time.monotonic() - shown < RETRY_SECONDS / 2:
            return  # drawn just now, since the service did not answer
        try:
            client().ready()
        except ClientError:
            return
        st.rerun()

    st.fragment(ask, run_every=RETRY_SECONDS)()
