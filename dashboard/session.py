"""Reader of a page: identity and rights.

Where the service asks for keys, a browser is signed in by a cookie that no script can read
(:mod:`dashboard.web.sign_in`). The service is asked what it stands for; nothing is kept here, so a
restart signs nobody out.
"""

from __future__ import annotations

import http

import streamlit as st

from dashboard.connection import identity
from dashboard.web.sign_in import SIGN_IN_PATH, SIGN_OUT_PATH
from pmae.client import ApiError, InvalidKeyError
from pmae.schema import RunSummary
from pmae.schema.access import Identity

_TO_SIGN_IN = f"""
<p><a href="{SIGN_IN_PATH}" target="_self">Sign in</a> to see this page.</p>
<script>
const here = location.pathname + location.search;
location.replace("{SIGN_IN_PATH}?next=" + encodeURIComponent(here));
</script>
"""
_SIGN_OUT = (
    f'<form class="pm-sign-out" method="post" action="{SIGN_OUT_PATH}">'
    "<button>Sign out</button></form>"
)


def signed_in() -> bool:
    """Check that the service knows the reader; if not, lead to the sign-in page and back here.

    Raises:
        ClientError: the service cannot say.
    """
    try:
        reader = identity()
    except InvalidKeyError:
        reader = None
    except ApiError as error:
        if error.problem.status != http.HTTPStatus.UNAUTHORIZED:
            raise
        reader = None
    if reader is None:
        st.html(_TO_SIGN_IN, unsafe_allow_javascript=True)
        return False
    _show_identity(reader)
    return True


def may_submit() -> bool:
    """Return True if the reader may submit runs."""
    return identity().role != "viewer"


def may_change(run: RunSummary) -> bool:
    """Return True if the reader may change or stop a run."""
    reader = identity()
    return reader.role == "admin" or (may_submit() and run.owner == reader.name)


def _show_identity(reader: Identity) -> None:
    """Name, role, and the way out; nothing where keys are off."""
    if reader.name is None:
        return
    with st.container(
        horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"
    ):
        st.caption(f"`{reader.name}` · {reader.role}", width="content")
        st.html(_SIGN_OUT, width="content")
