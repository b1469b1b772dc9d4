"""The evaluations that a spec asks for at the end of its run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from pmae.data.standardize import PixelStatistics
from pmae.evaluate.features import extract_cls, raw_pixels
from pmae.evaluate.probes import Features, linear_probe
from pmae.events import EvaluationEvent, EventWriter, ProgressEvent
from pmae.models import MaskedAutoencoder
from pmae.pretrain import PretrainModule
from pmae.spec import LinearProbeSpec

FeatureSource = Literal["encoder", "untrained_encoder", "raw_pixels"]
_BATCH = 256
_log = logging.getLogger(__name__)


def evaluate_all(module: PretrainModule, events: EventWriter, device: torch.device) -> None:
    """Run every evaluation of the spec, with its baselines, and tell the outcomes."""
    module.to(device)
    jobs: list[tuple[int, LinearProbeSpec, FeatureSource]] = []
    for index, evaluation in enumerate(module.spec.evaluations):
        jobs.append((index, evaluation, "encoder"))
        jobs.extend((index, evaluation, baseline) for baseline in evaluation.baselines)
    for done, (index, evaluation, source) in enumerate(jobs):
        events.write(ProgressEvent(stage="probe", done=done, total=len(jobs)))
        train, test = (_features(module, source, split) for split in ("train", "test"))
        top1 = linear_probe(
            train,
            test,
            num_classes=module.data.num_classes,
            spec=evaluation,
            seed=module.spec.seed,
        )
        suffix = "" if index == 0 else f"-{index + 1}"
        events.write(
            EvaluationEvent(
                key=f"{evaluation.protocol}{suffix}/{source}",
                protocol=evaluation.protocol,
                features=source,
                step=module.plan.total_steps,
                epoch=module.plan.epochs,
                top1=top1,
                details={
                    "num_train": len(train.labels),
                    "num_test": len(test.labels),
                    "feature_dim": train.values.shape[1],
                    "recipe": evaluation.model_dump(mode="json"),
                },
            )
        )
        _log.info("%s probe on %s: top-1 %.4f", evaluation.protocol, source, top1)
    events.write(ProgressEvent(stage="probe", done=len(jobs), total=len(jobs)))


def _features(module: PretrainModule, source: FeatureSource, name: str) -> Features:
    split = module.data.split(name)
    batches = (batch.images for batch in split.in_order(_BATCH))
    return Features(_values(module, source, batches), split.labels)


def _values(module: PretrainModule, source: FeatureSource, batches: Iterable[Tensor]) -> Tensor:
    if source == "raw_pixels":
        return raw_pixels(batches)
    statistics = PixelStatistics(module.pixel_mean, module.pixel_std)
    encoder = module.model.encoder
    if source == "untrained_encoder":
        untrained = MaskedAutoencoder(
            module.spec.model,
            image_size=module.spec.resolution,
            channels=module.data.image_shape[0],
            seed=module.spec.seed,
        )
        encoder = untrained.encoder.to(statistics.mean.device)
    return extract_cls(encoder, batches, statistics)
