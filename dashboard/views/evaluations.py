"""Section of the run page: runs that evaluate its checkpoints, and a form to queue one."""

from __future__ import annotations

from typing import Any

import streamlit as st
from markupsafe import Markup

from dashboard.charts import probe_curves
from dashboard.connection import (
    LIVE_SECONDS,
    beginning,
    client,
    live,
    refresh_seconds,
)
from dashboard.elements import formatting, markup
from dashboard.elements.links import clicked_link
from dashboard.elements.palette import run_color
from dashboard.navigation import run_page
from pmae.schema import MOST_IN_A_PAGE, TERMINAL_STATES, Checkpoint, Run
from pmae.schema.evaluations import EvaluationRun
from pmae.spec import PROTOCOL_NAMES, EvaluateSpec

_FEATURES = {"cls": "CLS token", "mean": "Mean of the patch tokens"}
_LAYERS = {"last": "Last block", "all": "Every block"}
MOST_SHOWN = 100
"""Runs in the table; they are read again every few seconds."""
_OWN_DATASET = "that of the pretraining"


def show_runs_live(run: Run) -> None:
    """The runs that evaluate checkpoints of a pretraining, refreshed while one is under way."""
    under_way = any(found.state not in TERMINAL_STATES for found in _newest(run)[0])
    every = LIVE_SECONDS if under_way else refresh_seconds(run)
    live(lambda: show_runs(run), key="evaluation_runs", every=every, run_id=run.id)


def show_runs(run: Run) -> None:
    """The runs that evaluate checkpoints of a pretraining; nothing where there are none."""
    found, more = _newest(run)
    if not found:
        return
    st.subheader("Evaluated later")
    head = ("Run", "State", ">Step", "Test top-1")
    opened = clicked_link(markup.table(head, map(_row, found)), key="evaluation_table")
    if opened:
        st.switch_page(run_page(), query_params={"run": opened})
    if more:
        rest = f"GET /api/v1/runs/{run.id}/evaluations has the others"
        st.caption(f"The newest {len(found)} of them; {rest}.")


def _newest(run: Run) -> tuple[list[EvaluationRun], bool]:
    """As many as a page shows, and whether there are more."""
    return beginning(client().evaluation_runs(run.id, page_size=MOST_SHOWN + 1), MOST_SHOWN)


def _row(run: EvaluationRun) -> tuple[str | Markup, ...]:
    name = Markup('<a href="run?run={id}" data-open="{id}">#{number} {name}</a>').format(
        id=run.id, number=run.number, name=run.name
    )
    figures = " · ".join(
        f"{formatting.protocol_label(found)} {formatting.top1(found)}"
        for found in run.evaluations
        if found.features == "encoder"
    )
    return (
        Markup('<span class="pm-name wrap">{}</span>').format(name),
        markup.state_badge(run.state, cancelling=run.cancel_requested),
        formatting.count(int(run.checkpoint.rpartition("-")[2])),
        Markup('<span class="wrap">{}</span>').format(figures or "–"),
    )


def show_results(run: Run) -> None:
    """Of a run that evaluates: what it has measured."""
    st.subheader("Evaluations, test top-1")
    if run.evaluations:
        st.html(markup.evaluations(run.evaluations, run_color(run.number)))
        probe_curves.show(run.evaluations, run_color(run.number), f"probe_{run.id}")
    else:
        st.caption("Nothing was measured." if run.finished_at else "Nothing is measured yet.")


def subject(run: Run) -> str:
    """Describe the checkpoint that a run evaluates, as a sentence."""
    assert isinstance(run.spec, EvaluateSpec)
    step = formatting.count(int(run.spec.checkpoint_name.rpartition("-")[2]))
    return f"evaluates step {step} of run {run.parent_id}"


def ask(run: Run) -> None:
    """A form that queues an evaluation of one of the run's kept checkpoints."""
    kept = list(client().checkpoints(run.id, kind="kept", page_size=MOST_IN_A_PAGE))
    if not kept:
        return
    with st.popover("Evaluate"):
        chosen = {found.id: found for found in kept}
        checkpoint = st.selectbox(
            "Checkpoint",
            list(chosen),
            format_func=lambda found: formatting.checkpoint_label(chosen[found]),
            key="evaluate_checkpoint",
        )
        request = _controls(run)
        if st.button("Queue it", type="primary", key="evaluate"):
            _submit(chosen[checkpoint], request)


def _controls(run: Run) -> dict[str, Any]:
    protocol = st.selectbox(
        "Protocol",
        list(PROTOCOL_NAMES),
        format_func=formatting.protocol_title,
        key="evaluate_protocol",
    )
    fields: dict[str, Any] = {"protocol": protocol}
    fields["features"] = st.selectbox(
        "Features", list(_FEATURES), format_func=_FEATURES.__getitem__, key="evaluate_features"
    )
    if protocol != "finetune":
        fields["layers"] = st.selectbox(
            "Layers", list(_LAYERS), format_func=_LAYERS.__getitem__, key="evaluate_layers"
        )
    names = [each.name for each in client().datasets() if each.available]
    others = [name for name in names if name != run.dataset]
    dataset = st.selectbox(
        "Data set",
        [_OWN_DATASET, *others],
        key="evaluate_dataset",
        help="Another one: train and measure on its images, at the pretraining's resolution.",
    )
    if dataset != _OWN_DATASET:
        fields["dataset"] = {"name": dataset}
    return {"evaluations": [fields]}


def _submit(checkpoint: Checkpoint, request: dict[str, Any]) -> None:
    queued = client().evaluate(checkpoint.id, request)
    st.switch_page(run_page(), query_params={"run": queued.id})
