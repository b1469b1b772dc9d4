"""Details of a run: its log, history, spec and environment."""

from __future__ import annotations

import json
from datetime import datetime

import streamlit as st
from markupsafe import Markup

from dashboard.connection import client, live
from dashboard.elements import formatting, markup
from pmae.schema import Run

LOG_TAIL_BYTES = 16_384


def show(run: Run, every: float | None) -> None:
    """Draw the tabs; log and history refresh ``every`` seconds."""
    log, history, spec, environment = st.tabs(["Log", "History", "Spec", "Environment"])
    with log:
        live(lambda: _log(run.id), key="log", every=every, run_id=run.id)
    with history:
        live(lambda: _history(run.id), key="history", every=every, run_id=run.id)
    with spec:
        body = run.spec.model_dump(mode="json")
        st.caption("Resolved: posting it again repeats the run.")
        st.code(json.dumps(body, indent=2), language="json", height=420)
    with environment:
        facts = {"preset": run.preset, "basis_digest": run.basis_digest, **run.environment}
        st.html(markup.table(("", ""), ((k, _value(v)) for k, v in facts.items() if v is not None)))


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _log(run_id: str) -> None:
    chunk = client().log(run_id, offset=-LOG_TAIL_BYTES, limit=LOG_TAIL_BYTES)
    if not chunk.text:
        st.caption("Nothing has been printed.")
        return
    if chunk.offset > 0:
        shown = formatting.size(chunk.size - chunk.offset)
        st.caption(f"The last {shown} of {formatting.size(chunk.size)}.")
    with st.container(height=420, autoscroll=True, border=False):
        st.code(chunk.text, language=None, wrap_lines=True)


def _history(run_id: str) -> None:
    entries = client().history(run_id).items
    rows = [
        (_moment(entry.at), entry.type, _wrapped(entry.message), entry.actor)
        for entry in reversed(entries)
    ]
    st.html(markup.table(("UTC", "What", "Message", "By"), rows))


def _moment(at: datetime) -> Markup:
    return Markup('<span class="pm-muted">{}</span>').format(formatting.clock(at))


def _wrapped(text: str) -> Markup:
    return Markup('<span class="wrap">{}</span>').format(text)
