"""The paper's table from a folder of runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pmae.cli.app import app
from pmae.report.collect import read_runs
from pmae.report.table import NOT_COMPARABLE, as_text, best_epoch_rows, measured_rows, variants
from pmae.runs.events import EndEvent, EvaluationEvent
from pmae.runs.layout import RunDir
from pmae.spec import (
    DatasetSpec,
    EvaluateSpec,
    ExperimentSpec,
    LinearProbeSpec,
    MaskingSpec,
    resolve,
)


def add_run(
    folder: Path,
    name: str,
    top1: float,
    val_top1: float,
    *,
    best: float | None = None,
    extra: Any = (),
    **fields: Any,
) -> None:
    """A run as the trainer leaves it."""
    spec = resolve(
        ExperimentSpec(
            name=name,
            dataset=DatasetSpec(name="digits"),
            evaluations=(LinearProbeSpec(baselines=("raw_pixels",)),),
            **fields,
        )
    )
    run = RunDir(folder / name)
    lease = run.lease(1)
    lease.path.mkdir(parents=True)
    run.spec.write_text(spec.model_dump_json())
    evaluation = spec.evaluations[0].model_dump(mode="json")
    keys = {"linear/encoder": top1, "linear/raw_pixels": 0.99, "linear/encoder@3": 0.98}
    events = [
        EvaluationEvent(
            key=key,
            protocol="linear",
            features="raw_pixels" if "raw" in key else "encoder",
            step=9,
            epoch=800,
            top1=figure,
            details={"val_top1": val_top1, "spec": evaluation}
            | ({} if best is None else {"best_epoch": {"top1": best}}),
        )
        for key, figure in keys.items()
    ]
    lines = [event.model_dump_json() for event in (*events, *extra, EndEvent(step=9))]
    lease.events.write_text("".join(f"{line}\n" for line in lines) + '{"type": "eval')


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    # The ratio that is best on validation (0.2) is not the one that is best on test (0.3).
    for seed, top1 in enumerate((0.90, 0.92)):
        add_run(tmp_path, f"a{seed}", top1, 0.9, masking=MaskingSpec(ratio=0.2), seed=seed)
    add_run(tmp_path, "b", 0.95, 0.8, masking=MaskingSpec(ratio=0.3))
    add_run(tmp_path, "c", 0.7, 0.7, masking=MaskingSpec(ratio=(0.1, 0.9)))
    add_run(tmp_path / "deeper", "d", 0.6, 0.6, method="mae")
    transfer = EvaluationEvent(
        key="knn/encoder",
        protocol="knn",
        features="encoder",
        step=9,
        epoch=800,
        top1=0.5,
        details={"spec": {"dataset": {"name": "cifar10"}}},
    )
    add_run(
        tmp_path, "e", 0.65, 0.65, method="mae", masking=MaskingSpec(ratio=0.5), extra=[transfer]
    )
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "spec.json").write_text("{")
    return tmp_path


MEASURED = """\
measured here, top-1 % on test, mean ± standard deviation over seeds
probe   method         digits
-----------------------------
linear  MAE std      60.0 (1)
linear  MAE ocl      65.0 (1)
linear  PMAE ocl  91.0 ± 1.4 (2)
linear  PMAE rd      70.0 (1)

In brackets: number of runs, a seed each.

NOTE

linear, MAE ocl, digits: the best on validation of 2 configurations, ratio 0.5.

