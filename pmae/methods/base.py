"""The steps of a method: draw a mask, project the images, predict, and score the prediction.

Training, validation and reconstructions call these and need not know which method they serve. With
``P`` the projection on what is masked, ``masked_projection`` is ``P x``. What is visible and what
is to be predicted are computed in IEEE fp32, whatever the model computes in.

A mask may lie on the CPU, where it was drawn, or beside the images. From the CPU no step waits for
the device: what is masked, and how much, is then known before the device is asked for anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pmae.errors import MethodError
from pmae.spec.methods import MethodRules, get_method

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pmae.basis.bands import Bands
    from pmae.basis.basis import Basis
    from pmae.basis.projection import Projection
    from pmae.masking import Selection
    from pmae.models.autoencoder import MaskedAutoencoder
    from pmae.spec import ExperimentSpec, MaskingSpec


@dataclass(frozen=True)
class MaskSample:
    """A drawn mask.

    Attributes:
        masked: bool, True = masked: ``(num_total,)`` for the whole batch or ``(batch, num_total)``.
        ratio: the ratio asked for, averaged over the images; None where none is.
        masked_share: the share really masked, of variance or of patches.
    """

    masked: Tensor
    ratio: float | None
    masked_share: float


@dataclass(frozen=True)
class MaskedImages:
    """Images of which something is masked.

    Attributes:
        images: ``(batch, channels, height, width)`` fp32, standardised.
        masked: bool, True = masked: ``(num_total,)`` or ``(batch, num_total)``, wherever it lay.
        visible: the shape of ``images``. Components: ``x - P x``. Patches: the images, of which
            the encoder sees the visible patches.
        target: what is to be predicted. Components: the masked coordinates ``(batch, k)``. Patches:
            of each patch, ``(batch, num_patches, patch_dim)``.
        projection: components: ``P``.
        moments: patches: mean and standard deviation, each ``(batch, num_patches, 1)``, by which
            the target is normalised; None: it is not.
    """

    images: Tensor
    masked: Tensor
    visible: Tensor
    target: Tensor
    projection: Projection | None = None
    moments: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Score:
    """Loss of a prediction, and the sums that its explained variance is made of.

    Attributes:
        loss: a scalar.
        residual: float64 ``(bands,)``, without a gradient: the sum over images and masked
            components or pixels of the squares of prediction minus target.
        target: the same of the squares of the target.
    """

    loss: Tensor
    residual: Tensor
    target: Tensor


class Method(MethodRules, ABC):
    """A masked prediction task, and how it describes itself.

    Its four steps are the paper's: :meth:`draw`, :meth:`project`, :meth:`predict`, :meth:`score`.
    The others report on them. :class:`~pmae.methods.components.ComponentMethod` and
    :class:`~pmae.methods.patches.PatchMethod` have the others for what masks components or patches.
    """

    @classmethod
    @abstractmethod
    def of(cls, spec: ExperimentSpec, basis: Basis | None) -> Self:
        """Make the method of a resolved spec; arguments as of :func:`method_for`."""

    @abstractmethod
    def draw(
        self,
        batch: int,
        masking: MaskingSpec,
        generator: torch.Generator,
        object_masks: Tensor | None = None,
    ) -> MaskSample:
        """Draw a mask for a batch, on the CPU.

        Args:
            batch: number of images.
            masking: resolved.
            generator: on the CPU.
            object_masks: ``(batch, height, width)`` uint8, on the CPU; for segmentation only.
        """

    @abstractmethod
    def project(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """Split images into what the encoder sees and what is to be predicted."""

    @abstractmethod
    def predict(self, model: MaskedAutoencoder, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Predict from what is visible: the decoded images and the CLS tokens."""

    @abstractmethod
    def score(self, prediction: Tensor, batch: MaskedImages) -> Score:
        """Compute the loss of decoded images, and how much of what was masked they explain."""

    @property
    @abstractmethod
    def num_total(self) -> int:
        """Number of components or patches that there are to mask."""

    @property
    @abstractmethod
    def bands(self) -> Bands:
        """Bands by which the explained variance is reported."""

    @abstractmethod
    def select(self, selection: Selection, batch: int) -> MaskSample:
        """Mask exactly the listed parts, in every image.

        Raises:
            SpecError: a selection of what is not there, of nothing or of everything.
        """

    @abstractmethod
    def masked_projection(self, images: Tensor, masked: Tensor) -> Tensor:
        """Keep only what is masked, ``P x``: the shape of ``images``."""

    @abstractmethod
    def standardized(self, prediction: Tensor, batch: MaskedImages) -> Tensor:
        """Bring decoded images back to standardised pixels, where the target is normalised."""

    @abstractmethod
    def mean_squares(self, prediction: Tensor, batch: MaskedImages) -> tuple[Tensor, Tensor]:
        """Measure each component or patch, what is not masked too.

        Returns:
            The mean squares of prediction minus target, and of the target, each
            ``(batch, num_total)``.
        """


def method_for(spec: ExperimentSpec, basis: Basis | None) -> Method:
    """Make the method of a resolved spec.

    Args:
        spec: resolved.
        basis: on the model's device; None where the method has none.

    Raises:
        MethodError: what is registered under the spec's method has no steps.
    """
    found = get_method(spec.method)
    if not issubclass(found, Method):
        raise MethodError(f"the method {spec.method} is no subclass of pmae.methods.base.Method")
    return found.of(spec, basis)
