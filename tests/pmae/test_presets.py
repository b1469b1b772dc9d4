"""Presets: all can be run, and say what they are."""

from __future__ import annotations

import re

import pytest

from pmae.errors import SpecError
from pmae.presets import (
    ELPV_PRESETS,
    PAPER_PRESETS,
    PRESETS,
    SMALL_PRESETS,
    get_preset,
)
from pmae.published import DATASETS, ROWS, published, published_top1
from pmae.spec import ExperimentSpec, FinetuneSpec, resolve


def test_names_are_their_own_and_every_preset_resolves() -> None:
    families = (SMALL_PRESETS, ELPV_PRESETS, PAPER_PRESETS)
    assert len(PRESETS) == sum(map(len, families))
    for name, preset in PRESETS.items():
        assert preset.name == preset.spec.name == name
        assert re.fullmatch(r"[a-z0-9_.]{1,64}", name)
        resolved = resolve(preset.spec)
        assert resolve(resolved) == resolved
        written = preset.spec.model_dump(mode="json", exclude_unset=True)
        assert resolve(ExperimentSpec.model_validate(written)) == resolved
        assert name in preset.command
        assert preset.summary
        assert preset.cost
        assert preset.expect


def test_every_row_and_column_of_the_table_has_its_presets() -> None:
    for dataset in DATASETS:
        for method, variant in ROWS:
            names = [f"{dataset}_{method}_{variant}"]
            if variant == "ocl":
                names = [f"{dataset}_{method}_ratio_0.{tenth}" for tenth in range(1, 10)]
            for name in names:
                spec = resolve(get_preset(name).spec)
                assert (spec.method, spec.dataset.name) == (method, dataset)
                assert (spec.model.num_heads, spec.epochs, spec.batch_size) == (12, 800, 512)
                protocols = [evaluation.protocol for evaluation in spec.evaluations]
                assert protocols == ["linear", "mlp", "finetune"]
                finetune = spec.evaluations[2]
                assert isinstance(finetune, FinetuneSpec)
                assert (finetune.weight_decay, finetune.warmup_epochs) == (0.05, 5)
    assert resolve(get_preset("cifar10_mae_std").spec).masking.ratio == 0.75
    assert resolve(get_preset("cifar10_pmae_rd").spec).masking.ratio == (0.1, 0.9)
    assert resolve(get_preset("pathmnist_pmae_ratio_0.3").spec).masking.ratio == 0.3


def test_an_unknown_name_is_told_the_nearest_ones() -> None:
    with pytest.raises(SpecError, match=r"pathmnist_pmae_ratio_0\.3") as caught:
        get_preset("pathmnist_pmae_ratio_0.33")
    assert len(str(caught.value)) < 500


def test_what_is_published_is_labelled_so() -> None:
    assert len(list(published())) == 3 * 5 * 5
    assert published_top1("pmae", "ocl", "bloodmnist") == {
        "linear": 95.5,
        "mlp": 92.5,
        "finetune": 98.1,
    }
    for preset in PAPER_PRESETS:
        assert preset.expect.startswith(("published", "no published figure"))
        assert "not measured here" in preset.expect
