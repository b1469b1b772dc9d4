"""Deep links: the reader's choices in the page's address, by ids instead of positions.

A page calls :func:`arrived` first and :func:`note` last. In between the session's state counts;
after a link, a reload or the browser's back button the address does.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

_NOTED = "address_noted"


def arrived(page: str) -> dict[str, str] | None:
    """Return the address's parameters if the reader came by them, not by :func:`note`."""
    current = st.query_params.to_dict()
    if st.session_state.get(_NOTED) == (page, current):
        return None
    return current


def note(page: str, chosen: Mapping[str, str]) -> None:
    """Write the choices into the address."""
    st.session_state[_NOTED] = (page, dict(chosen))
    if st.query_params.to_dict() != chosen:
        st.query_params.from_dict(chosen)
