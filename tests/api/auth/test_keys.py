"""Keys: how they are made, kept, listed and ended, over REST and by the command."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from api.auth.keys import mint, parse
from api.auth.service import note_use, verify_bearer
from api.db.migrate import upgrade
from api.db.session import make_engine, make_sessions
from api.db.settings import ServiceSettings
from api.db.tables import ApiKeyRow
from pmae.client import ApiError, PmaeClient
from pmae.schema.access import ApiKey
from tests.api.auth.conftest import LockedApi, bearer
from tests.support.commands import installed_metadata, run_pmae
from tests.support.waiting import wait_until


def test_a_key_is_read_as_it_was_written_and_only_its_digest_is_of_it() -> None:
    key = mint()
    assert parse(key.text) == key
    assert key.is_of(key.secret_sha256)
    assert not mint().is_of(key.secret_sha256)
    assert key.secret not in repr(key)
    for text in ("", key.text[:-1], key.text + "x", key.text.upper(), "pmae__", f" {key.text}"):
        assert parse(text) is None


def test_an_admin_makes_lists_and_ends_keys(locked: LockedApi) -> None:
    with locked.client("root", "admin") as root:
        made = root.create_key("ada", "submitter", expires_days=2)
        assert (made.created_by, made.last_used_at) == ("root", None)
        assert made.expires_at is not None
        assert (made.expires_at - made.created_at).total_seconds() == pytest.approx(
            2 * 86_400, abs=5
        )
        with PmaeClient(locked.live.url, api_key=made.key) as ada:
            assert ada.identity().model_dump() == {"name": "ada", "role": "submitter"}

            def listed() -> dict[str, ApiKey]:
                return {key.name: key for key in root.api_keys()}

            assert list(listed()) == ["ada", "root"]
            wait_until(lambda: listed()["ada"].last_used_at is not None, "the note of its use")
            root.revoke_key("ada")
            root.revoke_key("ada")
            with pytest.raises(ApiError, match="revoked") as refused:
                ada.identity()
        assert refused.value.problem.code == "key_revoked"
        assert made.key not in str(refused.value)
        with pytest.raises(ApiError) as unknown:
            root.revoke_key("nobody")
        assert unknown.value.problem.code == "key_not_found"


def test_a_name_is_given_again_when_its_key_has_ended(locked: LockedApi) -> None:
    with locked.client("root", "admin") as root:
        first = root.create_key("ada", "submitter")
        with pytest.raises(ApiError) as taken:
            root.create_key("ada", "viewer")
        assert (taken.value.problem.status, taken.value.problem.code) == (409, "key_exists")
        with PmaeClient(locked.live.url, api_key=first.key) as ada:
            run = ada.submit(preset="quickstart")
        root.revoke_key("ada")
        second = root.create_key("ada", "submitter")
        assert second.id != first.id
        with PmaeClient(locked.live.url, api_key=second.key) as ada:
            assert ada.cancel(run.id).state == "cancelled"
        assert [key.id for key in root.api_keys() if key.name == "ada"] == [second.id]


def test_names_are_checked(locked: LockedApi) -> None:
    headers = locked.headers("root", "admin")
    for body, pointer in (
        ({"name": "two words", "role": "viewer"}, "/name"),
        ({"name": "reconciler", "role": "viewer"}, "/name"),
        ({"name": "ada", "role": "owner"}, "/role"),
        ({"name": "ada", "role": "viewer", "expires_days": 0}, "/expires_days"),
        ({"name": "ada", "role": "viewer", "days": 1}, "/days"),
    ):
        response = locked.live.client.post("/keys", json=body, headers=headers)
        assert response.status_code == 422
        assert [field["pointer"] for field in response.json()["errors"]] == [pointer]


def test_the_secret_is_nowhere_in_the_database(locked: LockedApi) -> None:
    key = locked.key("ada")
    with locked.live.sessions() as session:
        (row,) = session.scalars(select(ApiKeyRow)).all()
        assert key.key.rpartition("_")[2] not in str(vars(row))
        assert len(row.secret_sha256) == 64


def test_when_a_key_was_used_is_noted_to_the_minute(locked: LockedApi) -> None:
    for name, before, noted in (("old", time.time() - 120, True), ("new", time.time() - 5, False)):
        key = locked.key(name, last_used_at=before)
        note_use(locked.live.sessions, key.id)
        with locked.live.sessions() as session:
            row = session.get_one(ApiKeyRow, key.id)
            assert (row.last_used_at != pytest.approx(before, abs=1e-3)) == noted


def test_other_ways_to_send_a_key_are_explained(locked: LockedApi) -> None:
    key = locked.key("ada").key
    response = locked.live.client.get("/runs", auth=("ada", key))
    assert response.json()["code"] == "key_invalid"
    assert "Bearer" in response.json()["detail"]
    assert locked.live.client.get("/runs", params={"key": key}).status_code == 401
    lower = {"authorization": f"bearer {key}"}
    assert locked.live.client.get("/runs", headers=lower).status_code == 200


def test_no_key_is_shown_by_a_client() -> None:
    key = mint().text
    client = PmaeClient("http://127.0.0.1:9", api_key=key)
    assert key not in repr(vars(client))
    with pytest.raises(Exception, match="no answer") as error:
        client.identity()
    assert key not in repr(error.value)
    client.close()


def test_no_key_is_logged(locked: LockedApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="api")
    key = locked.key("ada").key
    locked.live.client.get("/runs", headers=bearer(key))
    locked.live.client.get("/runs", headers=bearer(key[:-1] + "!"))
    assert "/api/v1/runs" in caplog.text
    assert key[20:-1] not in caplog.text


def test_the_command_makes_the_first_key(tmp_path: Path, database_url: str) -> None:
    environment = installed_metadata(tmp_path / "site") | {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_DATABASE_URL": database_url,
    }
    assert "there is no key" in run_pmae(["keys", "list"], environment).stderr
    made = run_pmae(
        ["keys", "create", "ada", "--role", "admin", "--expires-days", "7"], environment
    )
    assert made.returncode == 0, made.stderr
    assert "ada, with the role admin. Keep it: it cannot be shown again" in made.stderr
    engine = make_engine(database_url)
    sessions = make_sessions(engine)
    principal = verify_bearer(sessions, made.stdout.strip())
    assert (principal.name, principal.role) == ("ada", "admin")
    header, row = run_pmae(["keys", "list"], environment).stdout.splitlines()
    shown = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert (shown["name"], shown["role"], shown["by"]) == ("ada", "admin", "command line")
    assert shown["holds"].startswith("until ")
    (key,) = json.loads(run_pmae(["keys", "list", "--json"], environment).stdout)
    assert key["id"] == principal.key_id
    again = run_pmae(["keys", "create", "ada", "--role", "viewer"], environment)
    assert again.returncode == 1
    assert "there is a key named 'ada'" in again.stderr
    wrong = run_pmae(["keys", "create", "a b", "--role", "viewer"], environment)
    assert "name:" in wrong.stderr
    assert run_pmae(["keys", "revoke", "ada"], environment).returncode == 0
    assert "revoked" in run_pmae(["keys", "list"], environment).stdout
    engine.dispose()


def test_the_command_says_that_there_is_no_database(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = installed_metadata(tmp_path / "site") | {"PMAE_HOME": str(home)}
    nothing = run_pmae(["keys", "create", "ada", "--role", "admin"], environment)
    assert nothing.returncode == 1
    assert "there is no database" in nothing.stderr
    upgrade(ServiceSettings(home=home).sqlalchemy_url)
    assert run_pmae(["keys", "create", "ada", "--role", "admin"], environment).returncode == 0
