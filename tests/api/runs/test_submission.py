"""What can be submitted, and what each thing that cannot is answered with."""

from __future__ import annotations

from typing import Any

import pytest

from api.http.errors import InvalidRequestError
from api.http.validation import pointer
from api.runs.submission import read_spec
from pmae.presets import SMALL_PRESETS, get_preset
from pmae.schema import Problem, Run
from pmae.spec import ExperimentSpec, resolve
from tests.api.live import DIGITS, LiveApi


def test_a_spec_is_stored_resolved_and_queued(api: LiveApi) -> None:
    response = api.client.post("/runs", json=DIGITS, params={"priority": 3})
    assert response.status_code == 202
    run = Run.model_validate_json(response.content)
    assert run.state == "queued"
    assert run.priority == 3
    assert run.spec == resolve(ExperimentSpec.model_validate(DIGITS))
    assert response.headers["location"] == f"/api/v1/runs/{run.id}"
    assert Run.model_validate_json(api.client.get(f"/runs/{run.id}").content).spec == run.spec


LONG = (
    "paper?dataset=tiny_imagenet&method=pmae&ratio=0.1-0.9&strategy=bottom&basis=pca_augmented"
    "&count=nearest&scope=image&model=vit_small&decoder_depth=4&evaluations=layers"
)


@pytest.mark.parametrize("name", [*[p.name for p in SMALL_PRESETS], "cifar10_pmae_ratio_0.2", LONG])
def test_a_preset_is_submitted_as_it_is(api: LiveApi, name: str) -> None:
    run = Run.model_validate_json(api.client.post("/runs", params={"preset": name}).content)
    assert run.spec == resolve(get_preset(name).spec)
    assert run.preset == get_preset(name).name


def test_a_body_changes_fields_of_a_preset(api: LiveApi) -> None:
    body = {"epochs": 2, "model": {"depth": 2}, "optimizer": {"base_lr": None}}
    response = api.client.post("/runs", params={"preset": "quickstart"}, json=body)
    run = Run.model_validate_json(response.content)
    quickstart = get_preset("quickstart").spec
    assert isinstance(run.spec, ExperimentSpec)
    assert run.spec.epochs == 2
    assert run.spec.model.depth == 2
    assert run.spec.model.embed_dim == quickstart.model.embed_dim
    assert run.spec.optimizer.base_lr == 1.5e-4, "null gives the default back"
    assert run.spec.schedule.warmup_epochs == pytest.approx(0.1), "defaults follow what changed"


BAD_SPECS: list[tuple[dict[str, Any], str, str]] = [
    (DIGITS | {"maskng": {}}, "/maskng", "did you mean 'masking'"),
    ({"dataset": {"name": "digits", "size": 8}}, "/dataset/size", "resolution"),
    (DIGITS | {"masking": {"ratio": 1.5}}, "/masking/ratio", "above 0 and below 1"),
    (DIGITS | {"masking": {"ratio": [0.5, 0.1]}}, "/masking/ratio", "low <= high"),
    (DIGITS | {"masking": {"ratio": "much"}}, "/masking/ratio", "valid number"),
    (DIGITS | {"model": {"patch_size": 3}}, "/model/patch_size", "[1, 2, 4]"),
    ({"dataset": {"name": "cifar11"}}, "/dataset/name", "digits, elpv, fashion_mnist"),
    ({"dataset": {"name": "folder:../../etc"}}, "/dataset/name", "no '..'"),
    ({"dataset": {"name": "../digits"}}, "/dataset/name", "expected one of"),
    ({"method": "mae"}, "/dataset", "required"),
    (DIGITS | {"epochs": 0}, "/epochs", "greater than 0"),
    (
        DIGITS | {"epochs": 3, "schedule": {"warmup_epochs": 4}},
        "/schedule/warmup_epochs",
        "more than the 3 epochs",
    ),
    (
        DIGITS | {"evaluations": [{"epochs": 3, "warmup_epochs": 4}]},
        "/evaluations/0/warmup_epochs",
        "more than the 3 epochs",
    ),
    (
        {
            "dataset": {"name": "cifar10", "max_train_images": 300},
            "basis": {"num_components": 300},
        },
        "/basis/num_components",
        "300 images span at most 299 components, not 300; expected 2 to 299",
    ),
    (
        DIGITS | {"evaluations": [{"protocol": "knn", "k": [1300]}]},
        "/evaluations/0/k",
        "1300 neighbours of 1259 training images",
    ),
    (DIGITS | {"evaluations": [{"epoch": 3}]}, "/evaluations/0/epoch", "did you mean 'epochs'"),
    (
        DIGITS | {"evaluations": [{"protocol": "knn", "ks": [3]}]},
        "/evaluations/0/ks",
        "dataset, at_epochs, features, label_fraction, layers, standardize, baselines, protocol, k",
    ),
    (DIGITS | {"evaluations": [{"protocol": "svm"}]}, "/evaluations/0", "linear, mlp, knn"),
    (
        DIGITS | {"epochs": 5, "evaluations": [{"at_epochs": [6]}]},
        "/evaluations/0/at_epochs",
        "the run has 5 epochs, 6 is none of them",
    ),
    (
        DIGITS | {"evaluations": [{}, {"dataset": {"name": "digits", "resolution": 16}}]},
        "/evaluations/1/dataset/resolution",
        "8 pixels",
    ),
    (
        DIGITS | {"evaluations": [{"dataset": {"name": "cifar10"}}]},
        "/evaluations/0/dataset/name",
        "1 channels, cifar10 has 3",
    ),
    (DIGITS | {"notes": "a\x00b"}, "/notes", "U+0000"),
    (DIGITS | {"tags": ["a/b", "\x00"]}, "/tags/1", "U+0000"),
    (DIGITS | {"method": "mae", "basis": {}}, "/basis", "leave it out"),
    (DIGITS | {"basis": {"kind": "ica"}}, "/basis/kind", "'pca_augmented', 'dct', 'random'"),
    (DIGITS | {"basis": {"kind": "dct", "passes": 2}}, "/basis/passes", "belongs to pca_augmented"),
    (DIGITS | {"basis": {"num_components": 1}}, "/basis/num_components", "equal to 2"),
    (DIGITS | {"basis": {"num_components": 99}}, "/basis/num_components", "64 values"),
    (DIGITS | {"basis": {"kind": "kernel", "bandwidth": 0}}, "/basis/bandwidth", "'median'"),
]


