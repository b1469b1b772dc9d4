"""Presets: all can be run, and say what they are."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pmae.cli.app import app
from pmae.errors import SpecError
from pmae.presets import (
    FAMILIES,
    PRESETS,
    Preset,
    UnknownPresetError,
    get_preset,
    is_preset,
    load_spec,
)
from pmae.presets.paper import PAPER, PAPER_ALIASES
from pmae.report.published import DATASETS, ROWS, published, published_top1
from pmae.spec import ExperimentSpec, FinetuneSpec, resolve
from pmae.spec.catalog import DATASETS as CATALOG

PAPER_DATASETS = (*DATASETS, "clevr", "imagenet")
COMPONENT_VARIANTS = (
    "ratio=0.2",
    "ratio=0.1-0.9",
    "ratio=0.1-0.2",
    "strategy=top",
    "strategy=bottom",
    "strategy=block",
    "ratio_of=components",
    "ratio_of=components&ratio=0.1-0.9",
    "basis=pca_augmented",
    "basis=dct",
    "basis=random",
    "count=nearest",
    "scope=image",
)
"""What METHOD lists of PMAE's; the kernel basis is not for images of 224 pixels."""
SEGMENTATIONS = [
    f"predict={predict}&mode={mode}"
    for predict in ("background", "object")
    for mode in ("complete", "partial", "random")
]


def _checked(preset: Preset) -> ExperimentSpec:
    """That a preset can be run; its resolved spec."""
    assert re.fullmatch(r"[a-z0-9_.?=&-]{1,200}", preset.name)
    assert preset.spec.name
    resolved = resolve(preset.spec)
    assert resolve(resolved) == resolved
    written = preset.spec.model_dump(mode="json", exclude_unset=True)
    assert resolve(ExperimentSpec.model_validate(written)) == resolved
    again = get_preset(preset.name)
    assert (again.name, resolve(again.spec)) == (preset.name, resolved), "its name says it all"
    assert is_preset(preset.name)
    assert shlex.split(preset.command)[:3] == ["pmae", "train", preset.name]
    assert re.fullmatch(r"runs/[A-Za-z0-9._-]+", shlex.split(preset.command)[3])
    assert preset.summary
    assert preset.cost
    assert preset.expect
    return resolved


def test_every_preset_that_stands_for_itself_resolves() -> None:
    for name, preset in PRESETS.items():
        assert preset.name == preset.spec.name == name
        _checked(preset)
    for family in FAMILIES.values():
        assert _checked(get_preset(family.name)) == resolve(family.preset("").spec)
        assert get_preset(family.example).name.startswith("paper?")


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_every_variant_has_its_preset_on_every_data_set(dataset: str) -> None:
    variants = [f"method=pmae&{variant}" for variant in COMPONENT_VARIANTS]
    variants += [f"method=mae&ratio={ratio}" for ratio in ("0.75", "0.1-0.9", "0.3")]
    if dataset == "clevr":
        variants += [f"method=mae&strategy=segmentation&{each}" for each in SEGMENTATIONS]
    if dataset not in ("clevr", "imagenet"):
        variants += ["basis=kernel"]
    names = set()
    for variant in variants:
        preset = get_preset(f"paper?dataset={dataset}&{variant}")
        names.add(preset.name)
        spec = _checked(preset)
        assert spec.dataset.name == dataset
        assert (spec.resolution, spec.patch_size) == (
            CATALOG[dataset].resolution,
            CATALOG[dataset].patch_size,
        )
        assert (spec.model.num_heads, spec.epochs) == (12, 800)
        assert spec.batch_size == (128 if dataset == "clevr" else 512)
        asked = dict(pair.split("=") for pair in variant.split("&"))
        found: dict[str, Any] = spec.masking.model_dump() | {"method": spec.method}
        found["basis"] = spec.basis.kind if spec.basis else None
        for name, value in asked.items():
            if name != "ratio":
                assert found[name] == value
                continue
            numbers = tuple(map(float, value.split("-")))
            assert found[name] == (numbers if len(numbers) > 1 else numbers[0])
        if spec.method == "pmae" and "ratio_of" not in asked:
            assert found["count"] == asked.get("count", "reference")
    assert len(names) == len(variants)


