"""Evaluate an encoder: from the spec of an evaluation to its result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from pmae.evaluate.classification_metrics import Scores, score
from pmae.evaluate.classifier import Tick
from pmae.evaluate.curve import EpochCurve
from pmae.evaluate.features import Features, extract, raw_pixels, standardization
from pmae.evaluate.finetune import finetune, predict
from pmae.evaluate.knn import nearest, votes
from pmae.evaluate.probes import ProbeHeads, ProbeSpec, fit_cached, fit_encoding
from pmae.evaluate.results import (
    EvaluationResult,
    LayerResult,
    Source,
    curve_figures,
    mean_and_std,
    optional_mean,
)
from pmae.evaluate.subject import Subject, Target, labelled, transfer_target
from pmae.models.autoencoder import Encoder
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec, EvaluationSpec, FinetuneSpec, KnnSpec
from pmae.spec.sizes import fit_neighbours


@dataclass(frozen=True)
class LayerScores:
    """Metrics at one depth, of one seed."""

    val: Scores | None
    test: Scores
    k: int | None = None
    curve: EpochCurve | None = None


Outcome = list[LayerScores]
"""Metrics by depth, the last block last."""


@dataclass
class Evaluations:
    """Evaluations of one subject, with shared data sets and features.

    Args:
        subject: not changed; neither is torch's global random state.
        settings: with the data root.
        tick: called often; may raise to stop.
        seed: of the classifiers; None: the pretraining's.
    """

    subject: Subject
    settings: StorageSettings
    tick: Tick
    seed: int | None = None
    _targets: dict[DatasetSpec, Target] = field(default_factory=dict)
    _labelled: dict[tuple[DatasetSpec | None, float], Target] = field(default_factory=dict)
    _features: dict[tuple[object, ...], Features] = field(default_factory=dict)

    def measure(self, evaluation: EvaluationSpec, source: Source, key: str) -> EvaluationResult:
        """Train the classifiers of an evaluation and measure them.

        Args:
            evaluation: resolved.
            source: of the features.
            key: of the result.

        Raises:
            DataError: the data set of a transfer cannot be read or does not suit the encoder.
            SpecError: more neighbours than training images.
        """
        began = time.monotonic()
        target = self._target(evaluation)
        seed = self.subject.spec.seed if self.seed is None else self.seed
        count = 1 if isinstance(evaluation, KnnSpec) else evaluation.num_seeds
        seeds = list(range(seed, seed + count))
        if isinstance(evaluation, FinetuneSpec):
            encoder = self._encoder(source)
            outcomes = [self._finetuned(evaluation, target, encoder, each) for each in seeds]
        elif isinstance(evaluation, KnnSpec):
            outcomes = [self._neighbours(evaluation, target, source)]
        else:
            outcomes = [self._probed(evaluation, target, source, each) for each in seeds]
        data = target.data
        return EvaluationResult(
            key=key,
            protocol=evaluation.protocol,
            source=source,
            dataset=data.name,
            step=self.subject.step,
            epoch=self.subject.epoch,
            **_figures(outcomes, evaluation),
            features=None if source == "raw_pixels" else evaluation.features,
            layers="last" if source == "raw_pixels" else getattr(evaluation, "layers", "last"),
            standardize=getattr(evaluation, "standardize", None),
            recipe=getattr(evaluation, "recipe", None),
            precision=None if source == "raw_pixels" else self.subject.precision,
            seeds=seeds,
            spec=evaluation.model_dump(mode="json"),
            class_names=list(data.class_names),
            num_train=len(data.train),
            num_val=len(data.val),
            num_test=len(data.test),
            feature_dim=self._feature_dim(source, target),
            duration_seconds=time.monotonic() - began,
            checkpoint_sha256=self.subject.sha256,
            data_digest=target.digest,
        )

    def close(self) -> None:
        """Stop prefetching in all data sets but the subject's own."""
        for target in self._targets.values():
            target.data.close()
        for (dataset, fraction), target in self._labelled.items():
            if dataset is None and fraction < 1:
                target.data.train.close()

    def _probed(self, spec: ProbeSpec, target: Target, source: Source, seed: int) -> Outcome:
        train = self._extracted(spec, target, source, "train")
        held_out = {
            name: self._extracted(spec, target, source, name) for name in target.data.held_out
        }
        heads = ProbeHeads(
            spec,
            train,
            num_classes=target.data.num_classes,
            hidden_dim=self.subject.encoder.embed_dim,
            seed=seed,
        )
        curve = EpochCurve(
            {
                name: (partial(heads.predict_last, features), features.labels)
                for name, features in held_out.items()
            }
        )
        if spec.recipe == "cached" or source == "raw_pixels":
            fit_cached(heads, train, spec, seed, self.tick, curve)
        else:
            heads.to(self.subject.device)
            fit_encoding(
                heads,
                self._encoder(source),
                target,
                spec,
                seed,
                self.tick,
                curve,
                self.subject.precision,
            )
        logits = {name: heads.predict(features) for name, features in held_out.items()}
        scores = [
            {name: score(logits[name][layer], held_out[name].labels) for name in held_out}
            for layer in range(len(heads.heads))
        ]
        return [LayerScores(found.get("val"), found["test"], curve=curve) for found in scores]

    def _neighbours(self, spec: KnnSpec, target: Target, source: Source) -> Outcome:
        features = {
            name: self._extracted(spec, target, source, name)
            for name in ("train", *target.data.held_out)
        }
        train = features["train"]
        k = fit_neighbours(spec.k, len(train.labels))
        values = {name: found.values for name, found in features.items()}
        if spec.standardize:
            mean, std = standardization(train.values)
            values = {name: (found - mean) / std for name, found in values.items()}
        outcome: Outcome = []
        for layer in range(len(train.values)):
            scores: dict[str, list[Scores]] = {}
            for name in target.data.held_out:
                self.tick()
                found = nearest(values[name][layer], values["train"][layer], max(k))
                by_k = votes(found, train.labels, k, target.data.num_classes)
                labels = features[name].labels
                scores[name] = [score(each, labels, ranked=False) for each in by_k]
            val = scores.get("val")
            if val is None:
                assert len(k) == 1, "without validation images a resolved spec has one k"
                outcome.append(LayerScores(None, scores["test"][0], k[0]))
                continue
            best = max(range(len(k)), key=lambda i: (val[i].top1, -k[i]))
            outcome.append(LayerScores(val[best], scores["test"][best], k[best]))
        return outcome

    def _finetuned(
        self, spec: FinetuneSpec, target: Target, encoder: Encoder, seed: int
    ) -> Outcome:
        model, curve = finetune(encoder, target, spec, seed, self.tick, self.subject.precision)
        scores = {
            name: score(predict(model, target, split, self.tick), split.labels)
            for name, split in target.data.held_out.items()
        }
        return [LayerScores(scores.get("val"), scores["test"], curve=curve)]

    def _extracted(
        self, spec: ProbeSpec | KnnSpec, target: Target, source: Source, split: str
    ) -> Features:
        pixels = source == "raw_pixels"
        images = target.data.split(split)
        which = (source, target.digest, split, len(images))
        key = (*which, *(() if pixels else (spec.features, spec.layers)))
        if key not in self._features:
            self.tick()
            self._features[key] = (
                raw_pixels(images)
                if pixels
                else extract(
                    self._encoder(source),
                    images,
                    target.statistics,
                    spec.features,
                    spec.layers,
                    self.subject.precision,
                )
            )
        return self._features[key]

    def _target(self, evaluation: EvaluationSpec) -> Target:
        """The images of an evaluation, with the labelled training images only."""
        dataset = evaluation.dataset
        target = self.subject.target
        if dataset is not None:
            if dataset not in self._targets:
                self._targets[dataset] = transfer_target(self.subject, dataset, self.settings)
            target = self._targets[dataset]
        key = (dataset, evaluation.label_fraction)
        if key not in self._labelled:
            self._labelled[key] = labelled(target, evaluation.label_fraction)
        return self._labelled[key]

    def _encoder(self, source: Source) -> Encoder:
        if source == "untrained_encoder":
            return self.subject.untrained_encoder()
        return self.subject.encoder

    def _feature_dim(self, source: Source, target: Target) -> int:
        if source != "raw_pixels":
            return self.subject.encoder.embed_dim
        channels, height, width = target.data.image_shape
        return channels * height * width


