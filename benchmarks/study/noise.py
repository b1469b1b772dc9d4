"""The study's control without masking: noise of equal energy, everything else as PMAE.

    python -m benchmarks.study.noise RUN_DIR     # RUN_DIR holds spec.json

The encoder sees every component of the image, and white Gaussian noise with as much energy as the
components of the drawn mask hold in that batch. The loss is PMAE's, over the same components.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pmae.basis.basis import Basis
from pmae.errors import PmaeError
from pmae.methods.base import MaskedImages, Method
from pmae.methods.pmae import PMAE
from pmae.runs.events import EventWriter
from pmae.runs.layout import RunDir
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, resolve
from pmae.training.process.signals import EXIT_STOPPED, StopRequested, StopSignal
from pmae.training.run import run


@dataclass(frozen=True)
class NoiseMethod(PMAE):
    """Predict the masked components from the whole image under noise of their energy."""

    def project(self, images: Tensor, masked: Tensor) -> MaskedImages:
        """The encoder sees the image plus noise.

        The noise is a function of the images alone, so of (seed, step), as a resumed run needs it.
        """
        batch = super().project(images, masked)
        energy = (images - batch.visible).square().mean()
        digest = zlib.crc32(images.cpu().contiguous().numpy().tobytes())
        generator = torch.Generator().manual_seed(digest)
        noise = torch.randn(images.shape, generator=generator).to(images.device)
        return replace(batch, visible=images + noise * energy.sqrt())


def noise_method(_spec: ExperimentSpec, basis: Basis | None) -> Method:
    """The control; ``basis`` on the model's device."""
    assert basis is not None, "the control needs a basis to draw components of"
    return NoiseMethod(basis)


def main() -> int:
    """Train the run of a folder; returns the exit status, as ``python -m pmae.train`` does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    run_dir = RunDir(parser.parse_args().run_dir.absolute())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stop = StopSignal()
    stop.install()
    spec = resolve(ExperimentSpec.model_validate_json(run_dir.spec.read_bytes()))
    leases = run_dir.leases()
    lease = run_dir.lease(leases[-1].number + 1 if leases else 1)
    lease.path.mkdir()
    events = EventWriter(lease.events)
    try:
        run(run_dir, lease, spec, StorageSettings(), events, stop, make_method=noise_method)
    except StopRequested:
        return EXIT_STOPPED
    except PmaeError as error:
        sys.stderr.write(f"study: {error}\n")
        return 1
    finally:
        events.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
