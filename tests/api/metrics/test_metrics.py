"""Metric series: whole when short, thinned out without losing a spike when long."""

from __future__ import annotations

import csv
import io
import random
from typing import Any

import pytest
from sqlalchemy import event

from api.metrics.series import get_metrics
from pmae.schema import Metrics
from pmae.schema.runs import MetricsOfRuns
from tests.api.live import LiveApi


def series(api: LiveApi, run_id: str, **params: str | int) -> Metrics:
    response = api.client.get(f"/runs/{run_id}/metrics", params=params)
    assert response.status_code == 200, response.text
    return Metrics.model_validate_json(response.content)


def test_short_series_come_whole(api: LiveApi) -> None:
    row, other = api.add_run(), api.add_run()
    api.add_metrics(row.number, "loss", [3.0, 2.0, 1.0])
    api.add_metrics(row.number, "lr", [0.1])
    api.add_metrics(other.number, "loss", [9.0])
    metrics = series(api, row.id)
    assert [one.name for one in metrics.series] == ["loss", "lr"]
    loss = metrics.series[0]
    assert (loss.step, loss.value, loss.total) == ([1, 2, 3], [3.0, 2.0, 1.0], 3)
    assert loss.epoch == pytest.approx([0.1, 0.2, 0.3])


def test_names_choose_and_order(api: LiveApi) -> None:
    row = api.add_run()
    for name in ("a", "b", "c"):
        api.add_metrics(row.number, name, [1.0])
    found = series(api, row.id, names="c,a,c,unknown").series
    assert [one.name for one in found] == ["c", "a"]
    assert series(api, row.id, names="").series == []


