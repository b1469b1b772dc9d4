"""One run: progress, curves, evaluations, checkpoints, and the details below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import altair as alt
import streamlit as st
from markupsafe import Markup
from streamlit.delta_generator import DeltaGenerator

from dashboard.charts import drawing, probe_curves
from dashboard.connection import (
    beginning,
    client,
    download_urls,
    live,
    method_title,
    refresh_seconds,
)
from dashboard.elements import formatting, markup
from dashboard.elements.links import clicked_link
from dashboard.elements.palette import STATE_COLORS, run_color
from dashboard.navigation import components_page, reconstructions_page, run_page, runs_page
from dashboard.session import may_change, may_submit
from dashboard.views import evaluations, run_details
from dashboard.views.run_change import edit
from pmae.metrics import FIGURES, METRICS
from pmae.schema import TERMINAL_STATES, Checkpoint, Run
from pmae.spec import ExperimentSpec

MAX_POINTS = 400
MOST_CHECKPOINTS = 30
"""In the table; they are read again every few seconds, and each has links to its files."""


def show() -> None:
    """Draw the page."""
    run_id = st.query_params.get("run")
    if not run_id:
        st.info("No run is chosen.")
        st.page_link(runs_page(), label="Choose one from the list")
        return
    run = client().run(run_id)
    st.set_page_config(page_title=f"#{run.number} {run.name} · PMAE")
    every = refresh_seconds(run)
    _title(run)
    live(lambda: _state(run), key="state", every=every, run_id=run.id)
    if run.kind == "pretrain":
        live(lambda: _curves(run), key="curves", every=every, run_id=run.id)
        live(lambda: _outcome(run), key="outcome", every=every, run_id=run.id)
        live(lambda: _probe_curves(run), key="probe_curves", every=every, run_id=run.id)
        evaluations.show_runs_live(run)
    else:
        live(
            lambda: evaluations.show_results(client().run(run.id)),
            key="results",
            every=every,
            run_id=run.id,
        )
    run_details.show(run, every)


def _title(run: Run) -> None:
    """Draw the run's title and tags, and the buttons of its actions."""
    name, actions = st.columns([3, 2], vertical_alignment="center")
    with name:
        st.html(
            Markup(
                '<div class="pm-title">{}<h1>#{} {}</h1>'
                '<span class="pm-muted">{} · {}</span>{}{}</div>{}'
            ).format(
                markup.swatch(run.number),
                run.number,
                run.name,
                method_title(run),
                run.dataset if run.kind == "pretrain" else evaluations.subject(run),
                markup.joined(Markup('<span class="pm-tag">{}</span>').format(t) for t in run.tags),
                Markup('<span class="pm-tag">pinned</span>') if run.pinned else "",
                Markup('<div class="pm-muted" style="white-space:pre-wrap">{}</div>').format(
                    run.notes
                )
                if run.notes
                else "",
            )
        )
    with (
        actions,
        st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"),
    ):
        chosen = {"run": run.parent_id or run.id}
        if run.parent_id:
            st.page_link(run_page(), label="Pretraining", query_params=chosen)
        st.page_link(reconstructions_page(), label="Reconstructions", query_params=chosen)
        if isinstance(run.spec, ExperimentSpec) and run.spec.basis is not None:
            st.page_link(components_page(), label="Components", query_params=chosen)
        if run.kind == "pretrain" and may_submit():
            evaluations.ask(run)
        if may_change(run):
            edit(run)
            if run.state not in TERMINAL_STATES and not run.cancel_requested:
                _cancel(run)


def _cancel(run: Run) -> None:
    with st.popover("Cancel run"):
        st.write(f"Stop #{run.number} {_plain(run.name)}? Its checkpoints are kept.")
        if st.button("Yes, cancel it", type="primary", key="cancel"):
            client().cancel(run.id)
            st.rerun()


