"""Control to choose a run, shared by all pages."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard.connection import client, method_title
from dashboard.elements import formatting
from pmae.schema import RunSummary

MOST_RUNS = 100


def choose_run(*, key: str, methods: Sequence[str] | None = None) -> RunSummary | None:
    """A select box of the newest pretrainings and the one that ``st.session_state[key]`` names.

    ``methods`` limits it to pretrainings by these methods.

    Of a run that evaluates it takes the pretraining. Returns None, and says why, when there is no
    run to choose.
    """
    found = [
        run
        for method in ([None] if methods is None else methods)
        for run in client().runs(kind="pretrain", limit=MOST_RUNS, method=method).items
    ]
    newest = sorted(found, key=lambda run: run.number, reverse=True)[:MOST_RUNS]
    runs: dict[str, RunSummary] = {run.id: run for run in newest}
    wanted = st.session_state.get(key)
    if wanted and wanted not in runs:
        run = client().run(wanted)
        if run.parent_id is not None:
            wanted = st.session_state[key] = run.parent_id
            run = client().run(wanted)
        runs = {wanted: run, **runs}
    if not runs:
        st.info("No run yet.")
        return None
    if wanted is None:
        st.session_state[key] = _best_default(list(runs.values())).id
    chosen = st.selectbox(
        "Run",
        list(runs),
        format_func=lambda run_id: formatting.run_label(runs[run_id], method_title(runs[run_id])),
        key=key,
    )
    return runs[chosen]


def _best_default(runs: list[RunSummary]) -> RunSummary:
    """Return the newest run that has something to show."""
    return next((run for run in runs if run.state in ("running", "succeeded")), runs[0])
