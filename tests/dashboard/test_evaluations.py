"""Evaluations of a run, drawn."""

from __future__ import annotations

from typing import Any

from dashboard.charts import probe_curves
from dashboard.elements import formatting, markup
from pmae.schema import Evaluation


def evaluation(key: str, top1: float, epoch: float = 60, **details: Any) -> Evaluation:
    protocol, features = key.partition("@")[0].split("/")
    return Evaluation(
        key=key,
        protocol=protocol.partition("-")[0],
        features=features,
        step=1,
        epoch=epoch,
        split="test",
        top1=top1,
        details=details,
    )


def test_one_protocol_needs_no_name() -> None:
    html = markup.evaluations(
        [evaluation("linear/encoder", 0.9, top1_std=0.004), evaluation("linear/raw_pixels", 0.8)],
        "#123456",
    )
    assert "<th>trained encoder</th>" in html
    assert "90.0 % ± 0.4" in html
    assert "by block" not in html
    assert "Over the epochs" not in html


def test_a_curve_has_the_splits_that_there_are() -> None:
    curve = {"epochs": [1.0, 2.0], "train_loss": [0.5, 0.4], "test_loss": [0.7, 0.6]}
    frame = probe_curves.curve_frame(curve, "loss")
    assert list(frame["line"]) == ["train", "train", "test", "test"]
    assert list(frame["value"]) == [0.5, 0.4, 0.7, 0.6]
    assert list(frame["epoch"]) == [1, 2, 1, 2]


def test_a_balanced_accuracy_is_named_where_it_is_another_figure() -> None:
    unbalanced = evaluation("linear/encoder", 0.9, balanced_accuracy=0.7, top1_std=0.004)
    assert formatting.top1(unbalanced) == "90.0 % ± 0.4 (balanced 70.0 %)"
    for same in ({"balanced_accuracy": 0.895}, {}):
        assert formatting.top1(evaluation("linear/encoder", 0.9, **same)) == "90.0 %"


def test_protocols_layers_transfers_and_epochs_are_told_apart() -> None:
    layers = [
        {"layer": 1, "top1": 0.5, "val_top1": 0.55},
        {"layer": 2, "top1": 0.7, "val_top1": 0.75},
    ]
    transfer = {"dataset": {"name": "<b>"}}
    html = markup.evaluations(
        [
            evaluation("linear/encoder", 0.7, by_layer=layers),
            evaluation("linear/encoder@20", 0.4, epoch=20),
            evaluation("linear-2/encoder", 0.6, spec=transfer),
            evaluation("knn/encoder", 0.65),
        ],
        "#123456",
    )
    assert "<th>linear: trained encoder</th>" in html
    assert "<th>linear 2: trained encoder, on &lt;b&gt;</th>" in html
    assert "<th>k-NN: trained encoder</th>" in html
    assert "linear: trained encoder, by block" in html
    assert "75.0 %" in html
    over_epochs = html.partition("Over the epochs")[2]
    assert "40.0 %" in over_epochs
    assert "k-NN" not in over_epochs, "a single point is no curve"
    assert html.count("40.0 %") == 1


def test_the_label_of_a_protocol_has_its_number() -> None:
    assert formatting.protocol_label(evaluation("finetune-3/encoder", 0.1)) == "fine-tuning 3"
