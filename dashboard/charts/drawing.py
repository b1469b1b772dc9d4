"""Altair charts of the API's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import altair as alt
import numpy as np
import pandas as pd

from pmae.metrics import BANDS, CHARTS, METRICS, band_title
from pmae.schema import Metrics, MetricSeries, Reconstruction, Spectrum

HEIGHT = 330
ZOOM = "zoom"
"""Name of the selection that keeps the zoom while the data changes."""
NOTHING = 1e-7
"""Below this fraction of the largest, a component's variance is a rounding error."""


@dataclass(frozen=True)
class Line:
    """Line style of a metric.

    Attributes:
        metric: its name in the API.
        label: its name in the legend.
        dash: dash pattern of the line.
        width: of the line, in pixels.
        color: of the line; None: the run's.
    """

    metric: str
    label: str
    dash: tuple[int, ...] = (1, 0)
    width: float = 2.0
    color: str | None = None

    @classmethod
    def of_split(cls, metric: str) -> Self:
        """Make the line of an epoch metric; lines of the train split are dashed."""
        if METRICS[metric].split == "train":
            return cls(metric, "train", dash=(5, 3))
        return cls(metric, "validation")


@dataclass(frozen=True)
class CurveChart:
    """A chart of the run page.

    Attributes:
        key: of its widget.
        title: above it.
        lines: of metrics of one unit.
        least: lower end of the y axis, even where a line goes lower; None: the lowest point.
        main: whether it is seen at once, not among the details.
    """

    key: str
    title: str
    lines: tuple[Line, ...]
    least: float | None = None
    main: bool = False

    @property
    def percent(self) -> bool:
        """True if its values are fractions."""
        return METRICS[self.lines[0].metric].is_fraction


QUIET = "#9aa3b2"
"""Grey of background lines, visible on light and dark themes."""
_BEHIND = {"width": 1.0, "color": QUIET}
_DASHED = {"dash": (5, 3)}


def _styled(chart: str, *styles: Mapping[str, Any]) -> tuple[Line, ...]:
    """Make the lines of a chart: a style for each of its metrics, in their order."""
    pairs = zip(CHARTS[chart], styles, strict=True)
    return tuple(Line(metric, **style) for metric, style in pairs)


def _by_split(chart: str) -> tuple[Line, ...]:
    return tuple(map(Line.of_split, CHARTS[chart]))


def _over_knn(chart: str) -> tuple[Line, ...]:
    knn, *probe = CHARTS[chart]
    return (Line(knn, "k-NN, validation", width=1.0, color=QUIET), *map(Line.of_split, probe))


PROBE_LINES = _over_knn("probe")
LOSS_LINES = _styled(
    "loss",
    {"label": "train, by step", **_BEHIND},
    {"label": "train, by epoch", **_DASHED},
    {"label": "validation"},
)
_BAND_DASHES = ((1, 0), (9, 3), (4, 3), (1, 3))
BAND_LINES = _styled(
    "bands",
    *(
        {"label": band_title(band), "dash": dash}
        for band, dash in zip(BANDS, _BAND_DASHES, strict=True)
    ),
)
RANK_LINES = _styled(
    "rank",
    {"label": "RankMe", **_DASHED},
    {"label": "without the mean"},
    {"label": "RankMe, train", **_DASHED},
    {"label": "without the mean, train"},
)
SHARE_LINES = _styled(
    "share",
    {"label": "first ten", **_DASHED},
    {"label": "first"},
    {"label": "first ten, train", **_DASHED},
    {"label": "first, train"},
)
CURVE_CHARTS = (
    CurveChart("loss", "Loss", LOSS_LINES, main=True),
    CurveChart(
        "explained", "Explained masked variance", _by_split("explained"), least=-1.0, main=True
    ),
    CurveChart("probe", "Online probe and k-NN, top-1", PROBE_LINES, main=True),
    CurveChart("label_probe", "Online probe and k-NN, labels", _over_knn("label_probe"), main=True),
    CurveChart("bands", "Explained masked variance by band", BAND_LINES, least=-1.0),
    CurveChart("probe_loss", "Online probe, loss", _by_split("probe_loss")),
    CurveChart("rank", "Effective rank of the features", RANK_LINES),
    CurveChart("share", "Variance in the features' first components", SHARE_LINES),
)
"""Charts of the run page, in order; those without data are left out."""
CURVE_METRICS = tuple(line.metric for chart in CURVE_CHARTS for line in chart.lines)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Bias-corrected exponential moving average; weight 0 changes nothing."""
    result, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        result.append(total / norm)
    return result


def curve_frame(metrics: Metrics, lines: Sequence[Line], *, smoothing: float = 0.0) -> pd.DataFrame:
    """Build the lines' points, one per row: epoch, step, value, line. Only steps are smoothed."""
    found = {series.name: series for series in metrics.series}
    frames = [
        _points(found[line.metric], line, smoothing if line.metric == "loss" else 0.0)
        for line in lines
        if line.metric in found and found[line.metric].step
    ]
    if not frames:
        return pd.DataFrame({"epoch": [], "step": [], "value": [], "line": []})
    return pd.concat(frames, ignore_index=True)


