"""Spec of the basis whose components are masked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pmae.errors import SpecError
from pmae.spec.base import PositiveInt, SpecModel

BasisKind = Literal["pca", "pca_augmented", "dct", "random", "kernel"]
EXACT_PIXELS = 12_288
"""Maximal values of an image (64 x 64 x 3) for bases that need a square matrix in memory."""
TRUNCATED_COMPONENTS = 1024
RANDOMIZED_IMAGES = 10_000


class BasisSpec(SpecModel):
    """The orthonormal basis whose components are masked (PMAE only): docs/bases.md."""

    kind: BasisKind = Field(
        default="pca",
        description="pca: principal components of the standardised train set. pca_augmented: of "
        "augmented train images. dct: cosine transform of each channel. random: a random rotation. "
        "kernel: eigenvectors of the centred RBF kernel between pixels.",
    )
    num_components: int | None = Field(
        default=None,
        ge=2,
        le=EXACT_PIXELS,
        description="Keep only this many components, those of largest variance; what they do not "
        f"span is never masked. Default: all, or {TRUNCATED_COMPONENTS} where the solver is "
        f"randomized or an image has more than {EXACT_PIXELS} values.",
    )
    solver: Literal["exact", "randomized"] | None = Field(
        default=None,
        description="pca and pca_augmented. exact: eigenvectors of the covariance, up to "
        f"{EXACT_PIXELS} values an image (the default there). randomized: the first components by "
        "a randomised method.",
    )
    fit_images: int | None = Field(
        default=None,
        ge=2,
        description="Fit on at most this many training images, a seeded choice. Default: all, or "
        f"{RANDOMIZED_IMAGES} where the solver is randomized.",
    )
    passes: PositiveInt | None = Field(
        default=None,
        le=1000,
        description="pca_augmented: augmented copies of each image to fit on; default: 1.",
    )
    bandwidth: Annotated[float, Field(gt=0)] | Literal["median"] | None = Field(
        default=None,
        description="kernel: the sigma of exp(-d^2 / (2 sigma^2)), d^2 the mean squared difference "
        "of two standardised pixels; median (default): the median of d over pairs of pixels.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Of the choice of images, the augmentation, the rotation and the randomised "
        "method. Default: 0 for runs of any seed, so that they share a basis.",
    )


def resolve_basis(
    basis: BasisSpec | None, default: BasisSpec, *, resolution: int, channels: int | None
) -> BasisSpec:
    """Fill in the defaults of a basis.

    Args:
        basis: as its author wrote it; None: left out.
        default: of the method, for the fields that ``basis`` leaves out.
        resolution: edge length of the images in pixels.
        channels: of the images; None: depends on the files, and the defaults are those of 3.

    Raises:
        SpecError: fields that contradict each other.
    """
    max_pixels = (channels or 3) * resolution**2
    given = {} if basis is None else basis.model_dump(exclude_unset=True)
    resolved = _with_defaults(default.model_copy(update=given), max_pixels)
    check_basis(resolved, (channels or 1) * resolution**2, max_pixels)
    return resolved


def check_basis(basis: BasisSpec, min_pixels: int, max_pixels: int) -> None:
    """Check a resolved basis against the number of values of an image.

    Args:
        basis: resolved.
        min_pixels: minimal number of values.
        max_pixels: maximal number of values; the same where it is known.

    Raises:
        SpecError: the basis cannot be fitted; names the field.
    """
    if min_pixels > EXACT_PIXELS:
        if basis.kind == "kernel":
            raise _error("kind", f"a kernel basis takes {_LIMIT}, these have {min_pixels}")
        if basis.solver == "exact":
            message = f"exact takes {_LIMIT}, these have {min_pixels}; expected randomized"
            raise _error("solver", message)
    kept = basis.num_components
    if kept is None:
        return
    if kept > max_pixels:
        raise _error("num_components", f"{kept} is more than the {max_pixels} values of an image")
    if basis.solver == "randomized" and basis.fit_images is not None:
        fitted = basis.fit_images * (basis.passes or 1)
        if kept >= fitted:
            message = f"{fitted} images span fewer than {kept} components (basis.num_components)"
            raise _error("fit_images", message)


_LIMIT = f"images of at most {EXACT_PIXELS} values"


def _with_defaults(basis: BasisSpec, num_pixels: int) -> BasisSpec:
    """Fill in the fields that apply to the kind, and refuse those that do not."""
    large = num_pixels > EXACT_PIXELS
    updates: dict[str, Any] = {}
    if basis.kind in ("pca", "pca_augmented"):
        updates["solver"] = basis.solver or ("randomized" if large else "exact")
    elif basis.solver is not None:
        raise _inapplicable(basis, "solver", "pca and pca_augmented")
    randomized = updates.get("solver") == "randomized"
    if basis.num_components is None and (randomized or (large and basis.kind in ("dct", "random"))):
        updates["num_components"] = min(TRUNCATED_COMPONENTS, num_pixels)
    if randomized and basis.fit_images is None:
        updates["fit_images"] = RANDOMIZED_IMAGES
    if basis.kind == "pca_augmented":
        updates["passes"] = basis.passes or 1
    elif basis.passes is not None:
        raise _inapplicable(basis, "passes", "pca_augmented")
    if basis.kind == "kernel":
        updates["bandwidth"] = basis.bandwidth or "median"
    elif basis.bandwidth is not None:
        raise _inapplicable(basis, "bandwidth", "kernel")
    chosen = basis.fit_images is not None or randomized
    if chosen or basis.kind in ("random", "pca_augmented"):
        updates["seed"] = basis.seed or 0
    elif basis.seed is not None:
        message = f"nothing is drawn for an exact {basis.kind} of all images; leave it out"
        raise _error("seed", message)
    return basis.model_copy(update=updates)


def _inapplicable(basis: BasisSpec, name: str, kinds: str) -> SpecError:
    return _error(name, f"it belongs to {kinds}, not to {basis.kind}; leave it out")


def _error(name: str, message: str) -> SpecError:
    return SpecError(f"basis.{name}: {message}", field=("basis", name))
