"""Reconstructions from any checkpoint, of any images, under any mask, while training goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import streamlit as st
from markupsafe import Markup

from dashboard import address
from dashboard.charts import drawing
from dashboard.connection import client, live, methods, refresh_seconds
from dashboard.controls import images, masks
from dashboard.controls.run_choice import choose_run
from dashboard.elements import formatting
from dashboard.elements.palette import run_color
from dashboard.elements.pictures import reconstruction_grid
from dashboard.views import filmstrip
from pmae.client import ApiError
from pmae.client.checkpoints import uploads_refused
from pmae.metrics import band_title
from pmae.schema import MOST_IN_A_PAGE, Checkpoint, Reconstruction, ReconstructionRequest, Run
from pmae.schema.number_ranges import NumbersError
from pmae.spec import ExperimentSpec

PAGE = "reconstructions"
NEWEST = "newest"
"""Choice that follows a run: always its newest checkpoint."""
PICTURE_EDGE = 128
_RUN, _SEED = "recon_run", "recon_seed"
_HTTP_NOT_FOUND, _HTTP_CONFLICT, _HTTP_GONE, _HTTP_TOO_LARGE = 404, 409, 410, 413
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """Checkpoint, images and mask chosen by the reader."""

    run: Run
    checkpoint: str
    request: ReconstructionRequest
    names: tuple[str, ...]
    """Of the reader's own files; empty for images of the data set."""

    @cached_property
    def request_digest(self) -> str:
        """Tells requests apart without their files."""
        return hashlib.sha256(self.request.model_dump_json().encode()).hexdigest()


def show() -> None:
    """Draw the page."""
    came = address.arrived(PAGE)
    if came is not None:
        _take(came)
        address.note(PAGE, came)  # or what is wrong in it would come back at each correction
    controls, grid = st.columns([1, 4], gap="large")
    with controls:
        choice = _controls()
    if choice is None:
        return
    with grid:
        every = refresh_seconds(choice.run) if choice.checkpoint == NEWEST else None
        live(lambda: _grid(choice), key="grid", every=every, run_id=choice.run.id)
        filmstrip.show(choice.run)


def _take(came: Mapping[str, str]) -> None:
    """Set the controls from the address; missing and malformed values become the defaults."""
    state = st.session_state
    state[_RUN] = came.get("run")
    seed = came.get("seed", "")
    state[_SEED] = int(seed) if seed.isdecimal() and int(seed) < 2**31 else 0
    images.take(came)
    if state[_RUN]:
        state[_checkpoint_key(state[_RUN])] = came.get("checkpoint", NEWEST)
        masks.take(state[_RUN], came)


def _checkpoint_key(run_id: str) -> str:
    return f"recon_checkpoint_{run_id}"


def _controls() -> Choice | None:
    chosen = choose_run(key=_RUN)
    if chosen is None:
        return None
    run = client().run(chosen.id)
    checkpoint = _choose_checkpoint(run)
    method = methods().get(run.method)
    if method is None:
        st.info(f"The service has no method {run.method} any more, so nothing can be masked by it.")
        return None
    mask = _attempt(lambda: masks.choose(run, method))
    st.session_state.setdefault(_SEED, 0)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        nothing_drawn = mask is not None and not mask.drawn
        seed = st.number_input(
            "Seed of the mask",
            0,
            2**31 - 1,
            step=1,
            key=_SEED,
            width="stretch",
            disabled=nothing_drawn,
        )
        st.button("Next", on_click=_next_seed, help="Another mask", disabled=nothing_drawn)
    has_val = not isinstance(run.spec, ExperimentSpec) or run.spec.dataset.val == "held_out"
    chosen_images = _attempt(lambda: images.choose(has_val=has_val))
    if checkpoint is None:
        st.info("This run has no checkpoint yet.")
        if run.state == "running":
            live(
                lambda: _wait_for_checkpoint(run),
                key="wait",
                every=refresh_seconds(run),
                run_id=run.id,
            )
        return None
    if chosen_images is None or mask is None:
        return None
    address.note(
        PAGE,
        {
            "run": run.id,
            "checkpoint": checkpoint,
            **chosen_images.address,
            "seed": str(seed),
            **mask.address,
        },
    )
    request = ReconstructionRequest(images=chosen_images.images, seed=int(seed), **mask.request)
    return Choice(run, checkpoint, request, chosen_images.names)


def _attempt(read: Callable[[], T]) -> T | None:
    """Return the result of ``read``; None, after an error message, if a list is malformed."""
    try:
        return read()
    except NumbersError as error:
        st.error(str(error))
        return None