def test_clevr_is_neither_cropped_nor_mirrored() -> None:
    spec = resolve(get_preset("paper?dataset=clevr").spec)
    assert spec.augmentation.crop_scale == (1.0, 1.0)
    assert spec.augmentation.horizontal_flip is False
    other = resolve(get_preset("paper?dataset=tiny_imagenet").spec)
    assert other.augmentation.crop_scale == (0.2, 1.0)
    assert other.augmentation.horizontal_flip is True
    by_objects = resolve(get_preset("paper?dataset=clevr&method=mae&strategy=segmentation").spec)
    assert (by_objects.masking.predict, by_objects.masking.mode) == ("background", "complete")


def test_every_row_and_column_of_the_table_has_its_presets() -> None:
    for dataset, (method, variant) in itertools.product(DATASETS, ROWS):
        ratios = {"std": ["0.75"], "rd": ["0.1-0.9"]}
        for ratio in ratios.get(variant, [f"0.{tenth}" for tenth in range(1, 10)]):
            preset = get_preset(f"paper?dataset={dataset}&method={method}&ratio={ratio}")
            spec = _checked(preset)
            assert (spec.method, spec.dataset.name) == (method, dataset)
            assert (spec.model.num_heads, spec.epochs, spec.batch_size) == (12, 800, 512)
            assert spec.masking.count == ("reference" if method == "pmae" else None)
            protocols = [evaluation.protocol for evaluation in spec.evaluations]
            assert protocols == ["linear", "mlp", "finetune"]
            finetune = spec.evaluations[2]
            assert isinstance(finetune, FinetuneSpec)
            assert (finetune.weight_decay, finetune.warmup_epochs) == (0.05, 5)
            row = variant if (method, ratio) != ("mae", "0.75") else "std"
            figures = published_top1(method, row, dataset)
            assert all(f"{top1} %" in preset.expect for top1 in figures.values())
            assert preset.expect.startswith("published")
            assert "not measured here" in preset.expect


def test_names_of_former_versions_still_count() -> None:
    assert len(PAPER_ALIASES) == 5 * (3 + 18) + 16
    for name, (query, masked) in {
        "cifar10_mae_std": ("method=mae&ratio=0.75", 0.75),
        "bloodmnist_pmae_rd": ("dataset=bloodmnist&ratio=0.1-0.9", (0.1, 0.9)),
        "pathmnist_pmae_ratio_0.3": ("dataset=pathmnist&ratio=0.3", 0.3),
        "cifar10_pmae_basis_kernel": ("basis=kernel&evaluations=layers", 0.2),
        "cifar10_mae_decoder_depth_2": ("method=mae&decoder_depth=2&evaluations=layers", 0.75),
    }.items():
        assert is_preset(name)
        assert get_preset(name) == get_preset(f"paper?{query}")
        assert resolve(get_preset(name).spec).masking.ratio == masked
    for name in PAPER_ALIASES:
        _checked(get_preset(name))