linear, PMAE ocl, digits: the best on validation of 2 configurations, ratio 0.2.
"""


def test_text(runs: Path) -> None:
    lines = as_text(measured_rows(read_runs(runs))).splitlines()
    expected = MEASURED.replace("NOTE", NOT_COMPARABLE).splitlines()
    assert [line.split() for line in lines if "---" not in line] == [
        line.split() for line in expected if "---" not in line
    ]


def test_a_method_that_is_not_the_papers_stands_below_its_rows(runs: Path) -> None:
    add_run(runs, "other", 0.5, 0.5)
    spec = runs / "other" / "spec.json"
    spec.write_text(spec.read_text().replace('"method":"pmae"', '"method":"other"'))
    rows = measured_rows(read_runs(runs))
    assert [row.method for row in rows] == ["mae", "mae", "pmae", "pmae", "other"]
    *_, last = (line for line in as_text(rows).splitlines() if line.startswith("linear "))
    assert last.split() == ["linear", "other", "ocl", "50.0", "(1)"]


def test_csv_says_whose_each_figure_is(runs: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(runs), "--format", "csv"])
    assert result.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(result.output)))
    assert {row["source"] for row in rows} == {"published", "measured"}
    measured = [row for row in rows if row["source"] == "measured"]
    assert len(measured) == 4
    assert measured[2] == {
        "source": "measured",
        "protocol": "linear",
        "method": "pmae",
        "variant": "ocl",
        "dataset": "digits",
        "top1": "91",
        "std": "1.414",
        "runs": "2",
        "ratio": "0.2",
        "candidates": "2",
    }
    assert not any(row["runs"] or row["std"] for row in rows if row["source"] == "published")


def test_latex_keeps_published_and_measured_apart(runs: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(runs), "--format", "latex"])
    published, measured = result.output.split(r"\end{tabular}")[:2]
    assert "published (arXiv 2502.06314" in published
    assert r"linear & PMAE ocl & 59.0 & 22.5 & 78.6 & 95.5 & 96.8 \\" in published
    assert r"tiny\_imagenet" in published
    assert "91.0" not in published
    assert r"linear & PMAE ocl & 91.0 $\pm$ 1.4 (2) \\" in measured


def test_without_runs_only_what_is_published_is_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["table", str(tmp_path)])
    assert "published" in result.output
    assert "measured here" not in result.output


def test_a_run_of_version_1_is_a_seed_of_the_configuration_that_it_meant(tmp_path: Path) -> None:
    for seed, top1 in enumerate((0.6, 0.8)):
        add_run(tmp_path, f"run{seed}", top1, 0.5)
    older, newer = (tmp_path / f"run{seed}" / "spec.json" for seed in range(2))
    stored = json.loads(older.read_bytes()) | {"version": 1}
    for name in ("loss", "monitor"):
        del stored[name]
    for name in ("count", "ratio_of", "predict"):
        del stored["masking"][name]
    del stored["dataset"]["std_floor"]
    older.write_text(json.dumps(stored))
    again = resolve(ExperimentSpec.model_validate(stored | {"seed": 1}))
    newer.write_text(again.model_dump_json())
    (row,) = measured_rows(read_runs(tmp_path))
    assert row.top1 == pytest.approx(70.0)
    assert (row.runs, row.candidates) == (2, 1)


def test_other_ratios_than_the_papers_are_none_of_its_rows() -> None:
    rows = {
        ("pmae", 0.2): ("ocl",),
        ("pmae", (0.1, 0.9)): ("rd",),
        ("pmae", (0.1, 0.2)): (),
        ("mae", 0.75): ("std", "ocl"),
    }
    for (method, ratio), expected in rows.items():
        assert variants(method, MaskingSpec(ratio=ratio)) == expected
    assert variants("pmae", MaskingSpec(ratio=0.2, ratio_of="components")) == ()
    assert variants("pmae", MaskingSpec(strategy="top", ratio=0.2)) == ()
    assert variants("mae", MaskingSpec(strategy="segmentation", mode="complete")) == ()


@pytest.mark.parametrize(
    ("step", "seed", "counts"), [(9, None, True), (9, 0, True), (9, 1, False), (6, 0, False)]
)
def test_a_later_evaluation_counts_if_it_is_of_the_end_and_by_the_same_seed(
    tmp_path: Path, step: int, seed: int | None, counts: bool
) -> None:
    parent = "0123456789ab"
    add_run(tmp_path, parent, 0.9, 0.9, masking=MaskingSpec(ratio=0.2))
    spec = EvaluateSpec.model_validate(
        {
            "checkpoint": f"{parent}/step-{step:08d}",
            "evaluations": [{"protocol": "knn"}],
            "seed": seed,
        }
    )
    run = RunDir(tmp_path / "fedcba987654")
    run.lease(1).path.mkdir(parents=True)
    run.spec.write_text(spec.model_dump_json())
    event = EvaluationEvent(
        key="knn/encoder", protocol="knn", features="encoder", step=step, epoch=800, top1=0.7
    )
    run.lease(1).events.write_text(event.model_dump_json() + "\n")
    found = {(each.protocol, each.top1) for each in read_runs(tmp_path)}
    assert found == {("linear", 0.9)} | ({("knn", 0.7)} if counts else set())


def test_the_published_scripts_way_stands_apart_and_chooses_on_test(tmp_path: Path) -> None:
    # On validation a ratio of 0.2 is the best, on test 0.3; each probe had better epochs before.
    for seed, best in enumerate((0.93, 0.95)):
        masking = MaskingSpec(ratio=0.2)
        add_run(tmp_path, f"a{seed}", 0.9, 0.9, best=best, masking=masking, seed=seed)
    add_run(tmp_path, "b", 0.92, 0.8, best=0.97, masking=MaskingSpec(ratio=0.3))
    add_run(tmp_path, "older", 0.6, 0.6, method="mae")
    runs = list(read_runs(tmp_path))
    (row,) = best_epoch_rows(runs)
    assert row.top1 == pytest.approx(97.0)
    assert (row.ratio, row.candidates) == (0.3, 2)
    result = CliRunner().invoke(app, ["table", str(tmp_path), "--measured-only"])
    ours, theirs = result.output.split("measured here, but as the published results script")
    assert "90.0 ± 0.0 (2)" in ours
    assert "97.0 (1)" in theirs
    assert " MAE" not in theirs.partition("In brackets")[0]
    assert "chosen on test images and too high" in theirs
    as_rows = CliRunner().invoke(app, ["table", str(tmp_path), "--format", "csv"])
    assert "measured_best_epoch,linear,pmae,ocl,digits,97" in as_rows.output