def _next_seed() -> None:
    st.session_state[_SEED] = (st.session_state[_SEED] + 1) % 2**31


def _wait_for_checkpoint(run: Run) -> None:
    if next(client().checkpoints(run.id, page_size=1), None) is not None:
        st.rerun()


def _choose_checkpoint(run: Run) -> str | None:
    """``newest`` or an id; None when there is none."""
    kept = {c.id: c for c in client().checkpoints(run.id, page_size=MOST_IN_A_PAGE)}
    if not kept:
        return None
    options = [NEWEST, *(c.id for c in kept.values() if c.kind == "kept")]
    key = _checkpoint_key(run.id)
    wanted = st.session_state.setdefault(key, NEWEST)
    if wanted not in options:
        st.info("The checkpoint of this link has been replaced; this is the newest.")
        st.session_state[key] = NEWEST
    following = "Newest, follows the run" if run.state == "running" else "Newest"
    return st.selectbox(
        "Checkpoint",
        options,
        format_func=lambda c: following if c == NEWEST else formatting.checkpoint_label(kept[c]),
        key=key,
    )


def _grid(choice: Choice) -> None:
    """The pictures and what stands above them."""
    try:
        result = _reconstruct(choice)
    except ApiError as error:
        if not _told_of_files(error, choice.names):
            raise
        return
    masked = formatting.percent(result.masked_share)
    if result.parts == "components":
        what = (
            f"{masked} of the variance masked, {result.num_masked} of {result.num_total} components"
        )
    else:
        what = f"{masked} masked, {result.num_masked} of {result.num_total} patches"
    st.html(
        Markup(
            '<div class="pm-title pm-num"><b>Step {}</b><span class="pm-muted">epoch {} · {} · '
            "{}</span></div>"
        ).format(
            formatting.count(result.step), formatting.epoch(result.epoch), what, _explained(result)
        )
    )
    st.html(reconstruction_grid(result, PICTURE_EDGE, choice.names))
    st.altair_chart(
        drawing.residuals(result, color=run_color(choice.run.number)), key="recon_residuals"
    )


def _explained(result: Reconstruction) -> str:
    """Show the explained fraction of the masked variance, in total and per spectrum band."""
    if result.explained_variance is None:
        return "what is masked has no variance"
    whole = f"{formatting.percent(result.explained_variance)} of it explained"
    bands = ", ".join(
        f"{band_title(band)}: {formatting.percent(share)}"
        for band, share in result.explained_variance_by_band.items()
    )
    return f"{whole} ({bands})" if bands else whole


def _told_of_files(error: ApiError, names: Sequence[str]) -> bool:
    """Show each file's error, and return True, if a refusal is about the reader's files."""
    faults = uploads_refused(error.problem)
    for place, why in faults.items():
        st.error(f"{names[place]}: {why}")
    too_large = bool(names) and error.problem.status == _HTTP_TOO_LARGE
    if too_large:
        st.error(f"Together these files are too large: {error.problem.detail}. Choose fewer.")
    return bool(faults) or too_large


def _reconstruct(choice: Choice) -> Reconstruction:
    """Ask the service; a rolling checkpoint replaced in between is followed to the next one."""
    for last_try in (False, True):
        checkpoint = _find(choice)
        try:
            return _cached(
                checkpoint.id,
                checkpoint.created_at.isoformat(),
                choice.request_digest,
                choice.request,
            )
        except ApiError as error:
            replaced = error.problem.status in (_HTTP_NOT_FOUND, _HTTP_CONFLICT, _HTTP_GONE)
            if last_try or not replaced or choice.checkpoint != NEWEST:
                raise
    raise AssertionError("the last try returns or raises")


def _find(choice: Choice) -> Checkpoint:
    if choice.checkpoint == NEWEST:
        newest = next(client().checkpoints(choice.run.id, page_size=1), None)
        if newest is None:  # removed since the choice was offered
            st.rerun()
        return newest
    return client().checkpoint(choice.checkpoint)


@st.cache_data(max_entries=64, show_spinner="Reconstructing")
def _cached(
    checkpoint_id: str,
    written: str,  # noqa: ARG001
    request_digest: str,  # noqa: ARG001
    _request: ReconstructionRequest,
) -> Reconstruction:
    """The key is all but the request itself, which may hold many files.

    ``written`` belongs to it: a resumed run may write a step's checkpoint again.
    """
    return client().reconstruct(checkpoint_id, _request)
