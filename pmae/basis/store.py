"""Fitted bases on disk, named by the digest of their content and shared by all runs.

::

    BASES_DIR/
      <digest>/basis.safetensors     components, explained_variance_ratio
      <digest>/facts.json            kind, channels, resolution
      fits/<key>.json                digest of the basis fitted for a key, and the key's fields

A checkpoint names its basis by digest, so that it cannot be applied to another one. Of two runs
that fit the same basis at once, both use the one that is registered first.

Reading a spectrum or a component does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pmae.basis.files import BASIS_FACTS, BASIS_WEIGHTS, content_digest
from pmae.errors import BasisError
from pmae.runs.events import dump_json
from pmae.runtime.files import publish_folder, write_new_file

if TYPE_CHECKING:
    from pmae.basis.basis import Basis


@dataclass(frozen=True, kw_only=True)
class FitKey:
    """The inputs that determine a basis: equal keys give equal bases.

    The fields from ``num_components`` on are those of :class:`pmae.spec.BasisSpec`, None where they
    do not matter (an exact ``solver``, ``augmentation`` of a kind that uses none).
    """

    kind: str
    data_digest: str
    resolution: int
    std_floor: float
    num_components: int | None = None
    solver: str | None = None
    fit_images: int | None = None
    passes: int | None = None
    bandwidth: float | str | None = None
    seed: int | None = None
    augmentation: Mapping[str, Any] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The fields that are set; so a new, unset field does not change existing digests."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def digest(self) -> str:
        """SHA-256 of the key."""
        return hashlib.sha256(dump_json(self.facts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class BasisFacts:
    """A stored basis without its components.

    Attributes:
        explained_variance_ratio: ``(num_components,)`` float64.
    """

    digest: str
    kind: str
    channels: int
    resolution: int
    explained_variance_ratio: np.ndarray

    @property
    def num_components(self) -> int:
        """Number of components."""
        return len(self.explained_variance_ratio)


class BasisStore:
    """The bases in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get_or_fit(self, key: FitKey, channels: int, fit: Callable[[], Basis]) -> tuple[str, Basis]:
        """Load the basis of ``key``, and fit and save it first if no run has yet.

        Returns:
            Digest and basis.
        """
        fits = self.folder / "fits"
        pointer = fits / f"{key.digest}.json"
        if not pointer.is_file():
            digest = self.save(fit(), kind=key.kind, channels=channels, resolution=key.resolution)
            fits.mkdir(parents=True, exist_ok=True)
            write_new_file(pointer, dump_json({"basis": digest, "key": key.facts}).encode())
        digest = str(json.loads(pointer.read_bytes())["basis"])
        return digest, self.load(digest)

    def save(self, basis: Basis, *, kind: str, channels: int, resolution: int) -> str:
        """Save a basis; a second time changes nothing.

        Returns:
            The digest of its content.
        """
        from safetensors.torch import save

        tensors = {
            "components": basis.components.contiguous(),
            "explained_variance_ratio": basis.explained_variance_ratio.contiguous(),
        }
        facts: dict[str, Any] = {"kind": kind, "channels": channels, "resolution": resolution}
        content = {BASIS_WEIGHTS: save(tensors), BASIS_FACTS: dump_json(facts).encode()}
        digest = content_digest({name: [data] for name, data in content.items()})
        publish_folder(self.folder / digest, content)
        return digest

    def load(self, digest: str) -> Basis:
        """Load a basis.

        Raises:
            BasisError: it is not in the store, or damaged.
        """
        from safetensors.torch import load_file

        from pmae.basis.basis import Basis

        path = self.folder / digest / BASIS_WEIGHTS
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise BasisError(f"basis {digest} cannot be read from {path}: {error}") from error
        return Basis(tensors["components"], tensors["explained_variance_ratio"])


def read_spectrum(bases_dir: Path, digest: str) -> BasisFacts:
    """Read a basis's explained variance ratios and facts.

    Raises:
        BasisError: it is not in the store, or damaged.
    """
    folder = bases_dir / digest
    try:
        facts = json.loads((folder / BASIS_FACTS).read_bytes())
        with safe_open(os.fspath(folder / BASIS_WEIGHTS), framework="numpy") as file:
            ratios = file.get_tensor("explained_variance_ratio")
    except (OSError, SafetensorError, ValueError) as error:
        raise BasisError(f"basis {digest} cannot be read: {error}") from error
    return BasisFacts(digest=digest, explained_variance_ratio=ratios, **facts)


def read_component(bases_dir: Path, digest: str, index: int) -> np.ndarray:
    """Read one component as an image ``(channels, height, width)`` float32.

    Raises:
        BasisError: the basis is not in the store or damaged, or has no component ``index``.
    """
    facts = read_spectrum(bases_dir, digest)
    if not 0 <= index < facts.num_components:
        raise BasisError(f"there is no component {index}; expected 0 to {facts.num_components - 1}")
    with safe_open(os.fspath(bases_dir / digest / BASIS_WEIGHTS), framework="numpy") as file:
        component: np.ndarray = file.get_slice("components")[index : index + 1]
    return component.reshape(facts.channels, facts.resolution, facts.resolution)
