"""Controls to choose images: indices into the run's data set, or uploaded files.

Streamlit forgets the files of an uploader that is not drawn. So earlier uploads are kept in the
session's state, for when the reader returns from the data set's images or from another page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import streamlit as st
from markupsafe import Markup

from pmae.client.checkpoints import uploaded_images
from pmae.schema import ImageChoice, UploadedImages
from pmae.schema.number_ranges import NumbersError, expanded, parse_parts
from pmae.schema.reconstructions import IMAGE_FORMATS, MOST_IMAGE_BYTES, MOST_IMAGES

SPLITS = ("train", "val", "test")
SOURCES = {"data set": "Data set", "own": "Your own"}
FILE_TYPES = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff")
_SOURCE, _SPLIT, _IMAGES, _FILES = "recon_source", "recon_split", "recon_images", "recon_files"
_DRAWN, _KEPT = "recon_files_drawn", "recon_files_kept"
_DEFAULTS = {_SOURCE: "data set", _SPLIT: "val", _IMAGES: "0-7"}


_File = tuple[str, bytes]
"""Its name, and what is in it."""


@dataclass(frozen=True)
class ImagesChosen:
    """Images chosen by the reader.

    Attributes:
        images: as the request names or holds them.
        address: the parameters of the page's address that bring them back; none for files, which
            no address can carry.
        names: of the files; empty for images of the data set.
    """

    images: ImageChoice | UploadedImages
    address: dict[str, str]
    names: tuple[str, ...] = ()


def take(came: Mapping[str, str]) -> None:
    """Set the controls from the address; missing and malformed values become the defaults."""
    state = st.session_state
    split = came.get("split", "")
    state[_SOURCE] = _DEFAULTS[_SOURCE]
    state[_SPLIT] = split if split in SPLITS else _DEFAULTS[_SPLIT]
    state[_IMAGES] = came.get("images", _DEFAULTS[_IMAGES])


def choose(*, has_val: bool) -> ImagesChosen | None:
    """Draw the controls. None, and a word about it, while there are no files.

    Args:
        has_val: whether the run has validation images.

    Raises:
        NumbersError: not a list of numbers, or more images than can be shown.
    """
    for key, value in _DEFAULTS.items():
        # Also for controls that are not drawn, which would lose their values.
        st.session_state[key] = st.session_state.get(key, value)
    source = st.segmented_control(
        "Images", list(SOURCES), format_func=SOURCES.__getitem__, key=_SOURCE, required=True
    )
    return _own() if source == "own" else _of_data_set(has_val=has_val)


def _of_data_set(*, has_val: bool) -> ImagesChosen:
    drawn = _files(_DRAWN)
    st.session_state[_KEPT] = (*_kept_beside(drawn), *drawn)
    st.session_state[_DRAWN] = ()
    splits = [split for split in SPLITS if has_val or split != "val"]
    if st.session_state[_SPLIT] not in splits:
        st.session_state[_SPLIT] = "test"
    split = st.segmented_control("Split", splits, key=_SPLIT, required=True)
    text = st.text_input(
        "Numbers of the images",
        key=_IMAGES,
        help=f"From 0, for example 0-7, 12; at most {MOST_IMAGES}",
    )
    images = ImageChoice.model_validate({"split": split, "indices": parse_images(text)})
    return ImagesChosen(images, {"split": str(split), "images": text})


def _own() -> ImagesChosen | None:
    files = st.file_uploader(
        "Image files",
        FILE_TYPES,
        accept_multiple_files=True,
        key=_FILES,
        help=f"{', '.join(IMAGE_FORMATS)}, each up to {MOST_IMAGE_BYTES // 2**20} MiB; at most "
        f"{MOST_IMAGES}. They are scaled to the run's image size, and are not stored.",
    )
    drawn = tuple((file.name, file.getvalue()) for file in files)
    st.session_state[_DRAWN] = drawn
    kept = _kept_beside(drawn)
    if kept:
        names = ", ".join(name for name, _ in kept)
        st.html(Markup('<div class="pm-muted">From before: {}</div>').format(names))
        st.button("Remove these", key="recon_files_forget", on_click=_forget_kept)
    chosen = (*kept, *drawn)
    if not chosen:
        st.info("Their reconstructions appear as soon as there is a file.")
        return None
    if len(chosen) > MOST_IMAGES:
        raise NumbersError(
            f"At most {MOST_IMAGES} images are shown at once; here are {len(chosen)}"
        )
    images = uploaded_images([data for _, data in chosen])
    return ImagesChosen(images, {}, tuple(name for name, _ in chosen))


def _files(which: str) -> tuple[_File, ...]:
    files: tuple[_File, ...] = st.session_state.get(which, ())
    return files


def _kept_beside(drawn: tuple[_File, ...]) -> tuple[_File, ...]:
    """Files from before. Who comes back at once finds them in the control as well, for a while."""
    return tuple(file for file in _files(_KEPT) if file not in drawn)


def _forget_kept() -> None:
    st.session_state[_KEPT] = ()


def parse_images(text: str) -> list[int]:
    """Parse ``"0-3, 8"`` into ``[0, 1, 2, 3, 8]``.

    Raises:
        NumbersError: the text is malformed, or has more images than can be shown.
    """
    parts = parse_parts(text)
    if not parts:
        raise NumbersError("Name at least one image, for example 0-7")
    return expanded(parts, most=MOST_IMAGES, what="images")
