"""One image under one mask, as the run learned: below the reconstructions."""

from __future__ import annotations

import streamlit as st
from markupsafe import Markup

from dashboard.connection import client, live, refresh_seconds
from dashboard.elements import formatting, markup
from dashboard.elements.pictures import PANELS, picture
from pmae.client import ApiError
from pmae.schema import Filmstrip, Run

_MOST_FRAMES = 20
_PICTURE_EDGE = 64
_NOT_READY = "filmstrip_not_ready"


def show(run: Run) -> None:
    """Draw the section; nothing for a run that was not filmed."""
    key = f"film_image_{run.id}"
    live(lambda: _strip(run, key), key="filmstrip", every=refresh_seconds(run), run_id=run.id)


def _strip(run: Run, key: str) -> None:
    # Streamlit forgets a field that was not drawn, as while the service was down.
    st.session_state.setdefault(key, 0)
    try:
        film = client().filmstrip(run.id, image=int(st.session_state[key]), max_frames=_MOST_FRAMES)
    except ApiError as error:
        if error.problem.code == _NOT_READY:
            return
        raise
    st.subheader("As it learned", anchor=False)
    st.number_input(
        "Image of the validation split",
        0,
        film.num_images - 1,
        step=1,
        key=key,
        width=220,
        help="The same image under the same mask at each epoch, whichever checkpoints were kept.",
    )
    st.html(filmstrip_table(film, _PICTURE_EDGE))


def filmstrip_table(film: Filmstrip, edge: int) -> Markup:
    """The image and what is asked for, then a column for each frame, prediction over full."""
    reference = {"original": film.original, "visible": film.visible, "target": film.target}
    heads = [
        Markup("<th>{}<small>{}</small></th>").format(name, PANELS[name]) for name in reference
    ]
    heads += [
        Markup("<th>epoch {}<small>step {}</small></th>").format(
            frame.epoch, formatting.count(frame.step)
        )
        for frame in film.frames
    ]
    first = [
        Markup('<td rowspan="2">{}</td>').format(picture(png, edge, f"{name} of {film.label}"))
        for name, png in reference.items()
    ]
    rows = [
        markup.joined(
            Markup("<td>{}</td>").format(
                picture(getattr(frame, panel), edge, f"{panel} after epoch {frame.epoch}")
            )
            for frame in film.frames
        )
        for panel in ("prediction", "full")
    ]
    return Markup(
        '<div class="pm-scroll"><table class="pm-grid pm-film"><thead><tr>{}</tr></thead>'
        "<tbody><tr>{}{}</tr><tr>{}</tr></tbody></table></div>"
    ).format(markup.joined(heads), markup.joined(first), rows[0], rows[1])
