"""The script of every page; ``python -m dashboard`` serves it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.connection import shown_errors
from dashboard.navigation import all_pages, register
from dashboard.session import signed_in
from dashboard.views import components, reconstructions, run, runs

_ASSETS = Path(__file__).parent / "assets"


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="PMAE", page_icon=str(_ASSETS / "icon.png"), layout="wide")
    st.logo(_ASSETS / "icon.png", size="small")
    st.html(_ASSETS / "style.css")
    register(
        runs=runs.show,
        run=run.show,
        reconstructions=reconstructions.show,
        components=components.show,
    )
    page = st.navigation(all_pages(), position="top")
    with shown_errors():
        if signed_in():
            page.run()


main()
