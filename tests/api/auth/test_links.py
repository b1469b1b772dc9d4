"""Signed download links."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.auth.links import LinkSigner, make_signer
from api.settings import ApiSettings
from pmae.client import ApiError, PmaeClient
from tests.api.auth.conftest import LockedApi
from tests.api.basis.test_components import DIGEST, write_basis
from tests.api.live import live_api

WEIGHTS = bytes(range(256)) * 40
FILES = {"model.safetensors": WEIGHTS, "config.json": b"{}"}


@pytest.fixture
def checkpoint_id(locked: LockedApi) -> str:
    run = locked.live.add_run()
    locked.live.add_checkpoint(run, FILES)
    return f"{run.id}-00000640"


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False)


def test_without_a_body_there_is_a_link_to_each_file(locked: LockedApi, checkpoint_id: str) -> None:
    headers = locked.headers("reader")
    answer = locked.live.client.post(f"/checkpoints/{checkpoint_id}/links", headers=headers)
    assert answer.status_code == 200, answer.text
    assert [link["file_name"] for link in answer.json()["items"]] == sorted(FILES)


def test_a_link_fetches_its_file_whole_or_in_parts(locked: LockedApi, checkpoint_id: str) -> None:
    with locked.client("reader") as client:
        links = {link.file_name: link for link in client.download_links(checkpoint_id)}
        assert set(links) == set(FILES)
        (manifest,) = client.download_links(checkpoint_id, "manifest.json")
        with pytest.raises(ApiError, match=r"no file 'other\.bin'"):
            client.download_links(checkpoint_id, "other.bin")
    assert get(manifest.url).json()["name"] == "step-00000640"
    url = links["model.safetensors"].url
    whole = get(url)
    assert (whole.status_code, whole.content) == (200, WEIGHTS)
    assert httpx.head(url, trust_env=False).headers["content-length"] == str(len(WEIGHTS))
    etag = whole.headers["etag"]
    rest = get(url, Range="bytes=5000-", **{"If-Range": etag})
    assert (rest.status_code, rest.content) == (206, WEIGHTS[5000:])
    assert get(url, **{"If-None-Match": etag}).status_code == 304


def test_a_link_opens_nothing_else(locked: LockedApi, checkpoint_id: str) -> None:
    with locked.client("reader", "admin") as client:
        (link,) = client.download_links(checkpoint_id, "config.json")
    other = link.url.replace("config.json", "model.safetensors")
    query = link.url.partition("?")[2]
    changed = [
        other,
        link.url.replace("expires=1", "expires=2"),
        link.url[:-1] + ("0" if link.url[-1] != "0" else "1"),
        f"{locked.live.url}/api/v1/runs?{query}",
        f"{locked.live.url}/api/v1/checkpoints/{checkpoint_id}?{query}",
        f"{locked.live.url}/api/v1/checkpoints/{checkpoint_id}/files/config.json?signature=",
    ]
    for url in changed:
        response = get(url)
        assert (response.status_code, response.json()["code"]) == (403, "link_invalid"), url
        assert response.headers["content-type"] == "application/problem+json"
    posted = httpx.post(link.url, trust_env=False)
    assert (posted.status_code, posted.json()["code"]) == (401, "key_required")


def test_a_link_fetches_a_file_of_the_basis_and_no_other(locked: LockedApi) -> None:
    write_basis(locked.live.settings.bases_dir)
    run = locked.live.add_run()
    files = {"config.json": json.dumps({"basis_digest": DIGEST}).encode(), "facts.json": b"own"}
    locked.live.add_checkpoint(run, files)
    checkpoint_id = f"{run.id}-00000640"
    basis_url = f"{locked.live.url}/api/v1/checkpoints/{checkpoint_id}/basis/files/facts.json"
    assert get(basis_url).status_code == 401
    with locked.client("reader") as client:
        place = f"bases/{DIGEST}/facts.json"
        (link,) = client.download_links(checkpoint_id, place)
        (own,) = client.download_links(checkpoint_id, "facts.json")
        with pytest.raises(ApiError, match="expected one of bases/"):
            client.download_links(checkpoint_id, f"bases/{'0' * 64}/facts.json")
    assert link.file_name == place
    assert get(link.url).json()["kind"] == "pca"
    assert get(own.url).content == b"own"
    for swapped in (
        link.url.replace("/basis/files/", "/files/"),
        own.url.replace("/files/", "/basis/files/"),
    ):
        response = get(swapped)
        assert (response.status_code, response.json()["code"]) == (403, "link_invalid")


def test_links_end_with_their_time_and_with_their_key(
    locked: LockedApi, checkpoint_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = locked.key("reader")
    with PmaeClient(locked.live.url, api_key=key.key) as client:
        (link,) = client.download_links(checkpoint_id, "config.json")
    with locked.client("root", "admin") as root:
        root.revoke_key("reader")
    response = get(link.url)
    assert (response.status_code, response.json()["code"]) == (403, "link_invalid")
    assert "key" in response.json()["detail"]

    signer = make_signer(locked.live.settings)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    old = signer.sign(checkpoint_id, "config.json", key.id)
    monkeypatch.undo()
    response = get(locked.live.url + old.url)
    assert (response.status_code, response.json()["code"]) == (403, "link_expired")


def test_a_link_holds_at_another_process_of_the_service_and_after_a_restart(
    locked: LockedApi, checkpoint_id: str, locked_settings: ApiSettings
) -> None:
    with locked.client("reader") as client:
        (link,) = client.download_links(checkpoint_id, "config.json")
    address = httpx.URL(link.url)
    with live_api(locked_settings) as other:
        assert other.url != locked.live.url
        response = get(f"{other.url}{address.raw_path.decode()}")
        assert (response.status_code, response.content) == (200, b"{}")
    apart = {
        "home": locked_settings.home.with_name("elsewhere"),
        "artifact_root": locked_settings.artifact_dir,
        "database_url": locked_settings.sqlalchemy_url,
    }
    with live_api(locked_settings.model_copy(update=apart)) as other:
        response = get(f"{other.url}{address.raw_path.decode()}")
        assert (response.status_code, response.json()["code"]) == (403, "link_invalid")


def test_the_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    settings = ApiSettings(home=tmp_path / "home")
    link = make_signer(settings).sign("a" * 12 + "-00000001", "f", None)
    (file,) = (tmp_path / "home").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    make_signer(settings).check(*parts(link.url))
    with pytest.raises(Exception, match="signature is invalid"):
        make_signer(ApiSettings(home=tmp_path / "other")).check(*parts(link.url))


def test_processes_may_share_a_secret_by_a_setting(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"secret_key": "s" * 32}
    one = ApiSettings(home=tmp_path / "1", **shared)
    two = ApiSettings(home=tmp_path / "2", **shared)
    link = make_signer(one).sign("a" * 12 + "-00000001", "f", "k")
    assert make_signer(two).check(*parts(link.url)) == "k"
    assert not (tmp_path / "1").exists()
    assert "s" * 32 not in repr(one)


def test_names_with_signs_of_their_own_are_signed_as_they_are() -> None:
    signer = LinkSigner(b"x" * 32, 60)
    link = signer.sign("a" * 12 + "-00000001", 'a "b" & c?.bin', "k")
    assert signer.check(*parts(link.url)) == "k"


def parts(url: str) -> tuple[str, dict[str, str]]:
    """Path and query, as the server reads them."""
    address = httpx.URL(url)
    return address.path, dict(address.params)
