"""Checkpoints of a service on another machine: ``download --all``, ``pmae.load(address)``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import torch

import pmae as library
from api.auth.service import create_key
from pmae.basis.basis import Basis
from pmae.basis.store import BasisStore
from pmae.client import ApiError, DownloadError, PmaeClient, ServiceUnreachableError
from pmae.errors import CheckpointError
from pmae.inference.model import LoadedModel
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.runs.checkpoints import CheckpointConfig, TrainingState, write_checkpoint
from pmae.runs.layout import LeaseDir
from pmae.schema.access import ApiKeyRequest
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, resolve
from tests.api.live import LiveApi, live_api
from tests.api.trained import TINY_MODEL
from tests.pmae.cli.conftest import Command
from tests.support.relay import relay_to

PIXELS = 64


def add_trained(api: LiveApi, method: str = "pmae", step: int = 640) -> str:
    """A checkpoint that can be loaded, with its basis in the service's store; its id."""
    fields = {"method": method, "dataset": {"name": "digits"}, "model": TINY_MODEL, "seed": step}
    spec = resolve(ExperimentSpec.model_validate(fields))
    row, digest = api.add_run(spec), None
    if method == "pmae":
        components, _ = torch.linalg.qr(torch.randn(PIXELS, PIXELS))
        basis = Basis(components, torch.full((PIXELS,), 1 / PIXELS, dtype=torch.float64))
        store = BasisStore(api.settings.bases_dir)
        digest = store.save(basis, kind="random", channels=1, resolution=8)
    model = MaskedAutoencoder.of(spec, 1).state_dict()
    weights = {f"model.{name}": tensor for name, tensor in model.items()}
    weights |= {"pixel_mean": torch.zeros(1, 8, 8), "pixel_std": torch.ones(1, 8, 8)}
    lease = LeaseDir(api.settings.home / "made", 1)
    manifest = write_checkpoint(
        lease,
        kind="kept",
        step=step,
        epoch=1.0,
        state=TrainingState(weights, {"state": torch.zeros(50_000)}, {}),
        config=CheckpointConfig(
            spec=spec,
            channels=1,
            class_names=tuple("0123456789"),
            data_digest="0" * 64,
            basis_digest=digest,
        ),
        events=b"",
        metrics={},
    )
    made = lease.checkpoints / manifest.name
    files = {name: (made / name).read_bytes() for name in manifest.files}
    stored = api.add_checkpoint(row, files, step=step)
    shutil.copy(made / "manifest.json", stored)
    shutil.rmtree(lease.path)
    return f"{row.id}-{step:08d}"


def address(url: str, checkpoint: str) -> str:
    return f"{url}/api/v1/checkpoints/{checkpoint}"


@pytest.fixture
def here(tmp_path: Path) -> StorageSettings:
    """A machine that has nothing of the service's."""
    return StorageSettings(home=tmp_path / "elsewhere", cache=tmp_path / "cache")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PMAE_API_KEY", raising=False)


def at_the_service(api: LiveApi, checkpoint: str) -> LoadedModel:
    return library.load(checkpoint, api.settings)


