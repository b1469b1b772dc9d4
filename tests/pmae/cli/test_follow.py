"""Following a run whose service goes away, comes back, or says no."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator

import httpx
import pytest
from rich.console import Console
from sqlalchemy import update

from api.auth.service import revoke_key
from api.db.tables import RunRow
from api.settings import ApiSettings
from pmae.cli.backoff import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS
from pmae.cli.runs.watch import watch_run
from pmae.client import ApiError, PmaeClient
from pmae.schema import Problem
from tests.api.auth.conftest import LockedApi
from tests.api.live import LiveApi, live_api
from tests.support.clients import client_over
from tests.support.commands import PMAE


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


def _after(looks: int, what: Callable[[], None]) -> Callable[[float], bool]:
    """A pause in which ``what`` happens once; a watching that goes on after it is stopped."""
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == looks:
            what()
        return len(pauses) > looks + 3

    return pause


def test_watching_ends_when_the_key_is_revoked(locked: LockedApi) -> None:
    run = locked.live.add_run(state="running")
    with (
        locked.client("eve") as client,
        pytest.raises(ApiError, match="key") as refused,
    ):
        watch_run(
            client, run.id, Console(file=io.StringIO()), _after(2, lambda: _revoke(locked, "eve"))
        )
    assert refused.value.problem.status == 401


def test_watching_ends_when_the_run_is_deleted(api: LiveApi) -> None:
    run = api.add_run(state="running")
    pause = _after(2, lambda: _delete(api, run.id))
    with PmaeClient(api.url) as client, pytest.raises(ApiError, match=f"there is no run {run.id}"):
        watch_run(client, run.id, Console(file=io.StringIO()), pause)


def test_in_a_pipe_watching_says_what_is_new_and_nothing_twice(api: LiveApi) -> None:
    run = api.add_run()
    progress = {"stage": "pretrain", "epoch": 1, "total_epochs": 2, "loss": 0.5}
    probe = {"stage": "probe", "done": 1, "total": 3, "epoch": 2, "total_epochs": 2}
    states = {30: ("running", progress), 60: ("running", probe), 90: ("succeeded", probe)}
    looks = 0

    def pause(_: float) -> bool:
        nonlocal looks
        looks += 1
        if looks in states:
            state, told = states[looks]
            with api.sessions.begin() as session:
                changed = update(RunRow).where(RunRow.id == run.id)
                session.execute(changed.values(state=state, progress=told))
        return False

    shown = io.StringIO()
    with PmaeClient(api.url) as client:
        watch_run(client, run.id, Console(file=shown, width=40), pause)
    assert shown.getvalue().splitlines() == [
        "queued",
        "pretrain: epoch 1/2, loss 0.5000",
        "probe: 1/3",
    ]


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


def test_a_service_that_is_away_is_waited_for_longer_and_longer_and_told_of_once(
    api: LiveApi,
) -> None:
    """And every state of it that passes: nobody there, a proxy's 502, a database that restarts."""
    ended = api.add_run(state="succeeded")
    run = api.client.get(f"/runs/{ended.id}").json()
    busy = Problem(title="Busy", status=503, code="busy", detail="it starts")
    answers: list[httpx.Response | httpx.TransportError] = [
        httpx.Response(200, json=run | {"state": "running"}),
        httpx.ConnectError("refused"),
        *[httpx.Response(status, text="<html>") for status in (502, 500, 504)] * 2,
        httpx.Response(200, json=run | {"state": "running"}),
        httpx.Response(503, content=busy.model_dump_json(), headers={"Retry-After": "7"}),
        httpx.Response(200, json=run),
    ]

    def answer(_: httpx.Request) -> httpx.Response:
        following = answers.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    waited: list[float] = []

    def pause(seconds: float) -> bool:
        waited.append(seconds)
        return False

    shown = io.StringIO()
    with client_over(answer) as client:
        found = watch_run(client, ended.id, Console(file=shown, width=200), pause)
    assert found is not None
    assert found.state == "succeeded"
    away = waited[1:8]
    assert away[0] == FIRST_WAIT_SECONDS
    assert away == sorted(away)
    assert away[-1] == LONGEST_WAIT_SECONDS
    assert waited[-1] == 7, "as long as the service asked for"
    told = [line for line in shown.getvalue().splitlines() if line.startswith("pmae: ")]
    assert [line.endswith("; waiting for it") for line in told] == [True, True]
    assert "refused" in told[0]
    assert "it starts" in told[1]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 422])
def test_what_the_service_says_of_the_request_is_not_asked_again(status: int) -> None:
    with (
        client_over(lambda _: httpx.Response(status)) as client,
        pytest.raises(ApiError, match=str(status)),
    ):
        watch_run(client, "abcd00000001", Console(file=io.StringIO()), lambda _: True)


def _following(api: LiveApi, run_id: str, key: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PMAE, "logs", run_id, "-f"],
        env={**os.environ, "PMAE_API_URL": api.url, "PMAE_API_KEY": key},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