def test_a_bad_field_is_named_with_what_would_be_valid(
    api: LiveApi, subtests: pytest.Subtests
) -> None:
    for body, field, valid in BAD_SPECS:
        with subtests.test(body=body):
            response = api.client.post("/runs", json=body)
            assert response.status_code == 422
            assert response.headers["content-type"] == "application/problem+json"
            problem = Problem.model_validate_json(response.content)
            assert problem.code == "invalid_spec"
            assert [error.pointer for error in problem.errors] == [field]
            assert valid in problem.errors[0].message
            assert field in problem.detail
    assert api.count_runs() == 0


def test_every_bad_field_is_named_at_once(api: LiveApi) -> None:
    body = {"dataset": {"name": "x"}, "epochs": "many", "masking": {"ratio": 0}}
    problem = Problem.model_validate_json(api.client.post("/runs", json=body).content)
    found = {error.pointer for error in problem.errors}
    assert found == {"/dataset/name", "/epochs", "/masking/ratio"}


JSON = "application/json"
NO_SPECS: list[tuple[bytes, str, int, str]] = [
    (b"{", JSON, 400, "invalid_json"),
    (b"\xff\xfe", JSON, 400, "invalid_json"),
    (b"[" * 100_000, JSON, 400, "bad_request"),
    (b'{"epochs": ' + b"9" * 5000 + b"}", JSON, 400, "bad_request"),
    (b"[1]", JSON, 422, "invalid_request"),
    (b'"digits"', JSON, 422, "invalid_request"),
    (b"{}", JSON, 422, "invalid_request"),
    (b"", JSON, 422, "invalid_request"),
    (b'{"dataset": {"name": "digits"}, "epochs": NaN}', JSON, 422, "invalid_spec"),
    (b'{"dataset": {"name": "\\ud800"}}', JSON, 422, "invalid_spec"),
    (b'{"dataset": {"name": "digits"}}', "text/plain", 415, "unsupported_media_type"),
]


def test_what_is_no_spec_is_refused(api: LiveApi, subtests: pytest.Subtests) -> None:
    for content, media_type, status, code in NO_SPECS:
        with subtests.test(content=content[:60]):
            headers = {"content-type": media_type}
            response = api.client.post("/runs", content=content, headers=headers)
            assert (response.status_code, response.json()["code"]) == (status, code)
            assert response.headers["content-type"] == "application/problem+json"
    assert api.count_runs() == 0


BAD_PARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"preset": "slowstart"}, "preset"),
    ({"preest": "quickstart"}, "preest"),
    ({"priority": "high"}, "priority"),
    ({"priority": 1001}, "priority"),
]


def test_a_bad_parameter_is_named(api: LiveApi, subtests: pytest.Subtests) -> None:
    for params, field in BAD_PARAMETERS:
        with subtests.test(params=params):
            response = api.client.post("/runs", json=DIGITS, params=params)
            problem = Problem.model_validate_json(response.content)
            assert problem.status == 422
            assert [error.pointer for error in problem.errors] == [field]
    assert api.count_runs() == 0


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequestError, match="quickstart"):
        read_spec(None, "slowstart")


def test_pointers_are_escaped() -> None:
    assert pointer(("a/b", "~", 0)) == "/a~1b/~0/0"


def test_a_run_waits_for_as_many_devices_as_its_spec_asks_for(api: LiveApi) -> None:
    run = Run.model_validate_json(api.client.post("/runs", json=DIGITS | {"devices": 2}).content)
    assert run.devices == 2


@pytest.mark.parametrize(
    "reference", ["/etc/passwd", "../0123456789ab/step-00000001", "0123456789ab/../step-00000001"]
)
def test_only_the_services_own_checkpoints_can_be_started_from(reference: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_spec(DIGITS | {"init_from": reference}, None)
    (field,) = caught.value.fields
    assert field.pointer == "/init_from"
    assert "<run id>/<checkpoint name>" in field.message
    own = "0123456789ab/step-00000640"
    spec = read_spec(DIGITS | {"init_from": own}, None)
    assert isinstance(spec, ExperimentSpec)
    assert spec.init_from == own
