"""Presets, data sets, workers, health, and what every answer has in common."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter
from sqlalchemy import insert

from api.db import run_states
from api.db.clock import database_now
from api.db.tables import RunRow, WorkerRow
from api.health.readiness import ReadinessCheck
from api.queue.wake_up import BROKER_ERRORS, WakeUpSender
from api.settings import ApiSettings
from pmae.client import PmaeClient
from pmae.errors import ClientError
from pmae.presets import FAMILIES, PRESETS, get_preset
from pmae.schema import DatasetView, PresetView, Problem, Queue, Readiness, WorkerView
from pmae.schema.methods import MethodView
from pmae.spec import resolve
from pmae.spec.catalog import DATASETS
from pmae.spec.methods import method_names
from tests.api.live import LiveApi, live_api, problem
from tests.support.ports import free_port
from tests.support.unprivileged import (
    UNUSABLE,
    USABLE,
    open_again,
    unprivileged,
    write_data_root,
)
from tests.support.waiting import wait_until


def test_presets(api: LiveApi) -> None:
    views = TypeAdapter(list[PresetView]).validate_json(api.client.get("/presets").content)
    assert [view.name for view in views] == [*PRESETS, *FAMILIES]
    one = PresetView.model_validate_json(api.client.get("/presets/quickstart").content)
    assert one == views[0]
    assert one.spec == resolve(PRESETS["quickstart"].spec)
    assert one.parameters == []
    paper = next(view for view in views if view.name == "paper")
    assert paper.spec == resolve(get_preset("paper").spec)
    assert {p.name for p in paper.parameters} > {"dataset", "method", "ratio"}
    unknown = api.client.get("/presets/slowstart")
    assert unknown.status_code == 404
    assert "quickstart" in unknown.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/presets/paper?dataset=bloodmnist&ratio=0.3",
        "/presets/paper%3Fdataset%3Dbloodmnist%26ratio%3D0.3",
        "/presets/bloodmnist_pmae_ratio_0.3",
    ],
)
def test_a_familys_preset_is_read_by_its_parameters(api: LiveApi, path: str) -> None:
    view = PresetView.model_validate_json(api.client.get(path).content)
    assert view.name == "paper?dataset=bloodmnist&method=pmae&ratio=0.3"
    assert view.spec == resolve(get_preset(view.name).spec)
    assert "published" in view.expect


@pytest.mark.parametrize(
    ("path", "field", "valid"),
    [
        ("/presets/paper?dataset=digits", "dataset", "cifar10, tiny_imagenet"),
        ("/presets/paper?ratio=0.9-0.1", "ratio", "above 0 and below 1 of up to six decimals"),
        ("/presets/paper?rato=0.2", "rato", "did you mean ratio"),
        ("/presets/quickstart?ratio=0.2", "", "takes no parameters"),
    ],
)
def test_a_bad_parameter_of_a_preset_is_named(
    api: LiveApi, path: str, field: str, valid: str
) -> None:
    found = problem(api.client.get(path), 422)
    assert [each.pointer for each in found.errors] == [field]
    assert valid in str(found.detail)


def test_methods(api: LiveApi) -> None:
    views = TypeAdapter(list[MethodView]).validate_json(api.client.get("/methods").content)
    with PmaeClient(api.url) as client:
        assert client.methods() == views
    assert [view.name for view in views] == list(method_names())
    found = {view.name: view for view in views}
    assert found["pmae"].strategies == ["random", "top", "bottom", "block"]
    assert (found["pmae"].title, found["pmae"].parts) == ("PMAE", "components")
    assert (found["mae"].title, found["mae"].parts) == ("MAE", "patches")
    assert (found["pmae"].has_basis, found["mae"].has_basis) == (True, False)


def test_datasets(api: LiveApi) -> None:
    (api.settings.data_dir / "birds" / "wren").mkdir(parents=True)
    (api.settings.data_dir / "not a name" / "x").mkdir(parents=True)
    (api.settings.data_dir / "empty").mkdir()
    views = TypeAdapter(list[DatasetView]).validate_json(api.client.get("/datasets").content)
    found = {view.name: view for view in views}
    assert set(found) == {*DATASETS, "folder:birds", "folder:not a name"}
    assert found["digits"].available
    assert found["folder:birds"].available
    assert not found["folder:not a name"].available
    assert "rename it" in found["folder:not a name"].message


def test_a_data_root_that_is_missing_is_told(api: LiveApi) -> None:
    views = TypeAdapter(list[DatasetView]).validate_json(api.client.get("/datasets").content)
    (cifar10,) = (view for view in views if view.name == "cifar10")
    assert f"the data root {api.settings.data_dir} is not there" in cifar10.message


def test_folders_that_the_service_cannot_read_break_nothing(tmp_path: Path) -> None:
    """In a process of its own: this one may be root's, which reads everything."""
    root, port = tmp_path / "data", free_port()
    root.mkdir()
    write_data_root(root)
    settings = {
        "PMAE_HOME": str(tmp_path / "home"),
        "PMAE_DATA_ROOT": str(root),
        "PMAE_API_PORT": str(port),
        "PMAE_BROKER_URL": f"redis+socket://{tmp_path}/no-broker.sock",
    }
    process = subprocess.Popen(
        unprivileged([sys.executable, "-m", "api"]), env={**os.environ, **settings}
    )
    try:
        with PmaeClient(f"http://127.0.0.1:{port}") as client:
            wait_until(lambda: _answers(client), "the API's start")
            found = {view.name: view for view in client.datasets()}
            for name, reason in UNUSABLE.items():
                assert not found[name].available
                assert reason in found[name].message
            assert {name for name in USABLE if found[name].available} == USABLE
            assert set(found) == {*DATASETS, *USABLE, *UNUSABLE}
            body = {"dataset": {"name": "folder:private"}}
            answer = httpx.post(
                f"{client.base_url}/api/v1/runs",
                params={"validate_only": "true"},
                json=body,
                trust_env=False,
            )
            assert f"cannot be read by user {os.geteuid()}" in answer.json()["warnings"][0]
    finally:
        process.kill()
        process.wait()
        open_again(root)


