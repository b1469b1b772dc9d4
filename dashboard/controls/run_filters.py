"""Filters and order of the list of runs, kept in the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, get_args

import streamlit as st

from pmae.metrics import METRICS, RANKING
from pmae.schema import RunKind, RunState
from pmae.schema.run_query import Order, RunQuery, run_query

_STATES = get_args(RunState)
_KINDS: dict[str, RunKind] = {"Pretraining": "pretrain", "Evaluation": "evaluate"}
_NEWEST = "Newest first"
_ORDERS: dict[str, tuple[str, Order]] = {
    _NEWEST: ("created", "desc"),
    "Oldest first": ("created", "asc"),
    "Ended last": ("finished", "desc"),
    "Best linear probe": ("top1", "desc"),
    **{
        f"Best {METRICS[name].title[0].lower()}{METRICS[name].title[1:]}": (
            f"metric:{name}",
            "asc" if METRICS[name].better == "lower" else "desc",
        )
        for name in RANKING
    },
    "Name": ("name", "asc"),
    "Priority": ("priority", "desc"),
}


def choose(*, methods: Mapping[str, str], datasets: list[str]) -> RunQuery:
    """Draw the controls.

    Args:
        methods: names of the methods to choose from, by title.
        datasets: names to choose from; another can be written.

    Raises:
        QueryError: what was written as a bound of a metric is none.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        state = st.segmented_control("State", _STATES, key="state", bind="query-params")
        kind = st.segmented_control("Kind", list(_KINDS), key="kind", bind="query-params")
        method = st.segmented_control("Method", list(methods), key="method", bind="query-params")
        dataset = st.selectbox(
            "Data set",
            datasets,
            index=None,
            placeholder="all",
            accept_new_options=True,
            key="dataset",
            bind="query-params",
            width=140,
        )
        text = _text("Search", "text", "name, notes, id", width=150)
        # Without a default, so that the address names whichever order is chosen.
        order = st.selectbox(
            "Order",
            list(_ORDERS),
            index=None,
            placeholder=_NEWEST,
            key="order",
            bind="query-params",
            width=170,
        )
        with st.popover("More"):
            more = _more()
    sort, direction = _ORDERS[order or _NEWEST]
    return run_query(
        state=state,
        kind=_KINDS[kind] if kind else None,
        method=methods[method] if method else None,
        dataset=dataset,
        text=text,
        sort=sort,
        order=direction,
        **more,
    )


def _more() -> dict[str, Any]:
    """Draw the less common filters."""
    tag = _text("Tag", "tag", "all")
    owner = _text("Owner", "owner", "all", hint="The name of the key that submitted the run.")
    bounds = _text(
        "Metrics",
        "metric",
        "val_loss<0.5, top1>=0.9",
        hint="Bounds of a run's newest values, with commas between; all of them hold.",
    )
    since = st.date_input("Submitted since", None, key="since", bind="query-params")
    until = st.date_input("Submitted until", None, key="until", bind="query-params")
    pinned = st.toggle("Pinned only", key="pinned", bind="query-params")
    return {
        "tag": tag,
        "owner": owner,
        "metric": tuple(part.strip() for part in bounds.split(",")) if bounds else None,
        "created_after": _midnight(since),
        "created_before": _midnight(until, days=1),
        "pinned": True if pinned else None,
    }


def _text(
    label: str,
    key: str,
    placeholder: str,
    hint: str | None = None,
    width: int | Literal["stretch"] = "stretch",
) -> str | None:
    written = st.text_input(
        label, placeholder=placeholder, key=key, bind="query-params", width=width, help=hint
    )
    return (written or "").strip() or None


def _midnight(day: date | None, *, days: int = 0) -> datetime | None:
    """Return the start of a day in UTC, the time zone of all pages."""
    return datetime.combine(day + timedelta(days=days), time.min, UTC) if day else None
