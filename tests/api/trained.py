"""Checkpoints that the real trainer made, for the API to serve."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pmae.runs.checkpoints import read_manifest
from pmae.runs.layout import RunDir
from pmae.spec import ExperimentSpec
from tests.api.live import LiveApi

TINY_MODEL = {
    "embed_dim": 32,
    "depth": 1,
    "num_heads": 2,
    "decoder_embed_dim": 32,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
}


def train(home: Path, spec: ExperimentSpec) -> Path:
    """Train a run in ``home``, whose ``data`` are the data sets; the run's folder."""
    run_dir = home / "artifacts" / "runs" / "trained"
    run_dir.mkdir(parents=True)
    RunDir(run_dir).spec.write_text(spec.model_dump_json())
    environment = {"PMAE_HOME": str(home), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "pmae.train", str(run_dir), "--lease", "1"]
    subprocess.run(command, env=environment, check=True, timeout=250)
    return run_dir


def adopt(api: LiveApi, trained: Path, spec: ExperimentSpec) -> str:
    """Copy a trained run, without its data set, to the service's home and database.

    Returns:
        The id of its checkpoint.
    """
    row = api.add_run(spec)
    target = api.run_dir(row.id)
    shutil.copytree(trained, target.path)
    shutil.copytree(trained.parents[1] / "bases", api.settings.bases_dir)
    (folder,) = target.lease(1).checkpoints.iterdir()
    manifest = read_manifest(folder)
    shutil.rmtree(folder)
    files = {
        name: (trained / "lease-0001" / "checkpoints" / folder.name / name).read_bytes()
        for name in manifest.files
    }
    api.add_checkpoint(row, files, step=manifest.step)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return f"{row.id}-{manifest.step:08d}"