def lines_of(frame: pd.DataFrame, lines: Sequence[Line]) -> list[Line]:
    """Select the lines that have points in a frame."""
    found = set(frame["line"])
    return [line for line in lines if line.label in found]


def _points(series: MetricSeries, line: Line, smoothing: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": np.asarray(series.epoch, dtype=np.float32),
            "step": series.step,
            "value": np.asarray(smoothed(series.value, smoothing), dtype=np.float32),
            "line": line.label,
        }
    )


def curves(
    frame: pd.DataFrame,
    lines: Sequence[Line],
    *,
    color: str,
    title: str,
    log: bool = False,
    percent: bool = False,
    least: float | None = None,
) -> alt.LayerChart:
    """Draw lines over epochs in one run's colour; wheel and drag zoom and pan the epochs.

    Values below ``least`` are clipped.
    """
    y_scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False)
    if least is not None and frame["value"].min() < least:
        y_scale = alt.Scale(zero=False, domainMin=least, nice=False)
    base = alt.Chart(frame).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(grid=False, tickMinStep=1)),
        y=alt.Y(
            "value:Q",
            title=None,
            scale=y_scale,
            axis=alt.Axis(format=_axis_format(log=log, percent=percent), tickCount=6),
        ),
    )
    layers = [_drawn(base, line, lines, color) for line in lines]
    zoom = alt.selection_interval(bind="scales", encodings=["x"], name=ZOOM)
    layers[0] = layers[0].add_params(zoom)
    layers.append(_hovered(base, color, ".1%" if percent else ".4~g"))
    return alt.LayerChart(layer=layers, height=HEIGHT, title=_title(title))


def _axis_format(*, log: bool, percent: bool) -> str:
    """Return the number format of an axis: on a linear one ``~g`` would write 50 as 5e+1."""
    if percent:
        return "%"
    return "~g" if log else "~r"


def _drawn(base: alt.Chart, line: Line, lines: Sequence[Line], color: str) -> alt.Chart:
    """Draw one line, identified by colour and dash pattern, also in the legend."""
    legend = alt.Legend(
        title=None, orient="top", offset=8, symbolType="stroke", symbolOpacity=1, symbolSize=320
    )
    labels = [line.label for line in lines]
    colors = alt.Scale(domain=labels, range=[line.color or color for line in lines])
    dashes = alt.Scale(domain=labels, range=[list(line.dash) for line in lines])
    drawn: alt.Chart = (
        base.transform_filter(alt.FieldEqualPredicate(field="line", equal=line.label))
        .mark_line(clip=True, strokeWidth=line.width)
        .encode(
            color=alt.Color("line:N", scale=colors, legend=legend),
            strokeDash=alt.StrokeDash("line:N", scale=dashes, legend=legend),
        )
    )
    return drawn


