"""The paper's table from a folder of runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pmae.cli.app import app
from pmae.events import EndEvent, EvaluationEvent
from pmae.layout import RunDir
from pmae.measured import read_runs
from pmae.spec import (
    DatasetSpec,
    EvaluateSpec,
    ExperimentSpec,
    LinearProbeSpec,
    MaskingSpec,
    resolve,
)
from pmae.table import as_text, measured_rows, variants


def add_run(
    folder: Path, name: str, top1: float, val_top1: float, *, extra: Any = (), **fields: Any
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
            details={"val_top1": val_top1, "spec": evaluation},
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

In brackets: how many runs, each with a seed of its own.

linear, MAE ocl, digits: the best on validation of 2 configurations, ratio 0.5.

linear, PMAE ocl, digits: the best on validation of 2 configurations, ratio 0.2.
"""


def test_text(runs: Path) -> None:
    lines = as_text(measured_rows(read_runs(runs))).splitlines()
    expected = MEASURED.splitlines()
    assert [line.split() for line in lines if "---" not in line] == [
        line.split() for line in expected if "---" not in line
    ]


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
