"""Reconstructions from any checkpoint, of any images, under any mask, while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st
from markupsafe import Markup

from dashboard import address, charts, filmstrip, formatting, mask_controls
from dashboard.choices import choose_run
from dashboard.numbers import NumbersError, expanded, parse_parts
from dashboard.palette import run_color
from dashboard.pictures import reconstruction_grid
from dashboard.service import client, live, refresh_seconds
from pmae.client import ApiError
from pmae.schema import (
    Checkpoint,
    ImageChoice,
    Reconstruction,
    ReconstructionRequest,
    Run,
)

PAGE = "reconstructions"
NEWEST = "newest"
"""Choice that follows a run: always its newest checkpoint."""
SPLITS = ("train", "val", "test")
MOST_IMAGES = 32
PICTURE_EDGE = 128
_RUN, _SPLIT, _IMAGES, _SEED = "recon_run", "recon_split", "recon_images", "recon_seed"
_DEFAULTS: dict[str, object] = {_SPLIT: "val", _IMAGES: "0-7", _SEED: 0}
_HTTP_NOT_FOUND, _HTTP_CONFLICT, _HTTP_GONE = 404, 409, 410
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """What the reader wants to see."""

    run: Run
    checkpoint: str
    request: ReconstructionRequest


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
        live(lambda: _grid(choice), key="grid", every=every)
        filmstrip.show(choice.run)


def _take(came: Mapping[str, str]) -> None:
    """Start from the address; what it does not say, or says wrongly, is the default."""
    state = st.session_state
    state[_RUN] = came.get("run")
    split, seed = came.get("split", ""), came.get("seed", "")
    state[_SPLIT] = split if split in SPLITS else _DEFAULTS[_SPLIT]
    state[_IMAGES] = came.get("images", _DEFAULTS[_IMAGES])
    state[_SEED] = int(seed) if seed.isdecimal() and int(seed) < 2**31 else _DEFAULTS[_SEED]
    if state[_RUN]:
        state[_checkpoint_key(state[_RUN])] = came.get("checkpoint", NEWEST)
        mask_controls.take(state[_RUN], came)


def _checkpoint_key(run_id: str) -> str:
    return f"recon_checkpoint_{run_id}"


def _controls() -> Choice | None:
    chosen = choose_run(key=_RUN)
    if chosen is None:
        return None
    run = client().run(chosen.id)
    checkpoint = _choose_checkpoint(run)
    mask = _attempt(lambda: mask_controls.choose(run))
    for key, value in _DEFAULTS.items():
        st.session_state.setdefault(key, value)
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
    split = st.segmented_control("Split", SPLITS, key=_SPLIT, required=True)
    text = st.text_input(
        "Images", key=_IMAGES, help=f"Numbers from 0, for example 0-7, 12; at most {MOST_IMAGES}"
    )
    if checkpoint is None:
        st.info("This run has no checkpoint yet.")
        if run.state == "running":
            live(lambda: _wait_for_checkpoint(run), key="wait", every=refresh_seconds(run))
        return None
    indices = _attempt(lambda: parse_images(text))
    if indices is None or mask is None:
        return None
    address.note(
        PAGE,
        {
            "run": run.id,
            "checkpoint": checkpoint,
            "split": str(split),
            "images": text,
            "seed": str(seed),
            **mask.address,
        },
    )
    request = ReconstructionRequest(
        images=ImageChoice.model_validate({"split": split, "indices": indices}),
        seed=int(seed),
        **mask.request,
    )
    return Choice(run, checkpoint, request)


def _attempt(read: Callable[[], T]) -> T | None:
    """What ``read`` gives; None, and a message in place, where a list of numbers is wrong."""
    try:
        return read()
    except NumbersError as error:
        st.error(str(error))
        return None


def _next_seed() -> None:
    st.session_state[_SEED] = (st.session_state[_SEED] + 1) % 2**31


def _wait_for_checkpoint(run: Run) -> None:
    if client().checkpoints(run.id):
        st.rerun()


def _choose_checkpoint(run: Run) -> str | None:
    """``newest`` or an id; None when there is none."""
    kept = {c.id: c for c in client().checkpoints(run.id)}
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


def parse_images(text: str) -> list[int]:
    """``"0-3, 8"`` as ``[0, 1, 2, 3, 8]``.

    Raises:
        NumbersError: not such a list, or more than can be shown.
    """
    parts = parse_parts(text)
    if not parts:
        raise NumbersError("Name at least one image, for example 0-7")
    return expanded(parts, most=MOST_IMAGES, what="images")


def _grid(choice: Choice) -> None:
    """The pictures and what stands above them."""
    result = _reconstruct(choice)
    masked = formatting.percent(result.masked_share)
    if result.method == "pmae":
        what = (
            f"{masked} of the variance masked, {result.num_masked} of {result.num_total} components"
        )
    else:
        what = f"{masked} masked, {result.num_masked} of {result.num_total} patches"
    mean_error = sum(image.masked_error for image in result.images) / len(result.images)
    st.html(
        Markup(
            '<div class="pm-title pm-num"><b>Step {}</b><span class="pm-muted">epoch {} · {} · '
            "mean error of what is masked {}</span></div>"
        ).format(
            formatting.count(result.step),
            formatting.epoch(result.epoch),
            what,
            formatting.figure(mean_error),
        )
    )
    st.html(reconstruction_grid(result, PICTURE_EDGE))
    st.altair_chart(
        charts.residuals(result, color=run_color(choice.run.number)), key="recon_residuals"
    )


def _reconstruct(choice: Choice) -> Reconstruction:
    """Ask the service; a rolling checkpoint replaced in between is followed to the next one."""
    for last_try in (False, True):
        checkpoint = _find(choice)
        try:
            return _cached(
                checkpoint.id,
                checkpoint.created_at.isoformat(),
                choice.request.model_dump_json(),
            )
        except ApiError as error:
            replaced = error.problem.status in (_HTTP_NOT_FOUND, _HTTP_CONFLICT, _HTTP_GONE)
            if last_try or not replaced or choice.checkpoint != NEWEST:
                raise
    raise AssertionError("the last try returns or raises")


def _find(choice: Choice) -> Checkpoint:
    if choice.checkpoint == NEWEST:
        return client().checkpoints(choice.run.id)[0]
    return client().checkpoint(choice.checkpoint)


@st.cache_data(max_entries=64, show_spinner="Reconstructing")
def _cached(checkpoint_id: str, written: str, request: str) -> Reconstruction:  # noqa: ARG001
    """``written`` is part of the key: a resumed run may write a step's checkpoint again."""
    return client().reconstruct(checkpoint_id, ReconstructionRequest.model_validate_json(request))
