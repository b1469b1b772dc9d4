"""Deep links: what the reader chose stands in the page's address, by ids and not by positions.

A page calls :func:`arrived` first and :func:`note` last. Between the two the session's state is the
truth; a link, a reload or the browser's back button makes the address the truth once more.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

_NOTED = "address_noted"


def arrived(page: str) -> dict[str, str] | None:
    """The address' parameters if they were not written by :func:`note`: the reader came by them."""
    current = st.query_params.to_dict()
    if st.session_state.get(_NOTED) == (page, current):
        return None
    return current


def note(page: str, chosen: Mapping[str, str]) -> None:
    """Write what is chosen into the address."""
    st.session_state[_NOTED] = (page, dict(chosen))
    if st.query_params.to_dict() != chosen:
        st.query_params.from_dict(chosen)
