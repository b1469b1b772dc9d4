"""The pages, and links from one to another.

The views are imported where they are needed, since each links to others.
"""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import StreamlitPage


def runs_page() -> StreamlitPage:
    """All runs."""
    from dashboard.views import runs

    return st.Page(runs.show, title="Runs", url_path="runs", default=True)


def run_page() -> StreamlitPage:
    """One run: ``?run=<id>``."""
    from dashboard.views import run

    return st.Page(run.show, title="Run", url_path="run", visibility="hidden")


def reconstructions_page() -> StreamlitPage:
    """Reconstructions: ``?run=<id>&checkpoint=...``."""
    from dashboard.views import reconstructions

    return st.Page(reconstructions.show, title="Reconstructions", url_path="reconstructions")


def components_page() -> StreamlitPage:
    """The components of a run's basis: ``?run=<id>``."""
    from dashboard.views import components

    return st.Page(components.show, title="Components", url_path="components")


def all_pages() -> list[StreamlitPage]:
    """In the order of the menu."""
    return [runs_page(), run_page(), reconstructions_page(), components_page()]
