"""HTML whose links open a page of this app without a reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st
from markupsafe import Markup

_SCRIPT = Path(__file__).parents[1] / "assets" / "links.js"


@st.cache_resource
def _component() -> Callable[..., object]:
    return st.components.v2.component(
        "pmae_links",
        html="<div data-links></div>",
        js=_SCRIPT.read_text(encoding="utf-8"),
        isolate_styles=False,
    )


def clicked_link(html: Markup, *, key: str) -> str | None:
    """Show ``html``; return the ``data-open`` value of a click since the last run, or None."""
    result = _component()(key=key, data={"html": str(html)}, on_opened_change=_noted)
    opened = getattr(result, "opened", None)
    return str(opened) if opened else None


def _noted() -> None:
    """Naming the trigger makes the component report it; the value is read from the result."""
