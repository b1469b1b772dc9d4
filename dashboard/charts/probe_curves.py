"""Training curves of evaluations' classifiers: loss and accuracy over their epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.charts import drawing
from dashboard.charts.drawing import QUIET, Line
from dashboard.elements import formatting
from pmae.schema import Evaluation

_TITLES = {"accuracy": "Accuracy", "loss": "Loss"}


def lines(figure: str) -> tuple[Line, ...]:
    """Make the lines of a chart of ``accuracy`` or ``loss``."""
    return (
        Line(f"val_{figure}", "validation", color=QUIET),
        Line(f"train_{figure}", "train", dash=(5, 3)),
        Line(f"test_{figure}", "test"),
    )


def curve_frame(curve: Mapping[str, Sequence[float]], figure: str) -> pd.DataFrame:
    """Build a chart's points, one per row: epoch, step, value, line.

    Args:
        curve: ``curve`` of an evaluation's details; it may have no validation split.
        figure: ``accuracy`` or ``loss``.
    """
    epochs = list(curve["epochs"])
    frames = [
        pd.DataFrame(
            {"epoch": epochs, "step": epochs, "value": curve[line.metric], "line": line.label}
        )
        for line in lines(figure)
        if curve.get(line.metric)
    ]
    return pd.concat(frames, ignore_index=True)


def show(items: Sequence[Evaluation], color: str, key: str) -> None:
    """Draw charts of the final evaluations that train by epochs; nothing without any.

    Args:
        items: evaluations of one run.
        color: of the run.
        key: of the widgets, unique on the page.
    """
    found = {
        f"{formatting.protocol_label(item)}: {formatting.evaluation_label(item)}": item
        for item in items
        if "@" not in item.key and item.details.get("curve")
    }
    if not found:
        return
    with st.expander("Loss and accuracy of the classifiers over their epochs"):
        name = st.selectbox("Classifier", list(found), key=f"{key}_classifier")
        details: dict[str, Any] = found[name].details
        columns = st.columns(2, gap="medium")
        for column, (figure, title) in zip(columns, _TITLES.items(), strict=True):
            percent = figure == "accuracy"
            frame = curve_frame(details["curve"], figure)
            column.altair_chart(
                drawing.curves(
                    frame,
                    drawing.lines_of(frame, lines(figure)),
                    color=color,
                    title=title,
                    percent=percent,
                ),
                key=f"{key}_{figure}_chart",
                on_select="rerun",
                selection_mode=[drawing.ZOOM],
            )
        best = details.get("best_epoch")
        if best:
            st.caption(
                "The figure that counts is the last epoch's. The best of the epochs on test, as "
                f"the published results script takes it: {formatting.percent(best['top1'])}; it "
                "is chosen on test and overstates."
            )
