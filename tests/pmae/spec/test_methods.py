"""Methods are found by the entry points of whatever is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.catalogue.service import list_methods
from pmae.errors import MethodError, SpecError
from pmae.spec import ExperimentSpec, methods, resolve
from pmae.spec.methods import get_method, method_names

Install = Callable[..., None]
ROOT = Path(__file__).parents[3]


def _forget() -> None:
    methods._registered.cache_clear()
    get_method.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution that registers methods, for the time of the test."""
    monkeypatch.syspath_prepend(tmp_path)

    def register(distribution: str, **entry_points: str) -> None:
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{methods.GROUP}]", *lines]))
        _forget()

    yield register
    _forget()


def _resolved(**fields: object) -> ExperimentSpec:
    return resolve(ExperimentSpec.model_validate({"dataset": {"name": "digits"}, **fields}))


def test_a_method_of_another_distribution_is_one_of_those_to_choose_from(install: Install) -> None:
    install("low-pass", low_pass="tests.low_pass.low_pass:LowPass")
    assert method_names() == ("pmae", "low_pass", "mae")
    schema = ExperimentSpec.model_json_schema()["properties"]["method"]
    assert schema["enum"] == ["pmae", "low_pass", "mae"]
    spec = _resolved(method="low_pass")
    assert spec.masking.ratio == (0.3, 0.7)
    assert (spec.basis and spec.basis.kind, spec.loss.scale) == ("dct", None)
    kept = _resolved(method="low_pass", basis={"num_components": 10}, masking={"ratio": 0.5})
    assert kept.basis
    assert (kept.basis.kind, kept.basis.num_components) == ("dct", 10)
    assert (kept.masking.ratio, kept.masking.ratio_of) == (0.5, "components")
    assert resolve(spec) == spec
    with pytest.raises(SpecError, match="Low pass has no such choice; leave it out"):
        _resolved(method="low_pass", loss={"scale": "masked_variance"})


def test_a_name_that_is_not_installed_is_refused_and_can_be_read() -> None:
    spec = ExperimentSpec.model_validate({"method": "low_pass", "dataset": {"name": "digits"}})
    with pytest.raises(SpecError, match="'low_pass' is not installed; expected one of pmae, mae"):
        resolve(spec)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("absent", "no_such_module:Method", "cannot be loaded: No module named 'no_such_module'"),
        ("missing", "pmae.methods.mae:NoSuch", "cannot be loaded: .* has no attribute 'NoSuch'"),
        ("function", "pmae.spec:resolve", "no subclass of pmae.methods.base.Method"),
        ("Loud", "pmae.methods.mae:MAE", "expected a name of up to 16 lower-case letters"),
        ("mae", "pmae.methods.pmae:PMAE", "also that of"),
    ],
)
def test_what_cannot_be_used_is_named_and_spoils_no_other(
    install: Install, name: str, value: str, message: str
) -> None:
    install("broken", **{name: value})
    with pytest.raises(MethodError, match=message):
        get_method(name)
    assert "pmae" in [method.name for method in list_methods()]
    assert name not in [method.name for method in list_methods()]


def test_the_document_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    folder = ROOT / "tests" / "low_pass"
    for file in ("low_pass.py", "pyproject.toml"):
        assert (folder / file).read_text() in page


def test_old_metadata_is_said_to_be_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "GROUP", "pmae.no_such_group")
    _forget()
    with pytest.raises(SpecError, match="the package's metadata is outdated; install it again"):
        _resolved()
    monkeypatch.undo()
    _forget()
