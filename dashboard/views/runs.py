"""All runs: state, progress, last figures; a click opens one."""

from __future__ import annotations

import streamlit as st
from markupsafe import Markup

from dashboard.connection import LIVE_SECONDS, client, live, method_title, methods
from dashboard.controls import run_filters
from dashboard.elements import formatting, markup
from dashboard.elements.links import clicked_link
from dashboard.elements.palette import STATE_COLORS
from dashboard.navigation import run_page
from dashboard.views import first_steps
from pmae.errors import QueryError
from pmae.metrics import LOSSES, ONLINE_PROBE
from pmae.schema import RunPage, RunSummary
from pmae.schema.run_query import RunQuery

PAGE_SIZE = 50
_CHOSEN, _CURSORS = "runs_filters", "runs_cursors"
_HEAD = (
    "Run",
    "State",
    "Progress",
    ">Loss",
    ">Online probe",
    ">Linear probe",
    "Method, data",
    "Time",
)


def show() -> None:
    """Draw the page."""
    try:
        chosen = run_filters.choose(
            methods={method.title: method.name for method in methods().values()},
            datasets=[dataset.name for dataset in client().datasets()],
        )
    except QueryError as error:
        st.error(str(error))
        return
    if st.session_state.get(_CHOSEN) != chosen:
        st.session_state[_CHOSEN] = chosen
        st.session_state[_CURSORS] = []
    live(lambda: _list(chosen), key="runs", every=LIVE_SECONDS)


def _list(chosen: RunQuery) -> None:
    cursors: list[str] = st.session_state.setdefault(_CURSORS, [])
    page = client().runs(chosen.page(cursors[-1] if cursors else None, limit=PAGE_SIZE))
    _service_line()
    if page.items:
        opened = clicked_link(_table(page.items), key="runs_table")
        if opened:
            st.switch_page(run_page(), query_params={"run": opened})
    elif chosen.has_filters:
        st.info("No run matches the filters. Remove a filter to see more.")
    else:
        first_steps.show()
    _pager(page, cursors)


def _service_line() -> None:
    """Show the workers, and the failed checks of the service."""
    workers = client().workers()
    busy = sum(worker.run_id is not None for worker in workers)
    for check, state in client().ready().checks.items():
        if state != "ok":
            st.warning(f"{check}: {state}")
    if not workers:
        st.warning("No worker is up: runs wait until one starts.")
        return
    names = ", ".join(worker.name for worker in workers)
    plural = "worker" if len(workers) == 1 else "workers"
    st.html(
        Markup('<span class="pm-muted pm-num" title="{}">{} {}, {} busy</span>').format(
            names, len(workers), plural, busy
        )
    )


def _table(runs: list[RunSummary]) -> Markup:
    head = markup.joined(
        Markup('<th class="{}">{}</th>').format(
            "num" if name.startswith(">") else "", name.removeprefix(">")
        )
        for name in _HEAD
    )
    return Markup(
        '<div class="pm-scroll"><table class="pm-table">'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(head, markup.joined(_row(run) for run in runs))


def _row(run: RunSummary) -> Markup:
    return Markup(
        '<tr data-open="{id}">'
        '<td><span class="pm-name">{swatch}<span class="pm-muted">#{number}</span>'
        '<a href="run?run={id}" data-open="{id}">{name}</a></span></td>'
        '<td>{state}</td><td>{progress}</td><td class="num">{loss}</td>'
        '<td class="num">{online}</td><td class="num"><b>{top1}</b></td>'
        "<td>{kind}{method} · {dataset}</td><td>{time}</td></tr>"
    ).format(
        id=run.id,
        swatch=markup.swatch(run.number),
        number=run.number,
        name=run.name,
        state=markup.state_badge(run.state, cancelling=run.cancel_requested),
        progress=_progress(run),
        loss=formatting.newest(run.last_metrics, *LOSSES),
        online=formatting.newest(run.last_metrics, *ONLINE_PROBE),
        top1=_share(run.top1),
        kind="evaluation · " if run.kind == "evaluate" else "",
        method=method_title(run),
        dataset=run.dataset,
        time=_time(run),
    )


def _progress(run: RunSummary) -> Markup:
    if run.state == "running":
        share = markup.progress_share(run.progress)
        words = [run.progress.stage or "starting"]
        if run.progress.epoch is not None and run.progress.total_epochs:
            words.append(f"epoch {run.progress.epoch} of {run.progress.total_epochs}")
        if run.progress.eta_seconds is not None:
            words.append(f"{formatting.duration(run.progress.eta_seconds)} left")
        return Markup('<span class="pm-cell"><small>{}</small>{}</span>').format(
            " · ".join(words), markup.bar(share or 0.0, STATE_COLORS["running"])
        )
    if run.reason and run.state != "succeeded":
        short = run.reason if len(run.reason) <= 60 else run.reason[:59] + "…"
        return Markup('<small title="{}">{}</small>').format(run.reason, short)
    return Markup("")


def _share(value: float | None) -> str:
    return "–" if value is None else formatting.percent(value)


def _time(run: RunSummary) -> Markup:
    seconds = formatting.run_seconds(run)
    took = "" if seconds is None else f"{formatting.duration(seconds)} · "
    return Markup('<span class="pm-muted" title="submitted {} UTC">{}{}</span>').format(
        formatting.clock(run.created_at), took, formatting.age(run.created_at)
    )


def _pager(page: RunPage, cursors: list[str]) -> None:
    if not cursors and page.next_cursor is None:
        return
    with st.container(horizontal=True):
        st.button("Newer", disabled=not cursors, on_click=_turn, args=(None,))
        st.button(
            "Older", disabled=page.next_cursor is None, on_click=_turn, args=(page.next_cursor,)
        )


def _turn(cursor: str | None) -> None:
    """To the page at ``cursor``; None: back."""
    cursors: list[str] = st.session_state[_CURSORS]
    if cursor is None:
        cursors.pop()
    else:
        cursors.append(cursor)
