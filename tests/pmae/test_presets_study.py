"""The study's presets say what the study measured."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.study.records import Results
from benchmarks.study.report import PROBES, by_preset, find
from benchmarks.study.runs import SEEDS, cases
from pmae.presets.study import MEASURED, STUDY_PRESETS

RESULTS = Results(Path(__file__).parents[2] / "docs" / "study" / "results.json")


def test_what_a_preset_says_to_expect_was_measured() -> None:
    groups = by_preset(RESULTS.records)
    assert set(groups) == set(MEASURED) == {preset.name for preset in STUDY_PRESETS}
    for name, runs in groups.items():
        assert [run.seed for run in runs] == list(SEEDS)
        for told, probe in zip(MEASURED[name], PROBES, strict=False):
            found = [m.top1 for run in runs if (m := find(run, probe, "encoder"))]
            assert told == round(100 * statistics.mean(found), 1)


def test_what_was_measured_is_of_the_presets_as_they_are() -> None:
    assert [case.name for case in cases([], list(SEEDS)) if not RESULTS.has(case.spec)] == []


def test_equal_computing_gives_mae_more_epochs() -> None:
    epochs = {preset.name: preset.spec.epochs for preset in STUDY_PRESETS}
    # Blocks times tokens of an epoch: 4 blocks encode, 2 decode; 5 tokens, of which MAE at 0.75
    # encodes 2, and 17 of which it encodes 5.
    assert epochs["study_digits_mae_0.75_compute"] == 200 == 120 * (4 * 5 + 10) // (4 * 2 + 10)
    assert epochs["study_fashion_mnist_mae_0.75_compute"] == round(12 * (68 + 34) / (20 + 34))
