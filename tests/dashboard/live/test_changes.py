"""What has changed, with the real API behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import update

from api.auth.service import revoke_key
from api.db.tables import RunRow
from api.settings import ApiSettings
from dashboard.live.changes import Changes
from pmae.client import PmaeClient
from tests.api.auth.conftest import LockedApi
from tests.api.live import LiveApi, live_api
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture
def settings(tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        home=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'runs.sqlite3'}",
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
        stream_poll_seconds=0.02,
    )


@pytest.fixture
def locked(settings: ApiSettings) -> Iterator[LockedApi]:
    with live_api(settings.model_copy(update={"require_keys": True})) as served:
        yield LockedApi(served)


def known(changes: Changes, run_id: str | None, token: str | None = None) -> int:
    """The version, as soon as there is one."""
    wait_until(lambda: changes.version(run_id, token) is not None, "the stream")
    version = changes.version(run_id, token)
    assert version is not None
    return version


def test_each_runs_events_count_for_it_and_for_its_parent(settings: ApiSettings) -> None:
    with live_api(settings) as api, PmaeClient(api.url) as client:
        parent, child, other = (api.add_run() for _ in range(3))
        with api.sessions.begin() as session:
            of_child = update(RunRow).where(RunRow.id == child.id)
            session.execute(of_child.values(parent_id=parent.id))
        changes = Changes(client)
        before = {run.id: known(changes, run.id) for run in (parent, child, other)}
        total = known(changes, None)
        api.add_event(child.number, "measured")
        wait_until(lambda: known(changes, parent.id) > before[parent.id], "the parent's")
        assert known(changes, child.id) == before[child.id] + 1
        assert known(changes, other.id) == before[other.id]
        assert known(changes, None) == total + 1


def test_it_knows_that_it_does_not_know_and_comes_back(settings: ApiSettings) -> None:
    port = free_port()
    with ExitStack() as servers:
        api = servers.enter_context(live_api(settings, port=port))
        row = api.add_run()
        with PmaeClient(api.url) as client:
            changes = Changes(client)
            before = known(changes, row.id)
            servers.close()
            wait_until(lambda: changes.version(row.id, None) is None, "that the API is away")
            api.add_event(row.number, "while away")
            servers.enter_context(live_api(settings, port=port))
            wait_until(lambda: known(changes, row.id) > before, "the event")


def test_another_readers_token_goes_on_when_one_ends(locked: LockedApi) -> None:
    live: LiveApi = locked.live
    row = live.add_run()
    ada, bob = (locked.key(name).key for name in ("ada", "bob"))
    with PmaeClient(live.url) as client:
        changes = Changes(client)
        assert changes.version(row.id, "pmae_nobodys") is None
        known(changes, row.id, bob)
        known(changes, row.id, ada)
        _revoke(live, "ada")
        before = known(changes, row.id, bob)
        live.add_event(row.number, "after that")
        wait_until(lambda: known(changes, row.id, bob) > before, "the event")
        _revoke(live, "bob")
        wait_until(lambda: changes.version(row.id, bob) is None, "that no key is left")


def _revoke(live: LiveApi, name: str) -> None:
    with live.sessions.begin() as session:
        revoke_key(session, name)
