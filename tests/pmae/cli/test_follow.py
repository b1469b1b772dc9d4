"""Following a run whose service goes away, comes back, or says no."""

from __future__ import annotations

import io
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import update

from api.auth.service import revoke_key
from api.db.tables import RunRow
from api.settings import ApiSettings
from pmae.cli.runs.watch import watch_run
from pmae.client import ApiError, PmaeClient
from pmae.schema import Run
from tests.api.auth.conftest import LockedApi
from tests.api.live import LiveApi, live_api
from tests.support.commands import PMAE
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture
def locked(api_settings: ApiSettings) -> Iterator[LockedApi]:
    with live_api(api_settings.model_copy(update={"require_keys": True})) as served:
        yield LockedApi(served)


def _revoke(locked: LockedApi, name: str) -> None:
    with locked.live.sessions.begin() as session:
        revoke_key(session, name)


def _delete(api: LiveApi, run_id: str) -> None:
    with api.sessions.begin() as session:
        gone = update(RunRow).where(RunRow.id == run_id)
        session.execute(gone.values(state="failed", deleted_at=1e9))


class Watching:
    """``watch_run`` in a thread: what it shows, and what it answers with."""

    def __init__(self, client: PmaeClient, run_id: str) -> None:
        self.shown = io.StringIO()
        console = Console(file=self.shown, width=200)
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._answer = self._pool.submit(watch_run, client, run_id, console, self._stopped.wait)
        self._pool.shutdown(wait=False)

    def lines(self) -> list[str]:
        return self.shown.getvalue().splitlines()

    def until(self, line: str) -> None:
        wait_until(lambda: line in self.lines() or self._answer.done(), line)

    def stop(self) -> None:
        self._stopped.set()

    def answer(self) -> Run | None:
        return self._answer.result(timeout=60)


def test_watching_ends_when_the_key_is_revoked(locked: LockedApi) -> None:
    run = locked.live.add_run(state="running")
    with locked.client("eve") as client:
        watching = Watching(client, run.id)
        watching.until("queued")
        _revoke(locked, "eve")
        with pytest.raises(ApiError, match="key") as refused:
            watching.answer()
    assert refused.value.problem.status == 401


def test_watching_ends_when_the_run_is_deleted(api: LiveApi) -> None:
    run = api.add_run(state="running")
    with PmaeClient(api.url) as client:
        watching = Watching(client, run.id)
        watching.until("queued")
        _delete(api, run.id)
        with pytest.raises(ApiError, match=f"there is no run {run.id}"):
            watching.answer()


def test_watching_stops_when_it_is_asked_to(api: LiveApi) -> None:
    run = api.add_run()
    with PmaeClient(api.url) as client:
        watching = Watching(client, run.id)
        watching.until("queued")
        watching.stop()
        assert watching.answer() is None


def test_in_a_pipe_watching_says_what_is_new_and_nothing_twice(api: LiveApi) -> None:
    run = api.add_run()

    def change(state: str, **progress: Any) -> None:
        with api.sessions.begin() as session:
            changed = update(RunRow).where(RunRow.id == run.id)
            session.execute(changed.values(state=state, progress=progress))

    with PmaeClient(api.url) as client:
        watching = Watching(client, run.id)
        watching.until("queued")
        change("running", stage="pretrain", epoch=1, total_epochs=2, loss=0.5)
        watching.until("pretrain: epoch 1/2, loss 0.5000")
        change("running", stage="probe", done=1, total=3, epoch=2, total_epochs=2)
        watching.until("probe: 1/3")
        change("running", stage="probe", done=2, total=3, epoch=2, total_epochs=2)
        change("succeeded", stage="probe", done=3, total=3)
        answer = watching.answer()
    assert answer is not None
    assert answer.state == "succeeded"
    assert watching.lines() == ["queued", "pretrain: epoch 1/2, loss 0.5000", "probe: 1/3"]


def test_watching_goes_on_when_the_service_is_back(api_settings: ApiSettings) -> None:
    port = free_port()
    with ExitStack() as servers:
        api = servers.enter_context(live_api(api_settings, port=port))
        run = api.add_run(state="running", progress={"stage": "pretrain"})
        with PmaeClient(api.url) as client:
            watching = Watching(client, run.id)
            watching.until("pretrain")
            servers.close()
            wait_until(lambda: watching.lines()[-1].endswith("; waiting for it"), "a sentence")
            api = servers.enter_context(live_api(api_settings, port=port))
            api.add_event(run.number, "the end", state="succeeded")
            answer = watching.answer()
    assert answer is not None
    assert answer.state == "succeeded"
    assert [line.startswith("pmae: no answer") for line in watching.lines()] == [False, True]


@pytest.mark.parametrize("how", ["deleted", "revoked"])
def test_following_a_log_ends_with_a_sentence(how: str, locked: LockedApi) -> None:
    api, key = locked.live, locked.key("eve").key
    run = api.add_run(state="running")
    lease = api.run_dir(run.id).lease(1)
    lease.path.mkdir(parents=True)
    lease.log.write_text("begun\n")
    with _following(api, run.id, key) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "begun\n"
        if how == "revoked":
            _revoke(locked, "eve")
        else:
            _delete(api, run.id)
        _, told = following.communicate(timeout=60)
    assert following.returncode == 1
    assert told.startswith("pmae: ")
    assert ("there is no run" if how == "deleted" else "key") in told
    assert len(told.splitlines()) == 1


def test_a_log_is_followed_over_a_restart_to_its_last_line(api_settings: ApiSettings) -> None:
    port = free_port()
    with ExitStack() as servers:
        api = servers.enter_context(live_api(api_settings, port=port))
        run = api.add_run(state="running")
        lease = api.run_dir(run.id).lease(1)
        lease.path.mkdir(parents=True)
        lease.log.write_text("begun\n")
        with _following(api, run.id, "") as following:
            assert following.stdout is not None
            assert following.stdout.readline() == "begun\n"
            with lease.log.open("a") as log:
                log.write("by itself\n")
            assert following.stdout.readline() == "by itself\n", "although no event came"
            servers.close()
            with lease.log.open("a") as log:
                log.write("while away\n")
            api = servers.enter_context(live_api(api_settings, port=port))
            assert following.stdout.readline() == "while away\n"
            with lease.log.open("a") as log:
                log.write("at the end\n")
            api.add_event(run.number, "the end", state="succeeded")
            rest, _ = following.communicate(timeout=60)
        assert (rest, following.returncode) == ("at the end\n", 0)


def _following(api: LiveApi, run_id: str, key: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PMAE, "logs", run_id, "-f"],
        env={**os.environ, "PMAE_API_URL": api.url, "PMAE_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
