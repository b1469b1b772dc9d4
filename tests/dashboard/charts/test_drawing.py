from __future__ import annotations

import numpy as np
import pytest

from dashboard.charts import drawing
from dashboard.elements.palette import RUN_COLORS, run_color
from pmae.metrics import BAND_METRICS
from pmae.schema import Metrics, MetricSeries, Spectrum


def series(name: str, values: list[float]) -> MetricSeries:
    steps = list(range(1, len(values) + 1))
    return MetricSeries(
        name=name,
        step=steps,
        epoch=[step / 2 for step in steps],
        time=[float(step) for step in steps],
        value=values,
        total=len(values),
    )


def test_smoothing_is_unbiased_at_the_start_and_weight_zero_changes_nothing() -> None:
    values = [4.0, 2.0, 6.0]
    assert drawing.smoothed(values, 0.0) == values
    smooth = drawing.smoothed(values, 0.5)
    assert smooth[0] == 4.0
    assert smooth[1] == pytest.approx((0.5 * 4 + 2) / 1.5)
    assert drawing.smoothed([3.0] * 20, 0.9) == pytest.approx([3.0] * 20)


def test_only_steps_are_smoothed_and_absent_metrics_left_out() -> None:
    metrics = Metrics(
        run_id="a", series=[series("loss", [1.0, 0.0, 1.0]), series("val_loss", [1.0, 0.0])]
    )
    frame = drawing.curve_frame(metrics, drawing.LOSS_LINES, smoothing=0.5)
    assert list(frame["line"].unique()) == ["train, by step", "validation"]
    assert list(frame[frame["line"] == "validation"]["value"]) == [1.0, 0.0]
    assert frame["value"].iloc[1] not in (0.0, 1.0)
    assert drawing.curve_frame(metrics, drawing.PROBE_LINES).empty


def test_curves_keep_their_zoom_and_take_the_runs_colour() -> None:
    metrics = Metrics(run_id="a", series=[series("val_loss", [1.0, 0.5])])
    frame = drawing.curve_frame(metrics, drawing.LOSS_LINES)
    spec = drawing.curves(
        frame, drawing.LOSS_LINES, color=run_color(3), title="Loss", log=True
    ).to_dict()
    zoom = next(p for p in spec["params"] if p["name"] == drawing.ZOOM)
    assert zoom["bind"] == "scales"
    assert zoom["select"]["encodings"] == ["x"]
    lines = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert len(lines) == len(drawing.LOSS_LINES)
    assert all(layer["encoding"]["y"]["scale"]["type"] == "log" for layer in lines)
    assert lines[0]["encoding"]["color"]["scale"]["range"][-1] == run_color(3)


def test_a_share_far_below_zero_does_not_squeeze_the_rest() -> None:
    metrics = Metrics(run_id="a", series=[series("val_explained_variance", [-30.0, 0.1, 0.4])])
    chart = next(each for each in drawing.CURVE_CHARTS if each.key == "explained")
    frame = drawing.curve_frame(metrics, chart.lines)
    spec = drawing.curves(
        frame, chart.lines, color="#000000", title=chart.title, percent=True, least=chart.least
    ).to_dict()
    lines = [layer for layer in spec["layer"] if layer["mark"]["type"] == "line"]
    assert all(layer["encoding"]["y"]["scale"]["domainMin"] == -1 for layer in lines)
    assert all(layer["mark"]["clip"] for layer in spec["layer"])
    above = frame[frame["value"] > -1]
    spec = drawing.curves(
        above, chart.lines, color="#000000", title=chart.title, least=chart.least
    ).to_dict()
    assert "domainMin" not in spec["layer"][0]["encoding"]["y"]["scale"]


@pytest.mark.parametrize(
    ("options", "expected"), [({}, "~r"), ({"log": True}, "~g"), ({"percent": True}, "%")]
)
def test_the_numbers_of_a_linear_axis_have_no_exponent(
    options: dict[str, bool], expected: str
) -> None:
    metrics = Metrics(run_id="a", series=[series("val_rankme", [10.0, 50.0])])
    frame = drawing.curve_frame(metrics, drawing.RANK_LINES)
    lines = drawing.lines_of(frame, drawing.RANK_LINES)
    spec = drawing.curves(frame, lines, color="#000000", title="Rank", **options).to_dict()
    assert spec["layer"][0]["encoding"]["y"]["axis"]["format"] == expected


def test_each_band_of_the_spectrum_has_a_line_of_its_own() -> None:
    chart = next(each for each in drawing.CURVE_CHARTS if each.key == "bands")
    assert {line.metric for line in chart.lines} < BAND_METRICS
    assert len({line.dash for line in chart.lines}) == len(chart.lines) == 4
    assert chart.percent


def test_a_runs_colour_goes_by_its_number() -> None:
    assert run_color(1) == RUN_COLORS[0]
    assert run_color(len(RUN_COLORS) + 1) == RUN_COLORS[0]


def drawn(ratio: list[float], *, cumulative: bool) -> list[tuple[int, float]]:
    facts = Spectrum(
        basis_digest="d",
        kind="pca",
        channels=1,
        resolution=8,
        num_components=len(ratio),
        explained_variance_ratio=ratio,
    )
    chart = drawing.spectrum(facts, color="#000000", cumulative=cumulative)
    (points,) = chart.to_dict()["datasets"].values()
    return [(point["component"], point["value"]) for point in points]


def test_a_spectrum_leaves_rounding_errors_out() -> None:
    ratio = [0.7, 0.3, 1e-17, 0.0]
    assert drawn(ratio, cumulative=False) == [(1, 0.7), (2, 0.3)]
    assert [value for _, value in drawn(ratio, cumulative=True)] == pytest.approx([0.7, 1, 1, 1])


def test_a_long_spectrum_is_thinned_evenly_on_a_logarithmic_axis() -> None:
    ratio = (np.ones(12_288) / 12_288).tolist()
    components = [component for component, _ in drawn(ratio, cumulative=False)]
    assert len(components) <= 400
    assert components[:5] == [1, 2, 3, 4, 5]
    assert components[-1] == 12_288
