"""The basis of a run: its spectrum and its components as images. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from api.db.tables import RunRow
from api.http.errors import DamagedError, NotFoundError
from pmae.basis.store import read_component, read_spectrum
from pmae.errors import BasisError
from pmae.inference.pictures import component_png
from pmae.schema import ProblemField, Spectrum


def get_spectrum(run: RunRow, bases_dir: Path) -> Spectrum:
    """Return the variance along each component of a run's basis.

    Raises:
        NotFoundError: the run has no basis, or none yet.
        DamagedError: it is missing in the store.
    """
    digest = _basis_digest(run)
    try:
        facts = read_spectrum(bases_dir, digest)
    except BasisError as error:
        raise DamagedError(str(error)) from error
    return Spectrum(
        basis_digest=digest,
        kind=facts.kind,
        channels=facts.channels,
        resolution=facts.resolution,
        num_components=facts.num_components,
        explained_variance_ratio=facts.explained_variance_ratio.tolist(),
    )


def get_component_png(run: RunRow, bases_dir: Path, index: int) -> bytes:
    """Draw one component of a run's basis as a PNG.

    Raises:
        NotFoundError: the run has no basis (yet), or the basis has no component ``index``.
        DamagedError: it is missing in the store.
    """
    digest = _basis_digest(run)
    try:
        count = read_spectrum(bases_dir, digest).num_components
        if not 0 <= index < count:
            message = f"there is no component {index}; expected 0 to {count - 1}"
            raise NotFoundError(message, fields=[ProblemField(pointer="index", message=message)])
        return component_png(read_component(bases_dir, digest, index))
    except BasisError as error:
        raise DamagedError(str(error)) from error


def _basis_digest(run: RunRow) -> str:
    if run.basis_digest is not None:
        return run.basis_digest
    if run.kind == "evaluate":
        raise NotFoundError(
            f"the run evaluates a checkpoint; its parent {run.parent_id} may have a basis",
            code="no_basis",
        )
    if run.spec["basis"] is None:
        raise NotFoundError(
            f"the run masks patches ({run.method}) and has no basis", code="no_basis"
        )
    raise NotFoundError(
        f"the basis of the run is not fitted yet; the run is {run.state}", code="basis_not_ready"
    )
