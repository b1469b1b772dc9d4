"""Check a mask ratio against the variance that a basis explains."""

from __future__ import annotations

import math

from pmae.basis.basis import Basis
from pmae.errors import SpecError
from pmae.spec import MaskingSpec


def check_reach(masking: MaskingSpec, basis: Basis) -> None:
    """Refuse to mask more of the total variance than a truncated basis explains.

    Args:
        masking: resolved.
        basis: of the run.

    Raises:
        SpecError: the ratio, or the upper end of its range, is too large.
    """
    if masking.ratio_of == "components":
        return
    ratio, spanned = masking.ratio_range[1], basis.spanned_variance
    if ratio <= spanned or basis.num_components == basis.num_pixels:
        return
    reachable = math.floor(spanned * 1000) / 1000
    raise SpecError(
        f"masking.ratio: {ratio:g} of the variance cannot be masked, the {basis.num_components} "
        f"components of the basis explain {spanned:.3g} of it; expected at most {reachable:g}, or "
        "a larger basis.num_components",
        field=("masking", "ratio"),
    )
