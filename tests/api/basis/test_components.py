"""The spectrum and the components of a basis, read without torch."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from pmae.schema import Spectrum
from pmae.spec import ExperimentSpec
from tests.api.live import DIGITS, LiveApi

DIGEST = "ab" * 32


def write_basis(bases_dir: Path, *, kind: str = "pca", kept: int = 16) -> np.ndarray:
    """An orthonormal basis of 4 x 4 grey images, in the store's layout."""
    folder = bases_dir / DIGEST
    folder.mkdir(parents=True)
    components, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))
    ratios = np.sort(np.random.default_rng(1).dirichlet(np.ones(16)))[::-1].copy()
    tensors: dict[str, np.ndarray] = {
        "components": components[:kept].astype(np.float32),
        "explained_variance_ratio": ratios[:kept],
    }
    save_file(tensors, folder / "basis.safetensors")
    facts = {"kind": kind, "channels": 1, "resolution": 4}
    (folder / "facts.json").write_text(json.dumps(facts))
    return ratios[:kept]


def test_spectrum_and_pictures(api: LiveApi) -> None:
    ratios = write_basis(api.settings.bases_dir)
    row = api.add_run(state="running", basis_digest=DIGEST)
    spectrum = Spectrum.model_validate_json(api.client.get(f"/runs/{row.id}/components").content)
    assert (spectrum.basis_digest, spectrum.num_components) == (DIGEST, 16)
    assert spectrum.explained_variance_ratio == pytest.approx(ratios.tolist())
    picture = api.client.get(f"/runs/{row.id}/components/0.png")
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (4, 4)


@pytest.mark.parametrize("kind", ["pca_augmented", "dct", "random", "kernel"])
def test_a_truncated_basis_of_any_kind(api: LiveApi, kind: str) -> None:
    ratios = write_basis(api.settings.bases_dir, kind=kind, kept=5)
    row = api.add_run(state="running", basis_digest=DIGEST)
    spectrum = Spectrum.model_validate_json(api.client.get(f"/runs/{row.id}/components").content)
    assert (spectrum.kind, spectrum.num_components) == (kind, 5)
    assert sum(spectrum.explained_variance_ratio) == pytest.approx(ratios.sum())
    assert ratios.sum() < 0.9
    assert api.client.get(f"/runs/{row.id}/components/4.png").status_code == 200
    assert "0 to 4" in api.client.get(f"/runs/{row.id}/components/5.png").json()["detail"]


def test_there_are_only_so_many(api: LiveApi) -> None:
    write_basis(api.settings.bases_dir)
    row = api.add_run(basis_digest=DIGEST)
    for index in ("16", "-1", "99999999999999999999"):
        response = api.client.get(f"/runs/{row.id}/components/{index}.png")
        assert response.status_code == 404
        assert "0 to 15" in response.json()["detail"]
        assert response.json()["errors"][0]["pointer"] == "index"


def test_a_basis_that_is_not_there(api: LiveApi) -> None:
    waiting = api.add_run()
    answer = api.client.get(f"/runs/{waiting.id}/components")
    assert (answer.status_code, answer.json()["code"]) == (404, "basis_not_ready")
    mae = api.add_run(ExperimentSpec.model_validate(DIGITS | {"method": "mae"}))
    answer = api.client.get(f"/runs/{mae.id}/components/0.png")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_basis")
    lost = api.add_run(basis_digest="cd" * 32)
    answer = api.client.get(f"/runs/{lost.id}/components")
    assert (answer.status_code, answer.json()["code"]) == (500, "artifact_damaged")
