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

    from pmae.inference.model import LoadedModel
    from pmae.settings import StorageSettings

__version__ = "0.1.0"
"""The one place of the version; tests/test_version.py lists what repeats it."""


def load(
    path_or_run: str | Path,
    settings: StorageSettings | None = None,
    *,
    device: torch.device | str | None = None,
) -> LoadedModel:
    """Load a trained model to use it on images.

    ::

        model = pmae.load("runs/mine")              # a run: its newest valid checkpoint
        model = pmae.load("http://lab:8000/api/v1/checkpoints/ID")
        images = model.read_images(["cat.jpg"])     # or uint8 tensors of your own
        features = model.encode(images)             # (n, embed_dim): the CLS tokens
        features = model.encode(images, features="mean", layer=9, device="cuda")
        parts, losses = model.reconstruct(images)   # what it makes of what it cannot see

    Args:
        path_or_run: the path of a run or of a checkpoint (a downloaded one too); a run of the
            service on this machine: ``<run id>`` or ``<run id>/<checkpoint name>``; or the address
            of a checkpoint at any service, or of a run there for its newest kept one. It is
            downloaded into ``settings.cache_dir`` with its basis, and verified; a copy that is
            there is used without the service. The key is ``PMAE_API_KEY``, or in the file
            ``PMAE_API_KEY_FILE``.
        settings: where runs, bases and downloads lie; default: as the environment says.
        device: to compute on; default: the CPU.

    Raises:
        CheckpointError: there is none, or it is broken.
        ClientError: the service does not answer, refuses, or sends something else.
    """
    from pmae.inference.model import load_model

    return load_model(path_or_run, settings, device)
