"""The client's methods for runs, against the real application and against broken connections."""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from api.settings import ApiSettings
from pmae.client import ApiError, PmaeClient, ServiceUnreachableError, connection
from pmae.schema.runs import RunChange
from tests.api.live import DIGITS, LiveApi, live_api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LiveApi]:
    settings = ApiSettings(
        home=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'runs.sqlite3'}",
        broker_url=f"redis+socket://{tmp_path}/no-broker.sock",
        broker_timeout_seconds=0.1,
        stream_poll_seconds=0.02,
    )
    with live_api(settings) as served:
        yield served


@pytest.fixture
def client(api: LiveApi) -> Iterator[PmaeClient]:
    with PmaeClient(api.url) as made:
        yield made


def test_a_key_makes_one_run(api: LiveApi, client: PmaeClient) -> None:
    first = client.submit(DIGITS, idempotency_key="k")
    assert client.submit(DIGITS, idempotency_key="k") == first
    assert client.submit(DIGITS).id != first.id
    with pytest.raises(ApiError, match=first.id) as caught:
        client.submit(DIGITS, priority=1, idempotency_key="k")
    assert caught.value.problem.code == "idempotency_key_reused"
    assert api.count_runs() == 2


class LosesAnswers(httpx.BaseTransport):
    """A network on which the first answers are lost on their way back."""

    def __init__(self, lost: int) -> None:
        self._network = httpx.HTTPTransport()
        self.lost = lost
        self.keys: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.keys.append(request.headers["Idempotency-Key"])
        response = self._network.handle_request(request)
        if self.lost > 0:
            self.lost -= 1
            response.close()
            raise httpx.ReadError("the connection broke")
        return response

    def close(self) -> None:
        self._network.close()


def test_a_lost_answer_makes_no_second_run(api: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    network = LosesAnswers(lost=3)
    with PmaeClient(api.url, transport=network) as client:
        run = client.submit(DIGITS)
        assert len(network.keys) == 4
        assert len(set(network.keys)) == 1
        network.lost = 4
        with pytest.raises(ServiceUnreachableError):
            client.submit(DIGITS)
    assert api.count_runs() == 2
    assert api.client.get(f"/runs/{run.id}").status_code == 200


def test_a_lost_answer_is_asked_for_again_by_whatever_queues_a_run(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETRY_SECONDS", (0.0,))
    ended = api.add_run(state="failed")
    api.add_checkpoint(ended, {"model.safetensors": b"weights"})
    network = LosesAnswers(lost=0)
    with PmaeClient(api.url, transport=network) as client:
        network.lost = 1
        again = client.rerun(ended.id)
        assert (again.rerun_of, api.count_runs()) == (ended.id, 2)
        assert client.rerun(ended.id, idempotency_key="k") == client.rerun(
            ended.id, idempotency_key="k"
        )
        assert api.count_runs() == 3
        network.lost = 1
        measuring = client.evaluate(f"{ended.id}-00000640", {"evaluations": [{"protocol": "knn"}]})
        assert (measuring.parent_id, api.count_runs()) == (ended.id, 4)
        network.lost = 1
        assert client.resume(ended.id).state == "queued"
        messages = [entry.message for entry in client.history(ended.id).items]
        assert messages.count("resumed") == 1
    assert len(network.keys) == 8
    assert len(set(network.keys)) == 4


def test_a_service_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_SECONDS", (3600.0,))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with PmaeClient(url) as client, pytest.raises(ServiceUnreachableError):
            client.submit(DIGITS)


def test_a_preview_queues_nothing(api: LiveApi, client: PmaeClient) -> None:
    preview = client.preview({"epochs": 3}, preset="quickstart")
    assert preview.estimate is not None
    assert preview.estimate.steps
    assert api.count_runs() == 0


def test_runs_are_found_sorted_and_changed(api: LiveApi, client: PmaeClient) -> None:
    for index in range(4):
        api.add_run(
            state="succeeded" if index else "failed",
            tags=["all", f"t{index}"],
            last_metrics={"val_loss": 1 / (index + 1)},
            finished_at=1e9 + index,
            owner="ada" if index == 2 else None,
        )
    everything = {run.number: run for run in client.runs().items}
    found = client.runs(
        state=["failed", "succeeded"],
        kind="pretrain",
        tag=["all"],
        metric=["val_loss<0.9", "val_loss>0.1"],
        finished_after=datetime.fromtimestamp(1e9, UTC),
        finished_before=datetime.fromtimestamp(1e9 + 4, UTC),
        created_after=datetime.now(UTC) - timedelta(days=1),
        created_before=datetime.now(UTC) + timedelta(days=1),
        pinned=False,
        sort="metric:val_loss",
        order="asc",
        limit=2,
    )
    assert [run.number for run in found.items] == [4, 3]
    assert found.next_cursor
    assert [run.number for run in client.runs(owner="ada").items] == [3]
    assert client.runs(text=everything[2].id[:8]).items == [everything[2]]
    run = client.change(everything[1].id, RunChange(name="mine", pinned=True))
    assert (run.name, run.pinned, run.tags) == ("mine", True, ["all", "t0"])
    assert client.change(run.id, {"tags": None}).tags == []
    with pytest.raises(ApiError, match="unpin"):
        client.delete(run.id)


def test_metrics_of_many_runs(api: LiveApi, client: PmaeClient, tmp_path: Path) -> None:
    rows = [api.add_run() for _ in range(3)]
    for row in rows:
        api.add_metrics(row.number, "loss", [1.0 / step for step in range(1, 51)])
        api.add_metrics(row.number, "lr", [0.1])
    ids = [row.id for row in rows]
    found = client.metrics_of_runs(ids, names=["loss"], max_points=10, axis="time")
    assert [metrics.run_id for metrics in found] == ids
    assert found[0] == client.metrics(ids[0], names=["loss"], max_points=10, axis="time")
    file = tmp_path / "metrics.csv"
    file.write_text("".join(client.metrics_csv(ids)))
    with file.open(newline="") as lines:
        assert len(list(csv.DictReader(lines))) == 3 * 51