def _answers(client: PmaeClient) -> bool:
    try:
        client.datasets()
    except ClientError:
        return False
    return True


def test_workers_that_were_heard_of_lately(api: LiveApi) -> None:
    with api.sessions.begin() as session:
        for name, age in (("here", 1), ("gone", 10_000)):
            session.execute(insert(WorkerRow).values(**worker(name, age=age)))
    run_id = api.submit()
    with api.sessions.begin() as session:
        assert run_states.claim(session, worker="here", lease_seconds=60)
    views = TypeAdapter(list[WorkerView]).validate_json(api.client.get("/workers").content)
    assert [(view.name, view.run_id, view.draining) for view in views] == [("here", run_id, False)]
    assert api.client.post("/workers/here/drain").status_code == 204
    assert api.client.get("/workers").json()[0]["draining"] is True
    assert api.client.post("/workers/here/undrain").status_code == 204
    assert api.client.get("/workers").json()[0]["draining"] is False
    missing = api.client.post("/workers/there/drain")
    assert (missing.status_code, missing.json()["code"]) == (404, "worker_not_found")


def worker(name: str, *, age: float = 0.0, **facts: Any) -> dict[str, Any]:
    """The values of a worker's row, heard of ``age`` seconds ago."""
    seen = database_now() - age
    defaults = {"host": "h", "pid": 1, "started_at": seen, "last_seen_at": seen}
    return {"name": name, "kinds": ["pretrain"], "devices": 1} | defaults | facts


def test_a_long_queue_is_counted_and_only_its_beginning_listed(api: LiveApi) -> None:
    row = api.add_run()
    columns = [c.key for c in RunRow.__mapper__.column_attrs if c.key != "number"]
    values = {name: getattr(row, name) for name in columns}
    with api.sessions.begin() as session:
        rows = [values | {"id": f"{place:012x}"} for place in range(600)]
        session.execute(insert(RunRow), rows)
        session.execute(insert(RunRow), [values | {"id": "f" * 12, "kind": "evaluate"}])
    queue = Queue.model_validate_json(api.client.get("/queue").content)
    assert (queue.total, len(queue.items)) == (602, 500)
    assert [run.position for run in queue.items] == list(range(1, 501))
    assert queue.items[1].run_id == "0" * 12, "of equal ones the oldest comes first"
    with api.sessions.begin() as session:
        session.execute(insert(WorkerRow).values(**worker("a")))
    told = api.client.get(f"/runs/{599:012x}").json()["reason"]
    assert told == "waits to be picked up; 600 runs of its kind start before it"


async def _asked_at_once(check: ReadinessCheck, count: int) -> list[Readiness]:
    return await asyncio.gather(*(check.ask() for _ in range(count)))


def test_all_who_ask_at_once_share_one_check() -> None:
    asked: list[int] = []

    def look() -> Readiness:
        asked.append(1)
        return Readiness(ready=len(asked) > 1, checks={})

    check = ReadinessCheck(look)
    assert [one.ready for one in asyncio.run(_asked_at_once(check, 100))] == [False] * 100
    assert [one.ready for one in asyncio.run(_asked_at_once(check, 1))] == [True], "asked anew"


