"""Initial weights from another run's checkpoint (``init_from``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pmae.errors import CheckpointError
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.runs.checkpoints import model_weights, read_manifest, read_weights
from pmae.runs.layout import MODEL_FILE
from pmae.runs.references import find_checkpoint
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec

_MOST_NAMED = 8


@dataclass(frozen=True)
class InitialWeights:
    """Model weights of another run's checkpoint.

    Attributes:
        source: folder of the checkpoint.
        digest: SHA-256 of its weights' file.
        weights: weights of encoder and decoder, on the CPU.
    """

    source: Path
    digest: str
    weights: dict[str, Tensor]

    def check(self, spec: ExperimentSpec, channels: int) -> None:
        """Check that the weights fit the run's model, before anything is computed.

        Raises:
            CheckpointError: the two models differ; the message names the weights.
        """
        with torch.device("meta"):
            model = MaskedAutoencoder.of(spec, channels)
        differences = _differences(self.weights, model.state_dict())
        if differences:
            more = len(differences) - _MOST_NAMED
            listed = "; ".join(differences[:_MOST_NAMED]) + (
                f"; and {more} more" if more > 0 else ""
            )
            raise CheckpointError(
                f"init_from: the model of {self.source} is another than this run's: {listed}"
            )

    def load_into(self, model: MaskedAutoencoder) -> None:
        """Load the weights, which :meth:`check` has accepted, into the model."""
        model.load_state_dict(self.weights)


def read_initial_weights(spec: ExperimentSpec, settings: StorageSettings) -> InitialWeights | None:
    """Read and verify the checkpoint of ``init_from``; None if the spec names none.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    if spec.init_from is None:
        return None
    try:
        folder = find_checkpoint(spec.init_from, settings.runs_dir)
        manifest = read_manifest(folder)
    except CheckpointError as error:
        raise CheckpointError(f"init_from: {error}") from error
    weights = model_weights(read_weights(folder))
    return InitialWeights(folder, manifest.files[MODEL_FILE].sha256, weights)


def _differences(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> list[str]:
    found = [
        f"{name} is {tuple(there[name].shape)} there and {tuple(value.shape)} here"
        for name, value in here.items()
        if name in there and there[name].shape != value.shape
    ]
    found += [f"{name} is only here" for name in here if name not in there]
    return found + [f"{name} is only there" for name in there if name not in here]
