"""What metrics are called, and which way is better."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from pydantic import ValidationError

from dashboard.charts.drawing import CURVE_CHARTS
from pmae.metrics import (
    BANDS,
    BEST_METRICS,
    CHARTS,
    EPOCH_LOSS,
    FIGURES,
    LOSSES,
    METRICS,
    ONLINE_PROBE,
    RANKING,
)
from pmae.runs.retention import superfluous
from pmae.spec import CheckpointSpec
from pmae.training.epoch_sums import EpochSums
from tests.pmae.runs.test_retention import manifest


@pytest.mark.parametrize("accuracy", ["top1", "accuracy"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_figure_of_an_epoch_is_defined_and_drawn(split: str, accuracy: str) -> None:
    drawn = {line.metric for chart in CURVE_CHARTS for line in chart.lines}
    sums = EpochSums(BANDS)
    sums.add(torch.ones_like(sums.values))
    for name in sums.means(split, accuracy):
        assert METRICS[name].when == "epoch"
        assert METRICS[name].split == split
        assert name in drawn or "explained_variance" in name


def test_a_chart_holds_metrics_of_one_unit() -> None:
    for chart in CURVE_CHARTS:
        assert len({METRICS[line.metric].unit for line in chart.lines}) == 1


@pytest.mark.parametrize("name", BEST_METRICS)
def test_the_best_checkpoint_goes_by_the_metrics_direction(name: str) -> None:
    kept = [manifest(step, **{name: value}) for step, value in ((1, 0.2), (2, 0.9), (3, 0.5))]
    spec = CheckpointSpec(keep_last=1, keep_best=name)
    going = [one.step for one in superfluous(kept, spec, frozenset())]
    assert going == ([1] if METRICS[name].better == "higher" else [2])


@pytest.mark.parametrize("name", ["val_los", "lr", "loss", "top1"])
def test_a_metric_that_chooses_no_checkpoint_is_refused_with_those_that_do(name: str) -> None:
    with pytest.raises(ValidationError, match=r"valid are .*val_online_probe_accuracy"):
        CheckpointSpec.model_validate({"keep_last": 1, "keep_best": name})


def test_of_a_learning_rate_none_is_better() -> None:
    with pytest.raises(ValueError, match="no value of lr is better"):
        METRICS["lr"].goodness(0.1)


def test_every_name_that_is_looked_up_is_a_metric() -> None:
    looked_up = {*LOSSES, *FIGURES, *RANKING, EPOCH_LOSS, *ONLINE_PROBE, *chain(*CHARTS.values())}
    assert looked_up <= METRICS.keys()
    assert all(METRICS[name].better for name in RANKING)
    drawn = {chart.key: tuple(line.metric for line in chart.lines) for chart in CURVE_CHARTS}
    assert drawn == CHARTS
