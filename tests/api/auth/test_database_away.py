"""A database that is away is told as such, wherever a request meets it, and comes back."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from api.db.migrate import upgrade
from api.settings import ApiSettings
from tests.api.auth.conftest import LockedApi
from tests.api.live import DIGITS, live_api, problem
from tests.support.postgres import PostgresServer, postgres_server


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Its own, since it is stopped."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=[True, False], ids=["keys", "no keys"])
def on_server(
    request: pytest.FixtureRequest, server: PostgresServer, tmp_path: Path
) -> Iterator[LockedApi]:
    settings = ApiSettings(
        home=tmp_path / "home",
        database_url=make_url(server.address)
        .set(drivername="postgresql+psycopg")
        .render_as_string(hide_password=False),
        require_keys=request.param,
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
    )
    upgrade(settings.sqlalchemy_url)
    with live_api(settings) as served:
        yield LockedApi(served)
    gc.collect()  # here, where the warning is expected


# SQLAlchemy drops a connection that breaks while it is set up, and does not close it.
@pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning")
def test_requests_are_told_to_come_back(on_server: LockedApi, server: PostgresServer) -> None:
    client = on_server.live.client
    headers = on_server.headers("ann", "admin") | {"Idempotency-Key": "once"}
    run_id = client.post("/runs", json=DIGITS, headers=headers).json()["id"]

    server.stop(signal.SIGQUIT)
    for method, path in (
        ("POST", "/runs"),
        ("GET", "/runs"),
        ("GET", f"/runs/{run_id}"),
        ("GET", f"/runs/{run_id}/events"),
        ("GET", f"/metrics?runs={run_id}"),
        ("PATCH", f"/runs/{run_id}"),
    ):
        body = {"POST": DIGITS, "PATCH": {"name": "other"}}.get(method)
        answer = client.request(method, path, json=body, headers=headers)
        assert problem(answer, 503).code == "database_unavailable", (method, path)
        assert answer.headers["retry-after"].isdecimal()

    ready = client.get("/readyz", headers=headers)
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert client.get("/livez", headers=headers).status_code == 200

    server.start()
    assert client.post("/runs", json=DIGITS, headers=headers).json()["id"] == run_id
    assert [run["id"] for run in client.get("/runs", headers=headers).json()["items"]] == [run_id]
