"""The command that measures the small presets, on a run of seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.small import Outcome, rows, train
from pmae.runs.layout import RunDir
from tests.support.specs import TINY


def test_a_run_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMAE_HOME", str(tmp_path / "home"))
    spec = TINY.model_copy(update={"epochs": 1})
    first = train(spec, tmp_path / "run")
    assert first.cpu_seconds > 0
    assert set(first.test) == {"linear/encoder", "linear/raw_pixels"}
    assert all(0 < top1 <= 1 for top1 in (*first.test.values(), *first.val.values()))
    assert train(spec, tmp_path / "run") == first
    assert len(RunDir(tmp_path / "run").leases()) == 1
    with pytest.raises(RuntimeError, match="run of another spec"):
        train(spec.model_copy(update={"epochs": 2}), tmp_path / "run")


def test_a_row_has_mean_and_spread_of_the_seeds() -> None:
    outcomes = [
        Outcome(10 * n, {"linear/encoder": n / 10}, {"linear/encoder": 0.5}) for n in (1, 3)
    ]
    assert rows("some", outcomes) == [
        "| some | linear/encoder | 50.0 ± 0.0 | 20.0 ± 14.1 | 2 | 20 s |"
    ]
    assert rows("one", outcomes[:1]) == ["| one | linear/encoder | 50.0 | 10.0 | 1 | 10 s |"]
