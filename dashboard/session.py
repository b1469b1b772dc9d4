"""Who the reader is. Where the service asks for keys, each browser session has its own.

The key lives in the session's state on the server, and nowhere else: it is gone with a reload of
the page, no other visitor has it, and no address, link or log carries it.
"""

from __future__ import annotations

import http

import streamlit as st

from dashboard.service import API_KEY, IDENTITY, KEY_FAULT, client, forget_key
from pmae.client import ApiError, InvalidKeyError
from pmae.schema import RunSummary
from pmae.schema_access import Identity


def signed_in() -> bool:
    """Whether the service knows this session; if it does not, ask for a key in place of the page.

    Raises:
        ClientError: the service cannot say.
    """
    if IDENTITY not in st.session_state:
        try:
            st.session_state[IDENTITY] = client().identity()
        except InvalidKeyError as error:
            st.session_state[KEY_FAULT] = str(error)
            _ask_for_key()
            return False
        except ApiError as error:
            if error.problem.status != http.HTTPStatus.UNAUTHORIZED:
                raise
            if API_KEY in st.session_state:
                st.session_state[KEY_FAULT] = str(error)
            _ask_for_key()
            return False
    _show_identity(st.session_state[IDENTITY])
    return True


def may_submit() -> bool:
    """Whether the reader may make runs."""
    identity: Identity = st.session_state[IDENTITY]
    return identity.role != "viewer"


def may_change(run: RunSummary) -> bool:
    """Whether the reader may change a run, or stop it."""
    identity: Identity = st.session_state[IDENTITY]
    return identity.role == "admin" or (may_submit() and run.owner == identity.name)


def _sign_out() -> None:
    """Nothing of this reader is left for the next one: no key, no choices, no uploaded images."""
    st.session_state.clear()
    forget_key()


def _ask_for_key() -> None:
    st.session_state.pop(API_KEY, None)
    with (
        st.container(horizontal_alignment="center"),
        st.form("sign_in", width=460, clear_on_submit=True),
    ):
        st.subheader("Sign in")
        st.caption("This service asks for an API key. An admin of it makes one for you.")
        text = st.text_input("API key", type="password", placeholder="pmae_…")
        fault = st.session_state.pop(KEY_FAULT, None)
        if fault:
            st.error(fault)
        if st.form_submit_button("Sign in", type="primary") and text.strip():
            st.session_state[API_KEY] = text.strip()
            st.rerun()


def _show_identity(identity: Identity) -> None:
    """Name, role, and the way out; nothing where keys are off."""
    if identity.name is None:
        return
    with st.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"
    ):
        st.caption(f"`{identity.name}` · {identity.role}", width="content")
        st.button("Sign out", type="tertiary", on_click=_sign_out)
