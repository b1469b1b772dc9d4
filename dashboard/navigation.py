"""The pages, and links from one to another.

A page is told apart by its address, so that every link makes its own :class:`StreamlitPage`. Which
function draws a page is registered by ``dashboard/app.py``: views link to each other, and import
none of each other for it.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit.navigation.page import StreamlitPage

Show = Callable[[], None]
"""A function that draws a page."""
_SHOWN: dict[str, Show] = {}
"""By the page's address."""


def register(*, runs: Show, run: Show, reconstructions: Show, components: Show) -> None:
    """Name the functions that draw the pages; once, before any page is drawn."""
    _SHOWN.update(runs=runs, run=run, reconstructions=reconstructions, components=components)


def runs_page() -> StreamlitPage:
    """All runs."""
    return st.Page(_SHOWN["runs"], title="Runs", url_path="runs", default=True)


def run_page() -> StreamlitPage:
    """One run: ``?run=<id>``."""
    return st.Page(_SHOWN["run"], title="Run", url_path="run", visibility="hidden")


def reconstructions_page() -> StreamlitPage:
    """Reconstructions: ``?run=<id>&checkpoint=...``."""
    return st.Page(_SHOWN["reconstructions"], title="Reconstructions", url_path="reconstructions")


def components_page() -> StreamlitPage:
    """The components of a run's basis: ``?run=<id>``."""
    return st.Page(_SHOWN["components"], title="Components", url_path="components")


def all_pages() -> list[StreamlitPage]:
    """Every page, in the order of the menu."""
    return [runs_page(), run_page(), reconstructions_page(), components_page()]