def test_the_queue_says_what_starts_when_and_why_it_waits(api: LiveApi) -> None:
    first, second = api.submit(), api.submit()
    urgent = api.add_run(devices=2, priority=5).id

    def waits() -> dict[str, str]:
        queue = Queue.model_validate_json(api.client.get("/queue").content)
        assert queue.total == len(queue.items)
        assert [run.position for run in queue.items] == list(range(1, queue.total + 1))
        assert queue.items[0].run_id == urgent
        for run in queue.items:
            assert api.client.get(f"/runs/{run.run_id}").json()["reason"] == run.waits
        return {run.run_id: run.waits for run in queue.items}

    assert set(waits().values()) == {"waits: no worker is up"}
    with api.sessions.begin() as session:
        session.execute(insert(WorkerRow).values(**worker("a", kinds=["evaluate"])))
    assert waits()[first] == (
        "waits: no worker that is up takes pretrain runs; up: a (evaluate; 1 device)"
    )
    with api.sessions.begin() as session:
        session.execute(insert(WorkerRow).values(**worker("b")))
    assert waits()[first] == "waits to be picked up; 1 run of its kind starts before it"
    assert "takes pretrain runs on 2 devices" in waits()[urgent]
    with api.sessions.begin() as session:
        assert run_states.claim(session, worker="b", lease_seconds=60)
    assert "the one worker that can take it is busy; 1 run of" in waits()[second]
    api.client.post("/workers/b/drain")
    assert waits()[second] == "waits: every worker that could take it is being drained"


def test_a_process_that_answers_is_alive(api: LiveApi) -> None:
    assert api.client.get("/livez").json() == {"status": "ok"}
    assert api.client.head("/livez").status_code == 200


def test_without_a_broker_the_service_is_not_ready(api: LiveApi) -> None:
    response = api.client.get("/readyz")
    assert response.status_code == 503
    readiness = Readiness.model_validate_json(response.content)
    assert readiness.checks == {"database": "ok", "broker": "does not answer", "storage": "ok"}


def test_with_all_of_it_the_service_is_ready(api_settings: ApiSettings, broker_url: str) -> None:
    with live_api(api_settings.model_copy(update={"broker_url": broker_url})) as api:
        response = api.client.get("/readyz")
        assert response.status_code == 200
        assert Readiness.model_validate_json(response.content).ready


def test_a_full_disk_is_not_ready(api_settings: ApiSettings, broker_url: str) -> None:
    changes = {"broker_url": broker_url, "min_free_disk_bytes": 2**62}
    with live_api(api_settings.model_copy(update=changes)) as api:
        checks = api.client.get("/readyz").json()["checks"]
    assert "bytes are free" in checks["storage"]


def test_storage_that_is_no_folder_is_not_ready(api: LiveApi) -> None:
    api.settings.artifact_dir.parent.mkdir(parents=True, exist_ok=True)
    api.settings.artifact_dir.write_text("a file")
    assert "cannot be written" in api.client.get("/readyz").json()["checks"]["storage"]


def test_every_submission_wakes_a_worker_after_its_commit(
    api_settings: ApiSettings, broker_url: str
) -> None:
    settings = api_settings.model_copy(update={"broker_url": broker_url, "reconcile_seconds": 600})
    with live_api(settings) as api, WakeUpSender(settings) as listener:
        assert listener.waiting_messages("pretrain") == 0
        for _ in range(3):
            api.submit()
        wait_until(lambda: listener.waiting_messages("pretrain") == 3, "three wake-ups")


def test_the_reconciler_repeats_lost_wake_ups(api_settings: ApiSettings, broker_url: str) -> None:
    with live_api(api_settings) as api:  # no broker
        api.submit()
    settings = api_settings.model_copy(update={"broker_url": broker_url, "reconcile_seconds": 0.1})
    with live_api(settings), WakeUpSender(settings) as listener:
        wait_until(lambda: listener.waiting_messages("pretrain") == 1, "the reconciler's wake-up")


def test_a_broker_that_is_away_is_told_to_who_asks(tmp_path: Path) -> None:
    settings = ApiSettings(
        broker_url=f"redis+socket://{tmp_path}/none.sock", broker_timeout_seconds=0.1
    )
    with WakeUpSender(settings) as sender:
        sender.send_soon("pretrain")
        for ask in (sender.send, sender.waiting_messages):
            with pytest.raises(BROKER_ERRORS):
                ask("pretrain")


def test_an_address_that_is_none(api: LiveApi) -> None:
    for path in ("/nothing", "/runs/", "/../../etc/passwd"):
        response = api.client.get(path)
        assert response.status_code == 404
        assert Problem.model_validate_json(response.content).code == "not_found"


def test_a_method_that_is_none(api: LiveApi) -> None:
    response = api.client.delete("/runs")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "POST"}
    assert Problem.model_validate_json(response.content).code == "method_not_allowed"


def test_a_fault_of_the_service_shows_no_traceback(
    api: LiveApi, caplog: pytest.LogCaptureFixture
) -> None:
    row = api.add_run(progress=["not", "an", "object"])
    response = api.client.get(f"/runs/{row.id}")
    assert response.status_code == 500
    assert Problem.model_validate_json(response.content).code == "internal_error"
    assert "Traceback" not in response.text
    assert "ValidationError" in caplog.text, "the log says what it was"
