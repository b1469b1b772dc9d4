"""The basis of a run: how the variance spreads, and what its components look like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import streamlit as st

from dashboard import address
from dashboard.charts import drawing
from dashboard.connection import client, methods
from dashboard.controls.run_choice import choose_run
from dashboard.elements import formatting, markup
from dashboard.elements.palette import run_color
from dashboard.elements.pictures import gallery
from pmae.client import ApiError
from pmae.schema import Spectrum

PAGE = "components"
GALLERY_SIZE = 48
PICTURE_EDGE = 72
BASES = {
    "pca": "PCA",
    "pca_augmented": "PCA of augmented images",
    "dct": "Cosine transform (DCT)",
    "random": "Random rotation",
    "kernel": "Kernel between pixels",
}
_RUN, _FIRST = "components_run", "components_first"
_CONNECTIONS = 6


def show() -> None:
    """Draw the page."""
    came = address.arrived(PAGE)
    if came is not None:
        st.session_state[_RUN] = came.get("run")
    with st.container(width=460):
        run = choose_run(
            key=_RUN, methods=[name for name, method in methods().items() if method.has_basis]
        )
    if run is None:
        return
    address.note(PAGE, {"run": run.id})
    try:
        spectrum = client().spectrum(run.id)
    except ApiError as error:
        st.info(str(error))
        return
    st.html(_facts(spectrum))
    color = run_color(run.number)
    for column, cumulative in zip(st.columns(2, gap="medium"), (False, True), strict=True):
        column.altair_chart(
            drawing.spectrum(spectrum, color=color, cumulative=cumulative),
            key=f"spectrum_{cumulative}_{spectrum.basis_digest}",
        )
    _gallery(run.id, spectrum)


def _facts(spectrum: Spectrum) -> str:
    cumulative = np.cumsum(spectrum.explained_variance_ratio)
    pairs = [
        ("Basis", BASES.get(spectrum.kind, spectrum.kind)),
        ("Images", f"{spectrum.resolution} × {spectrum.resolution} × {spectrum.channels}"),
        ("Components", formatting.count(spectrum.num_components)),
    ]
    num_pixels = spectrum.channels * spectrum.resolution**2
    if spectrum.num_components < num_pixels:
        pairs[-1] = ("Components", f"{pairs[-1][1]} of {formatting.count(num_pixels)}")
        pairs.append(("Hold of the variance", f"{100 * cumulative[-1]:.3g} %"))
    for share in (0.5, 0.9, 0.99):
        needed = int(np.searchsorted(cumulative, share - 1e-9)) + 1
        if needed <= len(cumulative):
            pairs.append((f"For {100 * share:g} % of the variance", formatting.count(needed)))
    pairs.append(("Digest", spectrum.basis_digest[:12]))
    return markup.facts(pairs)


def _gallery(run_id: str, spectrum: Spectrum) -> None:
    st.subheader("Components", help="Counted from 0, as a mask names them.")
    last_first = max(0, spectrum.num_components - GALLERY_SIZE)
    first = 0
    if last_first:
        st.session_state[_FIRST] = min(st.session_state.get(_FIRST, 0), last_first)
        first = int(st.slider("From component", 0, last_first, key=_FIRST, width=460))
    indices = range(first, min(first + GALLERY_SIZE, spectrum.num_components))
    pngs = _pictures(spectrum.basis_digest, run_id, indices.start, indices.stop)
    captions = [
        f"{index} · {100 * spectrum.explained_variance_ratio[index]:.2g} %" for index in indices
    ]
    st.html(gallery(pngs, captions, PICTURE_EDGE))


@st.cache_data(max_entries=64, show_spinner="Drawing the components")
def _pictures(digest: str, _run_id: str, start: int, stop: int) -> list[bytes]:  # noqa: ARG001
    """Pictures of some components, remembered by the basis' digest: a basis never changes."""
    service = client()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(
            pool.map(lambda index: service.component_png(_run_id, index), range(start, stop))
        )
