"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from api.db.clock import database_now
from api.db.tables import RunRow
from api.health.prometheus import PrometheusMetrics
from api.settings import ApiSettings
from tests.api.live import LiveApi, live_api
from tests.support.waiting import wait_until


def _scrape(api: LiveApi) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = api.client.get(f"{api.url}/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_runs_queues_and_workers(api: LiveApi) -> None:
    api.add_run(state="succeeded")
    api.add_run(state="running")
    waiting = api.add_run()
    api.add_run(kind="evaluate")
    with api.sessions.begin() as session:
        session.execute(
            update(RunRow)
            .where(RunRow.number == waiting.number)
            .values(queued_at=database_now() - 100)
        )
    told = _scrape(api)
    assert told["pmae_database_up", ()] == 1
    runs = {state: told["pmae_runs", (("state", state),)] for state in ("queued", "failed")}
    assert runs == {"queued": 2, "failed": 0}
    assert told["pmae_queue_length", (("kind", "pretrain"),)] == 1
    assert told["pmae_queue_length", (("kind", "evaluate"),)] == 1
    assert 100 <= told["pmae_queue_oldest_wait_seconds", (("kind", "pretrain"),)] < 1000
    assert told["pmae_workers", (("activity", "idle"),)] == 0
    size = told["pmae_artifact_disk_size_bytes", ()]
    assert 0 < told["pmae_artifact_disk_free_bytes", ()] <= size


def test_requests_are_counted_by_operation_and_not_by_address(api: LiveApi) -> None:
    run_id = api.add_run().id
    for _ in range(3):
        api.client.get(f"/runs/{run_id}")
    api.client.get("/runs/00000000")
    api.client.get("/nothing/here")
    api.client.put("/runs")

    def counted(operation: str, status: str, method: str = "GET") -> float:
        labels = (("method", method), ("operation", operation), ("status", status))
        return _scrape(api).get(("pmae_request_duration_seconds_count", labels), 0)

    # A request is counted when its answer has ended, which its client may see before.
    wait_until(lambda: counted("get_run", "200") == 3, "counting")
    wait_until(lambda: counted("get_run", "404") == 1, "counting")
    wait_until(lambda: counted("(none)", "404") == 1, "counting")
    assert run_id not in api.client.get(f"{api.url}/metrics").text
    wait_until(lambda: counted("(none)", "405", "PUT") == 1, "the refused method")
    assert counted("submit_run", "405", "PUT") == 0


def test_made_up_methods_are_counted_as_one() -> None:
    """A server may pass any word on: each would stay in memory as a name of its own."""
    metrics = PrometheusMetrics()
    for number in range(100):
        metrics.observe_request({"method": f"MADEUP{number}"}, 405, 0.1)
    told = metrics.text().decode()
    assert "MADEUP" not in told
    assert 'method="(other)",operation="(none)",status="405"} 100.0' in told


def test_a_lost_lease_is_counted(api_settings: ApiSettings) -> None:
    with live_api(api_settings.model_copy(update={"reconcile_seconds": 0.1})) as api:
        row = api.add_run(state="running", worker="gone", lease_number=1)
        with api.sessions.begin() as session:
            ended = {"lease_until": database_now() - 1}
            session.execute(update(RunRow).where(RunRow.number == row.number).values(**ended))
        wait_until(lambda: _scrape(api)["pmae_leases_lost_total", ()] == 1, "the lease's end")