def _figures(outcomes: Sequence[Outcome], evaluation: EvaluationSpec) -> dict[str, object]:
    """Combine the seeds' metrics into the fields of a result."""
    last = [outcome[-1] for outcome in outcomes]
    tests = [found.test for found in last]
    vals = [found.val for found in last if found.val is not None]
    top1, top1_std = mean_and_std([found.top1 for found in tests])
    macro_f1, macro_f1_std = mean_and_std([found.macro_f1 for found in tests])
    balanced, balanced_std = mean_and_std([found.balanced_accuracy for found in tests])
    fives = [found.top5 for found in tests if found.top5 is not None]
    top5, top5_std = mean_and_std(fives) if fives else (None, None)
    by_class = zip(*(found.per_class for found in tests), strict=True)
    curves = [found.curve for found in last if found.curve is not None]
    chosen = {} if last[0].k is None else {"k": last[0].k}
    by_layer: list[LayerResult] = []
    if getattr(evaluation, "layers", "last") == "all" and len(outcomes[0]) > 1:
        by_layer = [_layer(index, found) for index, found in enumerate(zip(*outcomes, strict=True))]
        if all(found.val_top1 is not None for found in by_layer):
            best = max(by_layer, key=lambda found: (found.val_top1 or 0.0, found.layer))
            chosen["layer"] = best.layer
    return {
        "top1": top1,
        "top1_std": top1_std,
        "top1_by_seed": [found.top1 for found in tests],
        "top5": top5,
        "top5_std": top5_std,
        "macro_f1": macro_f1,
        "macro_f1_std": macro_f1_std,
        "balanced_accuracy": balanced,
        "balanced_accuracy_std": balanced_std,
        "val_top1": optional_mean([val.top1 for val in vals]),
        "val_balanced_accuracy": optional_mean([val.balanced_accuracy for val in vals]),
        "per_class": [optional_mean(values) for values in by_class],
        "confusion_matrix": tests[0].confusion.tolist(),
        "by_layer": by_layer,
        "chosen": chosen,
        **(curve_figures([curve.values for curve in curves]) if curves else {}),
    }


def _layer(index: int, seeds: Sequence[LayerScores]) -> LayerResult:
    top1, top1_std = mean_and_std([found.test.top1 for found in seeds])
    val_top1 = optional_mean([found.val.top1 for found in seeds if found.val is not None])
    return LayerResult(
        layer=index + 1, top1=top1, top1_std=top1_std, val_top1=val_top1, k=seeds[0].k
    )