def test_a_downloaded_folder_reconstructs_anywhere(
    api: LiveApi, pmae: Command, here: StorageSettings, images: torch.Tensor, tmp_path: Path
) -> None:
    checkpoint = add_trained(api)
    done = pmae("download", checkpoint, "copy", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    theirs = at_the_service(api, checkpoint)
    digest = theirs.config.basis_digest
    told = [line.removesuffix(": sha256 verified") for line in done.stdout.splitlines()]
    assert f"copy/bases/{digest}/basis.safetensors" in told
    assert told[-1] == "copy/manifest.json"
    folder = tmp_path / "here" / "copy"
    assert {str(path.relative_to(folder.parent)) for path in folder.rglob("*.*")} == set(told)
    ours = library.load(folder, here)
    assert torch.equal(ours.encode(images), theirs.encode(images))
    assert torch.equal(ours.reconstruct(images, seed=3)[1], theirs.reconstruct(images, seed=3)[1])

    links = [
        line.split("\t") for line in pmae("checkpoint", "link", checkpoint).stdout.splitlines()
    ]
    by_place = {name: url for name, _, url in links[1:]}
    place = f"bases/{digest}/basis.safetensors"
    assert httpx.get(by_place[place], trust_env=False).content == (folder / place).read_bytes()


def test_a_checkpoint_without_a_basis_is_whole_too(
    api: LiveApi, pmae: Command, here: StorageSettings, images: torch.Tensor, tmp_path: Path
) -> None:
    checkpoint = add_trained(api, "mae")
    assert pmae("download", checkpoint, "--all").returncode == 0
    folder = tmp_path / "here" / checkpoint
    assert not (folder / "bases").exists()
    ours, theirs = library.load(folder, here), at_the_service(api, checkpoint)
    by_address = library.load(address(api.url, checkpoint), here)
    for model in (ours, by_address):
        losses = model.reconstruct(images, seed=1)[1]
        assert torch.equal(losses, theirs.reconstruct(images, seed=1)[1])
    assert "bases" not in pmae("checkpoint", "link", checkpoint).stdout


def test_an_address_is_loaded_once_and_then_without_the_service(
    api: LiveApi, here: StorageSettings, images: torch.Tensor
) -> None:
    checkpoint = add_trained(api)
    theirs = at_the_service(api, checkpoint)
    port = httpx.URL(api.url).port
    assert port is not None
    with relay_to(port) as relay:
        url = address(relay.url, checkpoint)
        first = library.load(url, here)
    assert first.folder.is_relative_to(here.cache_dir)
    assert {path.name for path in first.folder.iterdir()} == {
        "config.json", "manifest.json", "model.safetensors",
    }  # fmt: skip
    again = library.load(url, here)
    for model in (first, again):
        assert torch.equal(model.encode(images), theirs.encode(images))
        losses = model.reconstruct(images, seed=3)[1]
        assert torch.equal(losses, theirs.reconstruct(images, seed=3)[1])
    with pytest.raises(ServiceUnreachableError):
        library.load(url[:-1] + "1", here)


def test_a_run_is_its_newest_kept_checkpoint(api: LiveApi, here: StorageSettings) -> None:
    checkpoint = add_trained(api)
    run = checkpoint.partition("-")[0]
    model = library.load(f"{api.url}/api/v1/runs/{run}", here)
    assert model.manifest.step == 640
    empty = api.add_run()
    with pytest.raises(CheckpointError, match="has no kept checkpoint yet"):
        library.load(f"{api.url}/api/v1/runs/{empty.id}", here)


def test_what_is_no_address_of_a_checkpoint_is_told(here: StorageSettings) -> None:
    for wrong in (
        "http://127.0.0.1:1/reconstructions?checkpoint=3f9c0a1b2c4d-00000640",
        "http://127.0.0.1:1/api/v1/checkpoints/..%2f..%2fetc",
        "http://127.0.0.1:1/api/v1/checkpoints/3f9c0a1b2c4d-00000640/files/config.json",
    ):
        with pytest.raises(CheckpointError, match=r"expected http://HOST:8000/api/v1/checkpoints"):
            library.load(wrong, here)
    assert not here.cache_dir.exists()


@pytest.mark.parametrize("share", [0.2, 0.7, 0.95])
def test_a_download_that_broke_off_is_gone_on_with(
    api: LiveApi, here: StorageSettings, images: torch.Tensor, share: float
) -> None:
    checkpoint = add_trained(api)
    port = httpx.URL(api.url).port
    assert port is not None
    with relay_to(port) as relay:
        library.load(address(relay.url, checkpoint), here)
        size = relay.passed
    shutil.rmtree(here.cache_dir)
    with relay_to(port, cut_after=int(share * size)) as relay:
        with pytest.raises((DownloadError, ServiceUnreachableError)):
            library.load(address(relay.url, checkpoint), here)
        relay.passed = 0
        model = library.load(address(relay.url, checkpoint), here)
        assert relay.passed < size - share * size / 2, "what was there came once"
    theirs = at_the_service(api, checkpoint)
    assert torch.equal(model.reconstruct(images)[1], theirs.reconstruct(images)[1])


def test_a_download_that_is_killed_is_gone_on_with(
    api: LiveApi, here: StorageSettings, images: torch.Tensor, tmp_path: Path
) -> None:
    checkpoint, folder = add_trained(api), tmp_path / "copy"
    script = f"""
import os, pathlib, signal
from pmae.client import PmaeClient

def told(name, there, total):
    if name == "basis.safetensors":
        os.kill(os.getpid(), signal.SIGKILL)

with PmaeClient({api.url!r}) as client:
    for _ in client.download_folder({checkpoint!r}, pathlib.Path({str(folder)!r}), progress=told):
        pass
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        library.load(folder, here)
    fetched: list[str] = []
    with PmaeClient(api.url) as client:
        progress = lambda name, _there, _total: fetched.append(name)  # noqa: E731
        assert len(list(client.download_folder(checkpoint, folder, progress=progress))) == 7
    assert "model.safetensors" not in fetched, "it was there, whole"
    assert not list((folder / "bases").glob(".*"))
    theirs = at_the_service(api, checkpoint)
    losses = library.load(folder, here).reconstruct(images)[1]
    assert torch.equal(losses, theirs.reconstruct(images)[1])


def test_several_that_load_at_once_download_once(api: LiveApi, here: StorageSettings) -> None:
    checkpoint = add_trained(api)
    port = httpx.URL(api.url).port
    assert port is not None
    with relay_to(port) as relay:
        library.load(address(relay.url, checkpoint), here)
        once = relay.passed
    shutil.rmtree(here.cache_dir)
    with relay_to(port) as relay, ThreadPoolExecutor(4) as pool:
        url = address(relay.url, checkpoint)
        models = list(pool.map(lambda _: library.load(url, here), range(4)))
        assert relay.passed < 1.5 * once
    assert {model.folder for model in models} == {models[0].folder}


def test_what_is_not_what_it_says_is_refused_and_not_kept(
    api: LiveApi, here: StorageSettings
) -> None:
    checkpoint = add_trained(api)
    theirs = at_the_service(api, checkpoint)
    weights = theirs.folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[::-1])
    with pytest.raises(DownloadError, match="SHA-256"):
        library.load(address(api.url, checkpoint), here)
    weights.write_bytes(content)
    basis = api.settings.bases_dir / str(theirs.config.basis_digest) / "basis.safetensors"
    whole = basis.read_bytes()
    basis.write_bytes(whole[:-1] + b"x")
    os.utime(basis, ns=(1, 1))
    with pytest.raises(DownloadError, match="does not have the digest"):
        library.load(address(api.url, checkpoint), here)
    kept = {path.name for path in here.cache_dir.rglob("*") if path.is_file()}
    assert kept == {"config.json", "model.safetensors", "lock"}, "no manifest: it is not whole"
    basis.write_bytes(whole)
    library.load(address(api.url, checkpoint), here)


def test_a_copy_that_was_damaged_is_fetched_again(
    api: LiveApi, here: StorageSettings, images: torch.Tensor
) -> None:
    checkpoint = add_trained(api)
    url = address(api.url, checkpoint)
    first = library.load(url, here)
    expected = first.reconstruct(images)[1]
    basis = here.cache_dir / "bases" / str(first.config.basis_digest) / "basis.safetensors"
    for file in (first.folder / "model.safetensors", basis):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        assert torch.equal(library.load(url, here).reconstruct(images)[1], expected)


@pytest.fixture
def locked(api: LiveApi) -> Iterator[LiveApi]:
    """The same service, but for those who have a key."""
    with live_api(api.settings.model_copy(update={"require_keys": True})) as served:
        yield served


def test_the_key_is_the_one_of_the_environment(
    api: LiveApi,
    locked: LiveApi,
    here: StorageSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    checkpoint = add_trained(api)
    url = address(locked.url, checkpoint)
    with pytest.raises(ApiError, match="requires a key") as refused:
        library.load(url, here)
    assert "PMAE_API_KEY" in "".join(refused.value.__notes__)
    assert not [path for path in here.cache_dir.rglob("*") if path.name == "config.json"]
    with api.sessions.begin() as session:
        key = create_key(session, ApiKeyRequest(name="r", role="viewer"), created_by=None).key
    file = tmp_path / "key"
    file.write_text(key)
    monkeypatch.setenv("PMAE_API_KEY_FILE", str(file))
    assert library.load(url, here).manifest.step == 640
    monkeypatch.delenv("PMAE_API_KEY_FILE")
    assert library.load(url, here).manifest.step == 640, "the copy needs no key"
