"""PMAE: pretraining vision models by masking principal components instead of patches.

The science is Bizeul et al., "From Pixels to Components: Eigenvector Masking for Visual
Representation Learning" (arXiv 2502.06314); the baseline is He et al., "Masked Autoencoders Are
Scalable Vision Learners" (arXiv 2111.06377).

Importing this package imports no torch; the submodules that need it import it themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from pmae.loading import LoadedModel
    from pmae.settings import StorageSettings

__version__ = "0.1.0"


def load(
    path_or_run: str | Path,
    settings: StorageSettings | None = None,
    *,
    device: torch.device | str | None = None,
) -> LoadedModel:
    """Load a trained model to use it on images.

    ::

        model = pmae.load("runs/mine")              # a run: its newest valid checkpoint
        images = model.read_images(["cat.jpg"])     # or uint8 tensors of your own
        features = model.encode(images)             # (n, embed_dim): the CLS tokens
        features = model.encode(images, features="mean", layer=9, device="cuda")
        parts, losses = model.reconstruct(images)   # what it makes of what it cannot see

    Args:
        path_or_run: the path of a run or of a checkpoint (a downloaded one too), or a run of the
            service on this machine: ``<run id>`` or ``<run id>/<checkpoint name>``.
        settings: where runs and bases lie; default: as the environment says.
        device: to compute on; default: the CPU.

    Raises:
        CheckpointError: there is none, or it is broken.
    """
    from pmae.loading import load_model

    return load_model(path_or_run, settings, device)
