"""The basis of a checkpoint over HTTP."""

from __future__ import annotations

import hashlib
import json

import pytest

from pmae.basis.store import read_spectrum
from pmae.client import ApiError, PmaeClient
from pmae.schema.basis import CheckpointBasis
from tests.api.basis.test_components import DIGEST, write_basis
from tests.api.live import LiveApi, problem


def add_checkpoint(api: LiveApi, digest: str | None, step: int = 640) -> str:
    row = api.add_run()
    config = json.dumps({"basis_digest": digest}).encode()
    api.add_checkpoint(row, {"config.json": config, "model.safetensors": b"w"}, step=step)
    return f"{row.id}-{step:08d}"


def test_its_files_are_named_and_fetched_with_their_digests(api: LiveApi) -> None:
    write_basis(api.settings.bases_dir, kept=5)
    checkpoint = add_checkpoint(api, DIGEST)
    answer = api.client.get(f"/checkpoints/{checkpoint}/basis")
    assert answer.status_code == 200, answer.text
    basis = CheckpointBasis.model_validate_json(answer.content)
    facts = read_spectrum(api.settings.bases_dir, DIGEST)
    assert (basis.digest, basis.kind) == (DIGEST, "pca")
    assert (basis.channels, basis.resolution, basis.num_components) == (1, 4, 5)
    assert facts.num_components == 5
    assert set(basis.files) == {"basis.safetensors", "facts.json"}
    for name, told in basis.files.items():
        content = (api.settings.bases_dir / DIGEST / name).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        assert (told.sha256, told.size) == (sha256, len(content))
        url = f"/checkpoints/{checkpoint}/basis/files/{name}"
        whole = api.client.get(url)
        assert (whole.status_code, whole.content) == (200, content)
        assert whole.headers["etag"] == f'"{sha256}"'
        part = api.client.get(url, headers={"Range": "bytes=5-9", "If-Range": f'"{sha256}"'})
        assert (part.status_code, part.content) == (206, content[5:10])
        assert api.client.get(url, headers={"If-None-Match": f'"{sha256}"'}).status_code == 304
        head = api.client.head(url)
        assert (head.headers["content-length"], head.content) == (str(len(content)), b"")


def test_what_has_no_basis_or_no_such_file_says_so(api: LiveApi) -> None:
    write_basis(api.settings.bases_dir)
    by_patches = add_checkpoint(api, None)
    for path in ("basis", "basis/files/facts.json"):
        answer = api.client.get(f"/checkpoints/{by_patches}/{path}")
        assert problem(answer, 404).code == "no_basis"
    with PmaeClient(api.url) as client, pytest.raises(ApiError, match="masks patches"):
        client.basis(by_patches)
    checkpoint = add_checkpoint(api, DIGEST, step=20)
    unknown = api.client.get(f"/checkpoints/{checkpoint}/basis/files/model.safetensors")
    assert problem(unknown, 404).errors[0].pointer == "file_name"
    assert "basis.safetensors, facts.json" in unknown.json()["detail"]
    assert api.client.get(f"/checkpoints/{'0' * 12}-00000001/basis").status_code == 404


def test_a_basis_that_the_store_lost_is_told(api: LiveApi) -> None:
    checkpoint = add_checkpoint(api, DIGEST)
    for path in ("basis", "basis/files/facts.json"):
        answer = api.client.get(f"/checkpoints/{checkpoint}/{path}")
        assert problem(answer, 500).code == "artifact_damaged"
