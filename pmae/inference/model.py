"""A trained model for use outside of its run: encode and reconstruct any images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.basis.reach import check_reach
from pmae.basis.store import BasisStore
from pmae.data.transforms.standardize import PixelStatistics, check_pixels
from pmae.data.untrusted import ImageSource, read_untrusted_image
from pmae.errors import BasisError, ImageError, SpecError
from pmae.evaluate.features import FeatureKind, encode_blocks
from pmae.inference.reconstruct import Parts, ReconstructionResult, panels, reconstruct
from pmae.masking import Selection
from pmae.methods.base import MaskSample, Method, method_for
from pmae.methods.residuals import MeanSquares
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.runs.checkpoints import (
    CheckpointConfig,
    Manifest,
    model_weights,
    read_config,
    read_manifest,
    read_weights,
)
from pmae.runs.layout import BASES_FOLDER, CONFIG_FILE, MODEL_FILE
from pmae.runs.references import find_checkpoint, is_address
from pmae.seeding import generator
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, MaskingSpec, resolve
from pmae.spec.catalog import dataset_facts
from pmae.spec.parts.masking import masking_like

_BATCH = 256


class MaskOptions(TypedDict, total=False):
    """Options of a mask: drawn at random, or given.

    Attributes:
        masking: to draw by; default: the run's.
        seed: of a drawn mask; default: 0.
        components: PMAE: mask exactly these.
        patches: MAE: mask exactly these.
    """

    masking: MaskingSpec | None
    seed: int
    components: Selection | None
    patches: Selection | None


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with its preprocessing and basis, for any images.

    Attributes:
        folder: of the checkpoint.
        manifest: its name, step and files.
        config: the run's spec, and properties of its data set.
        model: in eval mode.
        statistics: per-pixel mean and standard deviation of the training images; on the CPU.
    """

    folder: Path
    manifest: Manifest
    config: CheckpointConfig
    model: MaskedAutoencoder
    statistics: PixelStatistics
    settings: StorageSettings

    @property
    def spec(self) -> ExperimentSpec:
        """The run's resolved spec."""
        return self.config.spec

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the data set it was trained on."""
        return self.config.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)`` of its input images."""
        return self.config.channels, self.spec.resolution, self.spec.resolution

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.encoder.cls_token.device

    def to(self, device: torch.device | str) -> Self:
        """Move the model and return itself; inputs may be on any device, results are on the CPU."""
        if self.device != torch.device(device):
            self.model.to(device)
            self.__dict__.pop("method", None)  # its basis is where the model was
        return self

    @cached_property
    def basis(self) -> Basis | None:
        """The run's basis, on the CPU, loaded at first use; None for MAE.

        Raises:
            BasisError: it is neither in a folder ``bases`` in or above the checkpoint's, nor in the
                store.
        """
        digest = self.config.basis_digest
        if digest is None:
            return None
        above = [self.folder, *self.folder.absolute().parents]
        stores = [*(folder / BASES_FOLDER for folder in above), self.settings.bases_dir]
        for store in stores:
            if (store / digest).is_dir():
                return BasisStore(store).load(digest)
        raise BasisError(
            f"the basis {digest} of {self.folder} is neither in a folder {BASES_FOLDER} there or "
            f"above it, nor in {self.settings.bases_dir}; download it with `pmae download "
            f"CHECKPOINT --all`, or copy the folder {digest} of the service's bases (encoding "
            "images needs no basis)"
        )

    @cached_property
    def method(self) -> Method:
        """The run's method, on the model's device.

        Raises:
            BasisError: see :attr:`basis`.
        """
        basis = self.basis
        return method_for(self.spec, None if basis is None else basis.to(self.device))

    def preprocess(self, images: Tensor | np.ndarray) -> Tensor:
        """Standardise images as in training.

        Args:
            images: ``(n, channels, height, width)``, uint8, or floats in [0, 1].

        Returns:
            The same shape, float32, on the images' device.

        Raises:
            ValueError: another shape, type or range.
        """
        pixels = check_pixels(images, self.image_shape)
        if pixels.dtype == torch.uint8:
            pixels = pixels / 255
        return self.statistics.to(pixels.device).standardize(pixels.float())

    @torch.no_grad()
    def encode(
        self,
        images: Tensor | np.ndarray,
        *,
        features: FeatureKind = "cls",
        layer: int | None = None,
        device: torch.device | str | None = None,
        batch_size: int = _BATCH,
    ) -> Tensor:
        """Compute the features of images from all of their patches.

        Args:
            images: as in :meth:`preprocess`.
            features: ``cls``: the CLS token; ``mean``: the mean of the patch tokens; ``tokens``:
                all of them, the CLS token first.
            layer: block after which to take them, from 1 to the model's depth, as in an
                evaluation's ``layer``; default: the last. The encoder's last norm is applied.
            device: to move the model to; default: its present device.
            batch_size: images that the encoder processes at once.

        Returns:
            ``(n, embed_dim)``, or ``(n, 1 + num_patches, embed_dim)`` for ``tokens``; float32 on
            the CPU.

        Raises:
            ValueError: images of another shape, type or range, or an unknown layer or kind of
                features.
        """
        encoder = self.to(device or self.device).model.encoder
        depth = len(encoder.blocks)
        layer = depth if layer is None else layer
        if not 1 <= layer <= depth:
            raise ValueError(f"layer {layer}: expected 1 to {depth}, the last")
        if features not in ("cls", "mean", "tokens"):
            raise ValueError(f"features {features!r}; expected cls, mean or tokens")
        batches = check_pixels(images, self.image_shape).split(batch_size)
        encoded = (
            encode_blocks(encoder, self.preprocess(batch.to(self.device)), features, [layer - 1])
            for batch in batches
        )
        return torch.cat([found.cpu() for (found,) in encoded])

    def read_image(self, source: ImageSource) -> Tensor:
        """Decode an image like those of the run's data set.

        Args:
            source: the path of an image file, its bytes, or a PIL image.

        Returns:
            :attr:`image_shape`, uint8: made square by cropping, or squashed as the data set's
            images are, resized with an antialiased bicubic filter, in grey or RGB.

        Raises:
            ImageError: it cannot be used; says why, and what would be valid.
        """
        channels, resolution, _ = self.image_shape
        fit = dataset_facts(self.spec.dataset.name).fit
        pixels = read_untrusted_image(source, resolution=resolution, channels=channels, fit=fit)
        return torch.from_numpy(np.array(pixels))

    def read_images(self, sources: Sequence[ImageSource]) -> Tensor:
        """:meth:`read_image` of each source, for :meth:`encode` and :meth:`reconstruct`.

        Returns:
            ``(n, channels, height, width)`` uint8.

        Raises:
            ImageError: one of them cannot be used; names its path or position.
        """
        images = torch.empty(len(sources), *self.image_shape, dtype=torch.uint8)
        for place, source in enumerate(sources):
            try:
                images[place] = self.read_image(source)
            except ImageError as error:
                name = source if isinstance(source, (str, Path)) else f"image {place}"
                raise ImageError(f"{name}: {error}") from error
        return images

    def reconstruct(
        self, images: Tensor | np.ndarray, **mask: Unpack[MaskOptions]
    ) -> tuple[Parts, Tensor]:
        """Mask images and predict the masked part.

        Args:
            images: as in :meth:`preprocess`.
            mask: ``masking`` (default: the run's) and its ``seed``; or exactly the ``components``
                or ``patches`` to mask.

        Returns:
            The parts in standardised pixels with their masks, and each image's mean squared error
            over the masked part, ``(n,)``: its loss, before any scaling by the run's ``loss``. All
            on the CPU; ``statistics.destandardize`` maps ``original``, ``visible`` and ``full``
            back to pixels.

        Raises:
            BasisError: see :attr:`basis`.
            SpecError: a masking that does not suit the method or the images, or an unknown
                component or patch.
        """
        parts, squares = self._predict(images, self._draw(len(images), None, **mask))
        return parts, squares.per_image

    def picture(
        self,
        images: Tensor | np.ndarray,
        *,
        object_masks: Tensor | None = None,
        **mask: Unpack[MaskOptions],
    ) -> ReconstructionResult:
        """:meth:`reconstruct`, with pictures and the mean squares of each component or patch.

        Args:
            images: as in :meth:`preprocess`.
            object_masks: ``(n, height, width)`` uint8, for segmentation.
            mask: as in :meth:`reconstruct`.

        Raises:
            BasisError: see :attr:`basis`.
            SpecError: as in :meth:`reconstruct`.
        """
        draw = self._draw(len(images), object_masks, **mask)
        parts, squares = self._predict(images, draw)
        return ReconstructionResult(
            panels=panels(parts, self.statistics),
            labels=None,
            masked_error=squares.per_image.tolist(),
            mean_squares=squares,
            ratio=draw.ratio,
            masked_share=draw.masked_share,
            num_masked=int(squares.masked[0].sum()),
            num_total=self.method.num_total,
            parts_name=self.method.parts_name,
        )

    def resolved_masking(self, masking: MaskingSpec | None) -> MaskingSpec:
        """Fill in the fields of ``masking`` that are not set; None: the run's masking.

        ``ratio_of``, ``count`` and ``predict`` are the run's unless ``masking`` sets them.

        Raises:
            SpecError: it does not suit the method, or the variance that the basis explains.
        """
        if masking is None:
            return self.spec.masking
        masking = masking_like(masking, self.spec.masking)
        masking = resolve(self.spec.model_copy(update={"masking": masking})).masking
        if self.basis is not None:
            check_reach(masking, self.basis)
        return masking

    def _predict(self, images: Tensor | np.ndarray, draw: MaskSample) -> tuple[Parts, MeanSquares]:
        pixels = self.preprocess(check_pixels(images, self.image_shape).to(self.device))
        masked = draw.masked.to(self.device)
        parts, squares = reconstruct(self.model, self.method, pixels, masked)
        return parts.cpu(), squares.cpu()

    def _draw(
        self, batch: int, object_masks: Tensor | None, **mask: Unpack[MaskOptions]
    ) -> MaskSample:
        """Draw or select the mask of each image of a batch."""
        given = {"components": mask.get("components"), "patches": mask.get("patches")}
        own = self.method.parts_name
        for name, selection in given.items():
            if selection is not None and name != own:
                raise SpecError(
                    f"{name}: a run of method {self.spec.method} masks {own}; give {own} instead",
                    field=(name,),
                )
        if (selection := given[own]) is not None:
            return self.method.select(selection, batch)
        masking = self.resolved_masking(mask.get("masking"))
        if masking.needs_object_masks and object_masks is None:
            raise SpecError(
                "masking.strategy: segmentation needs object masks, which only images of a data "
                "set have; expected random",
                field=("masking", "strategy"),
            )
        noise = generator(mask.get("seed", 0), "reconstruct")
        return self.method.draw(batch, masking, noise, object_masks)


def load_model(
    reference: str | Path, settings: StorageSettings | None, device: torch.device | str | None
) -> LoadedModel:
    """See :func:`pmae.load`."""
    settings = settings or StorageSettings()
    if is_address(reference):
        # Imported here: only addresses need it, and its lock does not exist on every platform.
        from pmae.client.cache import cached_checkpoint

        folder = cached_checkpoint(str(reference), settings.cache_dir)
    else:
        folder = find_checkpoint(reference, settings.runs_dir)
    return read_model(folder, settings).to(device or "cpu")


def read_model(folder: Path, settings: StorageSettings) -> LoadedModel:
    """Read the checkpoint in ``folder``; its basis is loaded at first use.

    Raises:
        CheckpointError: it is absent or damaged.
    """
    manifest = read_manifest(folder, only=(CONFIG_FILE, MODEL_FILE))
    config = read_config(folder)
    weights = read_weights(folder)
    model = MaskedAutoencoder.of(config.spec, config.channels)
    model.load_state_dict(model_weights(weights))
    statistics = PixelStatistics(weights["pixel_mean"], weights["pixel_std"])
    return LoadedModel(folder, manifest, config, model.eval(), statistics, settings)
