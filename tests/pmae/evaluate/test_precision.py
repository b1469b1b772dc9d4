"""Evaluations in bf16: the encoder computes in it, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from pmae.evaluate.features import encode, extract
from pmae.evaluate.finetune import FinetunedEncoder, finetune
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.results import EvaluationResult
from pmae.evaluate.subject import Subject, weights_sha256
from pmae.settings import StorageSettings
from pmae.spec import (
    EvaluationSpec,
    FinetuneSpec,
    KnnSpec,
    LinearProbeSpec,
    MlpProbeSpec,
)
from pmae.spec.parts.evaluation import resolve_evaluation
from pmae.training.environment import Precision, evaluation_precision

EVERY: list[EvaluationSpec] = [
    LinearProbeSpec(epochs=2),
    LinearProbeSpec(epochs=2, recipe="paper", layers="all", features="mean"),
    MlpProbeSpec(epochs=2),
    KnnSpec(layers="all"),
    FinetuneSpec(epochs=1, batch_size=64),
]


@contextmanager
def _linear_outputs() -> Iterator[list[tuple[nn.Linear, torch.dtype]]]:
    """What each linear layer that runs meanwhile gives."""
    seen: list[tuple[nn.Linear, torch.dtype]] = []

    def keep(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(module, nn.Linear):
            assert isinstance(output, Tensor)
            seen.append((module, output.dtype))

    handle = register_module_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _measure(
    subject: Subject, storage: StorageSettings, evaluation: EvaluationSpec
) -> EvaluationResult:
    resolved = resolve_evaluation(evaluation, subject.spec.dataset)
    return Evaluations(subject, storage, tick=lambda: None).measure(resolved, "encoder", "key")


@pytest.mark.parametrize("evaluation", EVERY, ids=lambda spec: str(spec.protocol))
def test_the_encoder_computes_in_bf16_and_the_classifier_in_fp32(
    subject: Subject, storage: StorageSettings, evaluation: EvaluationSpec
) -> None:
    before = weights_sha256(subject.encoder.state_dict())
    with _linear_outputs() as seen:
        result = _measure(replace(subject, precision="bf16"), storage, evaluation)
    assert result.precision == "bf16"
    assert weights_sha256(subject.encoder.state_dict()) == before
    encoders = {dtype for module, dtype in seen if module.out_features in (48, 64)}
    assert encoders == {torch.bfloat16}
    classifiers = {dtype for module, dtype in seen if module.out_features == 10}
    assert classifiers == (set() if evaluation.protocol == "knn" else {torch.float32})
    again = _measure(replace(subject, precision="bf16"), storage, evaluation)
    assert again.model_dump(exclude={"duration_seconds"}) == result.model_dump(
        exclude={"duration_seconds"}
    )


def test_features_differ_by_rounding_and_are_float32(subject: Subject) -> None:
    images = subject.target.data.test.take(torch.arange(20)).images / 255
    images = subject.target.statistics.standardize(images)
    with torch.no_grad():
        found: dict[Precision, Tensor] = {
            precision: encode(subject.encoder, images, "mean", "all", precision)
            for precision in ("fp32", "bf16")
        }
    assert found["bf16"].dtype == torch.float32
    assert not torch.equal(found["bf16"], found["fp32"])
    torch.testing.assert_close(found["bf16"], found["fp32"], rtol=0.05, atol=0.05)
    target = subject.target
    whole = extract(subject.encoder, target.data.test, target.statistics, "mean", "all", "bf16")
    assert whole.values.dtype == torch.float32


def test_fine_tuning_in_bf16_keeps_weights_and_gradients_in_fp32(subject: Subject) -> None:
    images = torch.randn(8, 1, 8, 8)
    model = FinetunedEncoder(subject.encoder, 10, "mean", "bf16")
    logits = model(images)
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert {grad.dtype for grad in gradients} == {torch.float32}

    spec = FinetuneSpec(epochs=20, batch_size=50, base_lr=2e-2, warmup_epochs=1)
    curves = {}
    for precision in ("fp32", "bf16"):
        tuned, curve = finetune(
            subject.encoder,
            subject.target,
            spec,
            0,
            lambda: None,
            "bf16" if precision == "bf16" else "fp32",
        )
        assert {p.dtype for p in tuned.parameters()} == {torch.float32}
        curves[precision] = curve.values["train_loss"]
    assert curves["bf16"] != curves["fp32"]
    assert curves["bf16"][-1] < 0.9 * curves["bf16"][0]
    assert curves["bf16"][-1] == pytest.approx(curves["fp32"][-1], abs=0.2)


def test_a_later_evaluation_takes_bf16_only_where_it_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cpu")
    for hardware, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(
            "pmae.training.environment.computes_bf16", lambda _device, a=hardware: a
        )
        assert evaluation_precision(None, "bf16", device) == expected
        assert evaluation_precision(None, "fp32", device) == "fp32"
        assert evaluation_precision("bf16", "fp32", device) == "bf16"
        assert evaluation_precision("fp32", "bf16", device) == "fp32"
