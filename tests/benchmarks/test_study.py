"""The study: what is tuned comes before what is compared, and the rule by which it counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.study.decide import compare, holm, paired_p
from benchmarks.study.design import (
    BASE_LR,
    DATASETS,
    FINALISTS,
    LEARNING_RATES,
    RATIOS,
    SEEDS,
    TUNING_SEEDS,
    StudyDataset,
)
from benchmarks.study.noise import NoiseMethod
from benchmarks.study.plan import Case, choose, equal_time_epochs, next_cases
from benchmarks.study.plots import write_plots
from benchmarks.study.records import Figure, Record, Results, spec_sha256
from benchmarks.study.report import write_tables
from pmae.basis.basis import Basis

DIGITS, FASHION, ELPV = DATASETS


def _figure(value: float, *, source: str = "encoder", val: float | None = None) -> Figure:
    checked = value if val is None else val
    return Figure("linear", "mean", source, 1.0, value, value, checked, checked)


def _record(case: Case, *figures: Figure) -> Record:
    spec = case.spec
    return Record(
        case.name, spec.seed, spec_sha256(spec), spec.dataset.name, spec.epochs, list(figures)
    )


def _of(cases: list[Case], dataset: StudyDataset) -> list[Case]:
    return [case for case in cases if case.spec.dataset.name == dataset.name]


def _preference(case: Case) -> float:
    """Validation figures by which PMAE's 0.2 and MAE's 0.6 win, and the highest learning rate."""
    masking, best = case.spec.masking, {"pmae": 0.2, "mae": 0.6}[case.spec.method]
    return 0.5 + 0.1 * (masking.ratio == best) + case.spec.optimizer.base_lr


def _tune(results: Results) -> None:
    """Record everything up to the choice, a stage at a time."""
    while cases := next_cases(results)[0]:
        for case in cases:
            assert case.name.startswith("tune/")
            assert case.spec.seed in TUNING_SEEDS
            # Test figures point the other way: nothing may be chosen by them.
            results.add(_record(case, _figure(1 - _preference(case), val=_preference(case))))


def test_ratios_come_first_then_learning_rates_at_the_best_then_the_finalists(
    tmp_path: Path,
) -> None:
    results = Results(tmp_path / "results.json")
    first, uncosted = next_cases(results)
    assert uncosted == []
    assert {case.spec.optimizer.base_lr for case in first} == {BASE_LR}
    ratios = {(c.spec.method, c.spec.masking.ratio) for c in _of(first, DIGITS)}
    assert ratios == {(method, ratio) for method, every in RATIOS.items() for ratio in every}

    _tune(results)
    for dataset in DATASETS:
        pmae, mae = (choose(results, dataset, method) for method in ("pmae", "mae"))
        assert pmae is not None
        assert mae is not None
        assert (pmae.ratio, pmae.base_lr) == (0.2, max(LEARNING_RATES))
        assert (mae.ratio, mae.base_lr) == (0.6, max(LEARNING_RATES))
    cases, uncosted = next_cases(results)
    assert cases == []
    assert len(uncosted) == len(DATASETS) * 2

    for dataset in DATASETS:
        results.add_cost(f"{dataset.name}/pmae", 0.03)
        results.add_cost(f"{dataset.name}/mae", 0.02)
    cases, _ = next_cases(results)
    assert len(_of(cases, FASHION)) == len(FINALISTS) * len(SEEDS)
    by_name = {case.name: case.spec for case in _of(cases, DIGITS)}
    assert by_name["final/digits/mae_time"].epochs == 150 == equal_time_epochs(results, DIGITS)
    assert by_name["final/digits/pmae_nearest"].masking.count == "nearest"
    assert by_name["final/digits/pmae"].masking.ratio == 0.2
    assert {case.spec.seed for case in cases} == set(SEEDS)
    noisy = [case.name for case in cases if case.noise]
    assert noisy == ["final/digits/noise"] * 6 + ["final/fashion_mnist/noise"] * 6

    # What is recorded is not run again, also after the file was read anew.
    results.add(_record(cases[0], _figure(0.8)))
    again, _ = next_cases(Results(tmp_path / "results.json"))
    assert [c.folder for c in again] == [c.folder for c in cases[1:]]


def test_the_rule_tells_apart_what_differs_on_the_same_seeds_and_nothing_else(
    tmp_path: Path,
) -> None:
    results = Results(tmp_path / "results.json")
    _tune(results)
    for dataset in DATASETS:
        results.add_cost(f"{dataset.name}/pmae", 0.03)
        results.add_cost(f"{dataset.name}/mae", 0.02)
    noise = np.random.default_rng(0)
    shared = noise.normal(0, 0.03, len(SEEDS))
    gain = {"pmae": 0.0, "mae": -0.05}
    for case in _of(next_cases(results)[0], DIGITS):
        name = case.name.rpartition("/")[2]
        # Seeds differ by far more than methods do; paired, three points stand out.
        value = 0.8 + shared[case.spec.seed] + gain.get(name, 0.0) + noise.normal(0, 0.003)
        untrained = _figure(value - 0.2 + noise.normal(0, 0.003), source="untrained_encoder")
        results.add(_record(case, _figure(value), untrained))
    found = {c.second: c for c in compare(results, DIGITS)}
    assert found["mae"].ahead == "pmae"
    assert found["mae"].difference == pytest.approx(5, abs=0.7)
    assert found["mae"].low < found["mae"].difference < found["mae"].high
    assert found["untrained"].ahead == "pmae"
    assert found["noise"].ahead is None

    write_tables(results, tmp_path / "tables.md")
    write_plots(results, tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "| pmae - mae | +" in text
    assert "not told apart" in text
    assert "0.2 (chosen)" in text
    assert (tmp_path / "digits-accuracy.svg").stat().st_size > 1000


def test_corrected_p_values() -> None:
    # The example of Holm's paper's method in R: p.adjust(c(.01, .04, .03, .005), "holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    ours, others = [3.0, 1.0, 2.5], [1.0, 1.5, 0.5]
    differences = [a - b for a, b in zip(ours, others, strict=True)]
    assert paired_p(differences) == pytest.approx(stats.ttest_rel(ours, others).pvalue)
    assert paired_p([0.0, 0.0]) == 1.0


def test_the_noise_has_the_energy_of_what_a_mask_would_have_hidden() -> None:
    generator = torch.Generator().manual_seed(0)
    components = torch.linalg.qr(torch.randn(256, 256, generator=generator)).Q.T.contiguous()
    spectrum = torch.linspace(2, 0.1, 256, dtype=torch.float64)
    method = NoiseMethod(Basis(components, spectrum / spectrum.sum()))
    images = torch.randn(64, 1, 16, 16, generator=generator)
    masked = torch.arange(256) < 50
    seen = method.project(images, masked).visible
    noise = seen - images
    hidden = method.masked_projection(images, masked).square().mean()
    assert float(noise.square().mean()) == pytest.approx(float(hidden), rel=0.05)
    # The masked components are seen.
    agreement = torch.nn.functional.cosine_similarity(
        method.masked_projection(seen, masked).flatten(),
        method.masked_projection(images, masked).flatten(),
        dim=0,
    )
    assert float(agreement) > 0.8
    # The same images get the same noise: a resumed run goes on alike.
    assert torch.equal(method.project(images, masked).visible, seen)