@pytest.mark.parametrize(
    ("name", "field", "told"),
    [
        ("paper?dataset=cifar100", "dataset", "expected one of cifar10, tiny_imagenet"),
        ("paper?datset=cifar10", "datset", "did you mean dataset?"),
        ("paper?ratio=1.2", "ratio", "a number above 0 and below 1 of up to six decimals, or two"),
        ("paper?ratio=1e-5", "ratio", "a number above 0"),
        ("paper?ratio=0.000000", "ratio", "a number above 0"),
        ("paper?ratio=nan", "ratio", "a number above 0"),
        ("paper?ratio=", "ratio", "a number above 0"),
        ("paper?ratio=0.9-0.1", "ratio", "a number above 0"),
        ("paper?ratio=0.1-0.2-0.3", "ratio", "a number above 0"),
        ("paper?ratio=0.2&ratio=0.3", "ratio", "given twice"),
        ("paper?method=mae&basis=dct", "basis", "MAE masks patches and has no basis"),
        ("paper?method=mae&count=nearest", "count", "MAE masks patches"),
        ("paper?strategy=segmentation", "strategy", "PMAE has no strategy segmentation"),
        ("paper?method=mae&strategy=segmentation", "strategy", "expected clevr"),
        ("paper?dataset=clevr&basis=kernel", "basis", "images of at most 12288 values"),
        ("paper?strategy=top&scope=image", "scope", "a range of ratios"),
        ("paper?ratio_of=components&count=nearest", "count", "ratio_of to variance"),
        ("paper?mode=partial", "mode", "it belongs to segmentation"),
        ("quickstart?epochs=3", "", "takes no parameters"),
    ],
)
def test_a_parameter_that_is_not_valid_is_named(name: str, field: str, told: str) -> None:
    with pytest.raises(SpecError, match=re.escape(told)) as caught:
        get_preset(name)
    assert caught.value.field == (field,)
    assert not isinstance(caught.value, UnknownPresetError)
    assert is_preset(name), "it is no file's name"


def test_a_query_that_cannot_be_read_says_what_one_looks_like() -> None:
    for query in ("dataset", "dataset=cifar10&", "a=b" * 1000):
        with pytest.raises(SpecError, match=r"paper\?dataset=cifar10&method=pmae&ratio=0\.2|valid"):
            get_preset(f"paper?{query}")


def test_an_unknown_name_is_told_the_nearest_ones() -> None:
    with pytest.raises(UnknownPresetError, match=r"pathmnist_pmae_ratio_0\.3, .*paper") as caught:
        get_preset("pathmnist_pmae_ratio_0.33")
    assert len(str(caught.value)) < 500


def test_what_is_published_is_labelled_so() -> None:
    assert len(list(published())) == 3 * 5 * 5
    assert published_top1("pmae", "ocl", "bloodmnist") == {
        "linear": 95.5,
        "mlp": 92.5,
        "finetune": 98.1,
    }
    for query in ("dataset=clevr", "basis=dct", "ratio=0.1-0.2", "count=nearest", "model=vit_base"):
        assert get_preset(f"paper?{query}").expect == "no published figure; not measured here"


def test_a_preset_with_parameters_is_a_spec_wherever_one_is_named(tmp_path: Path) -> None:
    name = "paper?dataset=cifar10&strategy=top"
    assert load_spec(name) == get_preset(name).spec
    file = tmp_path / "mine.json"
    file.write_text(get_preset(name).spec.model_dump_json())
    assert load_spec(str(file)) == ExperimentSpec.model_validate_json(file.read_text())


def test_the_list_fits_a_screen_and_names_every_parameter() -> None:
    result = CliRunner().invoke(app, ["presets"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) < 120
    for name in [*PRESETS, *FAMILIES, *(parameter.name for parameter in PAPER.parameters)]:
        assert name in result.output
    for parameter in PAPER.parameters:
        assert all(value in result.output for value in parameter.values)


def test_one_preset_is_shown_with_its_command() -> None:
    result = CliRunner().invoke(app, ["presets", "paper?dataset=bloodmnist&ratio=0.3"])
    assert result.exit_code == 0
    expected = (
        "pmae train 'paper?dataset=bloodmnist&method=pmae&ratio=0.3' runs/bloodmnist_pmae_0.3"
    )
    assert expected in result.output
    result = CliRunner().invoke(app, ["presets", "paper"])
    assert all(parameter.meaning in result.output for parameter in PAPER.parameters)
