"""Decode uploaded images from base64 to pixels. Runs in the pool."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from api.http.errors import InvalidRequestError
from api.http.validation import pointer
from pmae.errors import ImageError
from pmae.schema import ProblemField, UploadedImages

if TYPE_CHECKING:
    from torch import Tensor

    from pmae.inference.model import LoadedModel


def decode_uploaded(images: UploadedImages, model: LoadedModel) -> Tensor:
    """Decode uploaded images and convert them to the form of the training images.

    Returns:
        ``(n, channels, height, width)`` uint8.

    Raises:
        InvalidRequestError: some of them are invalid; names each.
    """
    import torch

    decoded, faults = [], []
    for place, text in enumerate(images.uploaded):
        try:
            decoded.append(model.read_image(_file(text)))
        except ImageError as error:
            where = pointer(("images", "uploaded", place))
            faults.append(ProblemField(pointer=where, message=str(error)))
    if faults:
        listed = "; ".join(f"{fault.pointer}: {fault.message}" for fault in faults)
        raise InvalidRequestError(f"the request is invalid: {listed}", fields=faults)
    return torch.stack(decoded)


def _file(text: str) -> bytes:
    """Decode a file in base64, which may contain line breaks."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ImageError(
            f"it is not base64 ({error}); expected the base64 of an image file, without a "
            "prefix, with its padding"
        ) from error