def _plain(text: str) -> str:
    """A text without Markdown's meaning."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()<>#+-.!|~$:" else c for c in text)


def _state(shown: Run) -> None:
    """State, reason, progress and the newest figures."""
    run = client().run(shown.id)
    if (run.state, run.cancel_requested) != (shown.state, shown.cancel_requested):
        st.rerun()
    progress = run.progress
    share = 1.0 if run.state == "succeeded" else markup.progress_share(progress)
    left = (
        f"{formatting.duration(progress.eta_seconds)} left in this stage"
        if run.state == "running" and progress.eta_seconds is not None
        else ""
    )
    words = markup.progress_words(progress) if run.state == "running" else ""
    pieces = [
        Markup(
            '<div class="pm-progress"><div><span class="pm-title">{}{}</span>'
            '<span class="pm-muted pm-num">{}</span></div>{}</div>'
        ).format(
            markup.state_badge(run.state, cancelling=run.cancel_requested),
            markup.stages(run),
            " · ".join(part for part in (words, left) if part),
            markup.bar(share or 0.0, STATE_COLORS[run.state]),
        )
    ]
    if run.reason and run.state != "succeeded":
        pieces.append(
            Markup('<div class="pm-reason" style="--c:{}">{}</div>').format(
                STATE_COLORS[run.state], run.reason
            )
        )
    pieces.append(_figures(run))
    st.html(Markup('<div style="display:grid;gap:1rem">{}</div>').format(markup.joined(pieces)))


def _figures(run: Run) -> Markup:
    last = run.last_metrics
    pairs = [
        (METRICS[name].title, formatting.metric(name, last[name]))
        for name in FIGURES
        if name in last
    ]
    if run.top1 is not None:
        pairs.append((METRICS["top1"].title, formatting.percent(run.top1)))
    seconds = formatting.run_seconds(run)
    if seconds is not None:
        pairs.append(("Time", formatting.duration(seconds)))
    pairs.append(("Submitted", formatting.age(run.created_at)))
    if run.owner:
        pairs.append(("Owner", run.owner))
    if run.worker:
        pairs.append(("Worker", run.worker))
    if run.lease_number > 1:
        pairs.append(("Started", f"{run.lease_number} times"))
    return markup.facts(pairs)


def _curves(run: Run) -> None:
    """Draw the curves of step and epoch metrics over the epochs."""
    metrics = client().metrics(run.id, names=drawing.CURVE_METRICS, max_points=MAX_POINTS)
    if not any(series.step for series in metrics.series):
        if run.state not in TERMINAL_STATES:
            st.caption("The curves appear with the first steps.")
        return
    with (
        st.container(horizontal=True, horizontal_alignment="right"),
        st.popover("Display", type="tertiary"),
    ):
        log = st.toggle("Logarithmic loss", key="log_loss")
        smoothing = st.slider("Smoothing of the steps", 0.0, 0.98, step=0.02, key="smoothing")
    color = run_color(run.number)
    frames = {
        chart: frame
        for chart in drawing.CURVE_CHARTS
        if not (frame := drawing.curve_frame(metrics, chart.lines, smoothing=smoothing)).empty
    }
    pictures = {
        chart: drawing.curves(
            frame,
            drawing.lines_of(frame, chart.lines),
            color=color,
            title=chart.title,
            log=log and chart.key == "loss",
            percent=chart.percent,
            least=chart.least,
        )
        for chart, frame in frames.items()
    }
    columns = st.columns(3, gap="medium")
    _place(run, {chart: made for chart, made in pictures.items() if chart.main}, columns)
    if len(frames) == 1:
        columns[1].caption("The curves of epochs appear after the first one.")
    details = {chart: made for chart, made in pictures.items() if not chart.main}
    if details:
        with st.expander("More curves: bands of the spectrum, probe loss, rank of the features"):
            _place(run, details, st.columns(2, gap="medium"))


def _place(
    run: Run,
    pictures: Mapping[drawing.CurveChart, alt.LayerChart],
    columns: Sequence[DeltaGenerator],
) -> None:
    for place, (chart, picture) in enumerate(pictures.items()):
        columns[place % len(columns)].altair_chart(
            picture,
            key=f"{chart.key}_chart_{run.id}",
            on_select="rerun",
            selection_mode=[drawing.ZOOM],
        )


def _outcome(shown: Run) -> None:
    """Evaluations beside their baselines, and the checkpoints."""
    run = client().run(shown.id)
    found = client().checkpoints(run.id, page_size=MOST_CHECKPOINTS + 1)
    checkpoints, more = beginning(found, MOST_CHECKPOINTS)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.subheader("Evaluations, test top-1")
        if run.evaluations:
            st.html(markup.evaluations(run.evaluations, run_color(run.number)))
        else:
            ended = run.state in TERMINAL_STATES
            st.caption("Not measured." if ended else "Measured when pretraining has ended.")
    with right:
        st.subheader("Checkpoints")
        if not checkpoints:
            st.caption("None was written." if run.state in TERMINAL_STATES else "None yet.")
            return
        opened = clicked_link(_checkpoint_table(checkpoints), key="checkpoint_table")
        if opened:
            st.switch_page(
                reconstructions_page(), query_params={"run": run.id, "checkpoint": opened}
            )
        if more:
            rest = f"GET /api/v1/runs/{run.id}/checkpoints has the others"
            st.caption(f"The newest {len(checkpoints)} of them; {rest}.")


def _probe_curves(shown: Run) -> None:
    """Draw the training curves of the classifiers of the run's own evaluations."""
    run = client().run(shown.id)
    probe_curves.show(run.evaluations, run_color(run.number), f"probe_{run.id}")


def _checkpoint_table(checkpoints: list[Checkpoint]) -> Markup:
    head = (">Step", ">Epoch", "Kind", "Written", "Files", "")
    return markup.table(head, (_checkpoint_row(checkpoint) for checkpoint in checkpoints))


def _checkpoint_row(checkpoint: Checkpoint) -> tuple[str | Markup, ...]:
    latest = checkpoint.kind == "latest"
    chosen = "newest" if latest else checkpoint.id
    urls = download_urls(checkpoint)
    address = urlencode({"run": checkpoint.run_id, "checkpoint": chosen})
    return (
        formatting.count(checkpoint.step),
        formatting.epoch(checkpoint.epoch),
        "rolling" if latest else "kept",
        Markup('<span title="{} UTC">{}</span>').format(
            formatting.clock(checkpoint.created_at), formatting.age(checkpoint.created_at)
        ),
        Markup('<span class="pm-files">{}</span>').format(
            markup.joined(
                _file_link(checkpoint, name, urls.get(name)) for name in sorted(checkpoint.files)
            )
        ),
        Markup('<a href="reconstructions?{}" data-open="{}">reconstruct</a>').format(
            address, chosen
        ),
    )


def _file_link(checkpoint: Checkpoint, name: str, url: str | None) -> Markup:
    facts = checkpoint.files[name]
    return Markup('<span title="{}, SHA-256 {}">{}</span>').format(
        formatting.size(facts.size),
        facts.sha256,
        markup.download_link(url, name) if url else name,
    )