@pytest.mark.parametrize("max_points", [4, 5, 40, 400])
def test_thinned_series_keep_both_ends_and_every_extreme(api: LiveApi, max_points: int) -> None:
    row = api.add_run()
    numbers = random.Random(0)
    values = [numbers.gauss(0, 1) for _ in range(1000)]
    values[617], values[618] = 50.0, -50.0
    api.add_metrics(row.number, "loss", values)
    (loss,) = series(api, row.id, max_points=max_points).series
    assert loss.total == 1000
    assert len(loss.step) <= max_points
    assert loss.step == sorted(set(loss.step))
    assert (loss.step[0], loss.step[-1]) == (1, 1000)
    assert loss.value == [values[step - 1] for step in loss.step]
    assert {50.0, -50.0} <= set(loss.value)
    buckets = (max_points - 2) // 2
    for bucket in range(buckets):
        inside = [v for s, v in enumerate(values) if s * buckets // 1000 == bucket]
        kept = [v for s, v in zip(loss.step, loss.value, strict=True) if v in inside]
        assert {min(inside), max(inside)} <= set(kept), f"bucket {bucket}"


def test_a_constant_series_is_thinned_too(api: LiveApi) -> None:
    row = api.add_run()
    api.add_metrics(row.number, "lr", [0.5] * 1000)
    (lr,) = series(api, row.id, max_points=12).series
    assert lr.total == 1000
    assert len(lr.step) <= 12
    assert (lr.step[0], lr.step[-1]) == (1, 1000)


def test_max_points_has_bounds(api: LiveApi) -> None:
    run_id = api.submit()
    for bad in (0, 3, 1_000_000):
        response = api.client.get(f"/runs/{run_id}/metrics", params={"max_points": bad})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "max_points"


def test_buckets_of_time_are_equally_long(api: LiveApi) -> None:
    """Steps came fast at first: by steps the slow end would have one bucket of ten."""
    row = api.add_run()
    draw = random.Random(1)
    times = sorted([draw.random() for _ in range(900)] + [draw.uniform(1, 100) for _ in range(100)])
    rows: list[dict[str, Any]] = [
        {"run_number": row.number, "name": "loss", "step": 3 * i, "epoch": i / 10, "time": time}
        | {"value": draw.gauss(0, 1)}
        for i, time in enumerate(times)
    ]
    api.add_points(rows)
    (loss,) = series(api, row.id, max_points=42, axis="time").series
    assert len(loss.time) <= 42
    assert loss.time == sorted(set(loss.time))
    assert (loss.time[0], loss.time[-1]) == (times[0], times[-1])
    kept = set(zip(loss.time, loss.value, strict=True))
    for bucket in range(20):
        inside = [
            (one["value"], one["time"])
            for one in rows
            if min(int((one["time"] - times[0]) / (times[-1] - times[0]) * 20), 19) == bucket
        ]
        for value, time in (min(inside), max(inside)):
            assert (time, value) in kept
    by_epoch = series(api, row.id, max_points=42, axis="epoch")
    assert by_epoch == series(api, row.id, max_points=42)
    assert sum(time > 1 for time in by_epoch.series[0].time) < 10


@pytest.mark.parametrize("axis", ["step", "time"])
def test_buckets_of_blocks_keep_every_extreme(api: LiveApi, axis: str) -> None:
    """Wide buckets end where a block of 64 steps does, and begin where the series does."""
    row = api.add_run()
    draw = random.Random(2)
    first, last = 1_000, 1_000 + 3 * 4_999
    point = {"run_number": row.number, "name": "loss"}
    rows: list[dict[str, Any]] = [
        point | {"step": step, "epoch": step / 10, "time": 5.0 * step, "value": draw.gauss(0, 1)}
        for step in range(first, last + 1, 3)
    ]
    rows[-2]["value"] = rows[-3]["value"] = 50.0
    api.add_points(rows)
    num_buckets = 20
    (loss,) = series(api, row.id, max_points=2 * num_buckets + 2, axis=axis).series
    assert loss.total == len(rows)
    assert len(loss.step) <= 2 * num_buckets + 2
    assert (loss.step[0], loss.step[-1]) == (first, last)
    by_step = {one["step"]: one for one in rows}
    assert loss.value == [by_step[step]["value"] for step in loss.step]
    assert loss.time == [by_step[step]["time"] for step in loss.step]
    assert rows[-3]["step"] in loss.step
    blocks: dict[int, list[dict[str, Any]]] = {}
    for one in rows:
        blocks.setdefault(one["step"] // 64, []).append(one)
    buckets: dict[int, list[dict[str, Any]]] = {}
    width = last // 64 - first // 64 + 1
    for block, inside in blocks.items():
        passed = inside[0]["time"] - rows[0]["time"]
        by_time = int(passed / (rows[-1]["time"] - rows[0]["time"]) * num_buckets)
        by_place = (block - first // 64) * num_buckets // width
        buckets.setdefault(by_time if axis == "time" else by_place, []).extend(inside)
    assert len(buckets) == num_buckets
    expected = {first, last}
    for inside in buckets.values():
        expected.add(min(inside, key=lambda one: (one["value"], one["step"]))["step"])
        expected.add(min(inside, key=lambda one: (-one["value"], one["step"]))["step"])
    assert loss.step == sorted(expected)


def test_a_series_of_one_moment_is_thinned(api: LiveApi) -> None:
    row = api.add_run()
    point = {"run_number": row.number, "name": "loss", "epoch": 1.0, "time": 5.0}
    api.add_points([point | {"step": i, "value": float(i % 7)} for i in range(50)])
    (loss,) = series(api, row.id, max_points=8, axis="time").series
    assert (loss.step[0], loss.step[-1], loss.total) == (0, 49, 50)
    assert {0.0, 6.0} <= set(loss.value)


def test_several_runs_take_as_many_statements_as_one(api: LiveApi) -> None:
    runs = [api.add_run() for _ in range(6)]
    for index, row in enumerate(runs):
        api.add_metrics(row.number, "loss", [float((i * 7 + index) % 31) for i in range(300)])
        api.add_metrics(row.number, "val_loss", [float(index)] * (index + 1))
    api.add_metrics(runs[2].number, "lr", [1.0])
    chosen = [runs[4], runs[0], runs[2]]
    params: dict[str, Any] = {"max_points": 20}
    answer = api.client.get("/metrics", params=params | {"runs": ",".join(r.id for r in chosen)})
    found = MetricsOfRuns.model_validate_json(answer.content).runs
    assert [metrics.run_id for metrics in found] == [row.id for row in chosen]
    assert found == [series(api, row.id, max_points=20) for row in chosen]
    assert [one.name for one in found[2].series] == ["loss", "lr", "val_loss"]
    assert len(found[0].series[0].step) <= 20
    one, all_of_them = (
        count_statements(api, {row.number: row.id for row in some}) for some in (runs[:1], runs)
    )
    assert one == all_of_them <= 4


def count_statements(api: LiveApi, runs: dict[int, str]) -> int:
    statements: list[str] = []
    with api.sessions() as session:
        connection = session.connection()

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(connection, "before_cursor_execute", note)
        get_metrics(session, runs, names=["loss", "val_loss"], max_points=20)
        event.remove(connection, "before_cursor_execute", note)
    return len(statements)


def test_what_cannot_be_asked_of_several_runs_is_named(api: LiveApi) -> None:
    run_id = api.submit()
    unknown = api.client.get("/metrics", params={"runs": f"{run_id},{'0' * 12}"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "run_not_found")
    assert "0" * 12 in unknown.json()["detail"]
    many = ",".join(f"{number:012x}" for number in range(51))
    for runs in ("", "x", f"{run_id},", many):
        bad = api.client.get("/metrics", params={"runs": runs})
        assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "runs")
    twice = api.client.get("/metrics", params={"runs": f"{run_id},{run_id}"})
    assert len(MetricsOfRuns.model_validate_json(twice.content).runs) == 1


def test_an_answer_has_a_most_of_points_and_says_what_would_be_valid(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.metrics.series.MOST_POINTS", 100)
    rows = [api.add_run() for _ in range(3)]
    for row in rows:
        api.add_metrics(row.number, "loss", [float(i) for i in range(60)])
    params: dict[str, str | int] = {"runs": ",".join(row.id for row in rows)}
    too_many: tuple[dict[str, str | int], ...] = (
        {"max_points": 50},
        {"max_points": 100_000},
        {},
        {"max_points": 50, "format": "csv"},
    )
    for points in too_many:
        bad = api.client.get("/metrics", params=params | points)
        assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "max_points")
        assert "valid are up to 33, or fewer" in bad.json()["detail"]
    good = api.client.get("/metrics", params=params | {"max_points": 33})
    assert good.status_code == 200, good.text
    whole = api.client.get("/metrics", params=params | {"format": "csv"})
    assert len(whole.text.splitlines()) == 1 + 3 * 60, "as CSV it is sent while it is read"
    monkeypatch.setattr("api.metrics.series.MOST_POINTS", 11)
    bad = api.client.get("/metrics", params=params | {"max_points": 4})
    assert "valid are fewer runs or names" in bad.json()["detail"]
    one = api.client.get(f"/runs/{rows[0].id}/metrics", params={"max_points": 11})
    assert one.status_code == 200, one.text


def test_csv_holds_every_point(api: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.metrics.as_csv._CHUNK_ROWS", 7)
    row, other = api.add_run(), api.add_run()
    api.add_metrics(row.number, "a,b", [0.1 + i / 3 for i in range(20)])
    api.add_metrics(row.number, "loss", [float(i) for i in range(14)])
    api.add_metrics(other.number, "loss", [1e-300])
    answer = api.client.get(f"/runs/{row.id}/metrics", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(lines[0]) == ["run", "name", "step", "epoch", "time", "value"]
    assert {line["run"] for line in lines} == {row.id}
    assert [float(line["value"]) for line in lines if line["name"] == "a,b"] == [
        0.1 + i / 3 for i in range(20)
    ]
    assert [int(line["step"]) for line in lines if line["name"] == "loss"] == list(range(1, 15))
    params = {"runs": f"{other.id},{row.id}", "format": "csv", "names": "loss"}
    both = list(csv.DictReader(io.StringIO(api.client.get("/metrics", params=params).text)))
    assert [line["run"] for line in both] == [other.id] + [row.id] * 14
    assert float(both[0]["value"]) == 1e-300
    few = api.client.get("/metrics", params=params | {"max_points": 4}).text
    assert [line["step"] for line in csv.DictReader(io.StringIO(few))] == ["1", "1", "14"]
    with_json = api.client.get(f"/runs/{row.id}/metrics", params={"format": "json"})
    assert Metrics.model_validate_json(with_json.content).series
