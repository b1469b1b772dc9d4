"""scikit-learn's bundled handwritten digits: 1,797 grey images of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits as load_sklearn_digits

from pmae.data.images import ImageData, MemorySplit
from pmae.data.splits import carve, hold_out

_MAX_INTENSITY = 16
_TEST_FRACTION = 0.2
_VAL_FRACTION = 0.125


def load_digits(*, val: bool = True) -> ImageData:
    """Load the digits: 70 % train, 10 % validation and 20 % test images of each class."""
    bunch = load_sklearn_digits()
    pixels = np.rint(bunch.images * (255 / _MAX_INTENSITY)).astype(np.uint8)
    everything = MemorySplit(
        torch.from_numpy(pixels)[:, None], torch.from_numpy(bunch.target.astype(np.int64))
    )
    rest, test = carve(everything, _TEST_FRACTION, index=0)
    train, held_out = hold_out(rest, _VAL_FRACTION, index=1, wanted=val)
    return ImageData("digits", train, held_out, test, tuple(str(digit) for digit in range(10)))
