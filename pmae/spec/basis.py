"""The basis whose components are masked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import SpecModel


class BasisSpec(SpecModel):
    """The orthonormal basis whose components are masked (PMAE only)."""

    kind: Literal["pca"] = Field(
        default="pca", description="pca: principal components of the standardised train set."
    )


def resolve_basis(basis: BasisSpec | None, method: str) -> BasisSpec | None:
    """PMAE's basis with every default written out; None for MAE.

    Raises:
        SpecError: MAE was given a basis.
    """
    if method == "pmae":
        return basis or BasisSpec()
    if basis is not None:
        raise SpecError("basis: MAE masks patches and has no basis; leave it out", field=("basis",))
    return None
