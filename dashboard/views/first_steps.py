"""The first page of a service that has no run yet: its reader starts one."""

from __future__ import annotations

import streamlit as st

from dashboard.connection import client, identity, settings, shown_errors
from dashboard.navigation import run_page
from dashboard.session import may_submit

_PRESET = "quickstart"


def show() -> None:
    """Offer the quickstart: a button to who may submit, the command to everybody."""
    with st.container(border=True):
        st.subheader("No run yet")
        st.markdown(
            "The quickstart pretrains a small vision transformer on scikit-learn's digits, which "
            "need no download, and probes it: about two minutes on a CPU."
        )
        if may_submit():
            _button()
            st.caption("The same from a terminal:")
        else:
            st.info(
                "Your key is a viewer's: it reads. Whoever has a submitter's key starts the run "
                "from a terminal, or here:"
            )
        st.code(_commands(), language="bash")


def _button() -> None:
    if st.button("Run the quickstart", type="primary"):
        with shown_errors():
            run = client().submit(preset=_PRESET)
            st.switch_page(run_page(), query_params={"run": run.id})


def _commands() -> str:
    lines = [f"export PMAE_API_URL={settings().download_url}"]
    key = ""
    if identity().name is not None:
        lines.append("export PMAE_API_KEY=pmae_...")
        key = ' -H "Authorization: Bearer $PMAE_API_KEY"'
    request = f'"$PMAE_API_URL/api/v1/runs?preset={_PRESET}"{key}'
    lines += [
        f"pmae submit {_PRESET}",
        "# or, without the command line:",
        f"curl -X POST {request} \\\n     -H 'Content-Type: application/json' -d '{{}}'",
    ]
    return "\n".join(lines)