def _hovered(base: alt.Chart, color: str, value_format: str) -> alt.Chart:
    """Mark the point nearest to the pointer, with its values."""
    hover = alt.selection_point(
        name="hover", nearest=True, on="pointermove", clear="pointerout", empty=False
    )
    hovered: alt.Chart = (
        base.mark_point(filled=True, size=45, color=color, clip=True)
        .encode(
            opacity=alt.condition(hover, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("line:N", title="curve"),
                alt.Tooltip("epoch:Q", format=".2~f"),
                alt.Tooltip("step:Q", format=","),
                alt.Tooltip("value:Q", format=value_format),
            ],
        )
        .add_params(hover)
    )
    return hovered


def _title(text: str) -> alt.TitleParams:
    return alt.TitleParams(text, anchor="start", fontSize=14, fontWeight=600, offset=4)


def spectrum(facts: Spectrum, *, color: str, cumulative: bool) -> alt.Chart:
    """Draw the explained variance of each component on logarithmic axes, or its running sum."""
    ratio = np.asarray(facts.explained_variance_ratio, dtype=np.float64)
    component = np.arange(1, len(ratio) + 1)
    values = np.cumsum(ratio) if cumulative else ratio
    shown = _thinned(len(ratio))
    if not cumulative:  # a logarithm of rounding errors would squeeze everything else
        shown = shown[ratio[shown] > NOTHING * ratio.max()]
    title = "Cumulative explained variance" if cumulative else "Explained variance ratio"
    if cumulative:
        y_scale, y_axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%", tickCount=6)
    else:
        y_scale = alt.Scale(type="log", nice=False)
        y_axis = alt.Axis(format="~g", values=_decades(values[shown]))
    frame = pd.DataFrame({"component": component[shown], "value": values[shown]})
    chart = alt.Chart(frame, height=HEIGHT, title=_title(title))
    drawn: alt.Chart = chart.mark_line(
        color=color, point={"color": color, "size": 14}, clip=True
    ).encode(
        x=alt.X(
            "component:Q",
            title="component, counted from 1",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(grid=False, format=","),
        ),
        y=alt.Y("value:Q", title=None, scale=y_scale, axis=y_axis),
        tooltip=[
            alt.Tooltip("component:Q", format=","),
            alt.Tooltip("value:Q", format=".4~%", title=title.lower()),
        ],
    )
    return drawn


def residuals(result: Reconstruction, *, color: str) -> alt.Chart:
    """Draw the mean squared residual and target of each masked component or patch."""
    part = "component" if result.parts == "components" else "patch"
    found = result.residuals
    shown = _thinned(len(found.index))
    index = np.asarray(found.index)[shown]
    columns = {"residual": found.residual, "target": found.target}
    frame = pd.concat(
        [
            pd.DataFrame({part: index, "of": name, "value": np.asarray(values)[shown]})
            for name, values in columns.items()
        ]
    )
    frame = frame[frame["value"] > 0]  # a logarithm shows no zero
    chart = alt.Chart(frame, height=HEIGHT, title=_title(f"Residual of each masked {part}"))
    drawn: alt.Chart = chart.mark_point(filled=True, size=26, opacity=1).encode(
        x=alt.X(
            f"{part}:Q",
            title=f"{part}, counted from 0",
            scale=alt.Scale(type="symlog", domain=[0, result.num_total - 1]),
            axis=alt.Axis(grid=False, format=","),
        ),
        y=alt.Y(
            "value:Q",
            title="mean square",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(format="~g", tickCount=6),
        ),
        color=alt.Color(
            "of:N", title=None, scale=alt.Scale(domain=list(columns), range=[color, QUIET])
        ),
        tooltip=[f"{part}:Q", "of:N", alt.Tooltip("value:Q", format=".4~g")],
    )
    return drawn


def _thinned(length: int, most: int = 400) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Choose positions to draw: all, or about ``most``, evenly spaced on a logarithmic axis."""
    if length <= most:
        return np.arange(length, dtype=np.int64)
    return np.unique(np.geomspace(1, length, most).astype(np.int64)) - 1


def _decades(values: np.ndarray) -> list[float]:
    """Return the powers of ten around positive values."""
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))
    return [10.0**power for power in range(int(low), int(high) + 1)]
