"""Metric series: whole when short, thinned out without losing a spike when long."""

from __future__ import annotations

import random

import pytest

from pmae.schema import Metrics
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
