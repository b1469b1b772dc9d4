"""Whether a basis holds as much variance as is to be masked."""

from __future__ import annotations

import math

from pmae.basis.basis import Basis
from pmae.errors import SpecError
from pmae.spec import MaskingSpec


def check_reach(masking: MaskingSpec, basis: Basis) -> None:
    """Refuse to mask more of the total variance than a truncated basis spans.

    Args:
        masking: resolved.
        basis: that the components come from.

    Raises:
        SpecError: the ratio, or the upper end of its range, cannot be reached.
    """
    if masking.ratio_of == "components":
        return  # of those that there are
    ratio, spanned = masking.ratio_range[1], basis.spanned_variance
    if ratio <= spanned or basis.num_components == basis.num_pixels:
        return
    reachable = math.floor(spanned * 1000) / 1000
    raise SpecError(
        f"masking.ratio: {ratio:g} of the variance cannot be masked, the {basis.num_components} "
        f"components of the basis hold {spanned:.3g} of it; valid is up to {reachable:g}, or more "
        "with a larger basis.num_components",
        field=("masking", "ratio"),
    )
