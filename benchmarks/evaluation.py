"""Measure evaluations: a probe on cached features beside one that encodes every epoch, and k-NN."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import sklearn
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from benchmarks.figure import Figure
from pmae.data.registry import load_data
from pmae.data.transforms.standardize import pixel_statistics
from pmae.evaluate.knn import nearest, votes
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.subject import Subject, Target
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.settings import StorageSettings
from pmae.spec import (
    AugmentationSpec,
    DatasetSpec,
    ExperimentSpec,
    LinearProbeSpec,
    ModelSpec,
    resolve,
)
from pmae.spec.parts.evaluation import resolve_evaluation

EPOCHS = 100
MEASURED_EPOCHS = 3
"""Epochs to measure; encoding takes the same time in every epoch, so the result is scaled up."""
IMAGES, DIM, QUERIES, CLASSES = 20_000, 192, 1_000, 10
KS = tuple(range(2, 20))
KNN_PEER = f"scikit-learn {sklearn.__version__} KNeighborsClassifier, one fit and query for each k"


@dataclass(frozen=True)
class ProbeTimes:
    """Seconds of a linear probe of 100 epochs, including the encoder; accuracies from 0 to 1.

    Both accuracies are after ``accuracy_epochs`` epochs.
    """

    cached: float
    encoding: float
    cached_top1: float
    encoding_top1: float
    accuracy_epochs: int


def probe(accuracy_epochs: int = 10) -> ProbeTimes:
    """Measure a linear probe of a ViT on the digits' 1,258 training images, on one thread."""
    torch.set_num_threads(1)
    subject = _subject()
    cached = LinearProbeSpec(epochs=EPOCHS)
    encoding = LinearProbeSpec(recipe="paper", standardize=True, epochs=MEASURED_EPOCHS)
    seconds, _ = _measure(subject, cached)
    once = _measure(subject, encoding.model_copy(update={"epochs": 1}))[0]
    several = _measure(subject, encoding)[0]
    per_epoch = (several - once) / (MEASURED_EPOCHS - 1)
    equal = {"epochs": accuracy_epochs, "warmup_epochs": 1.0}
    return ProbeTimes(
        cached=seconds,
        encoding=once + (EPOCHS - 1) * per_epoch,
        cached_top1=_measure(subject, cached.model_copy(update=equal))[1],
        encoding_top1=_measure(subject, encoding.model_copy(update=equal))[1],
        accuracy_epochs=accuracy_epochs,
    )


def _subject() -> Subject:
    """Make an encoder of six blocks of width 96 with random weights, which do not affect time."""
    spec = resolve(
        ExperimentSpec(
            dataset=DatasetSpec(name="digits", std_floor=0.2),
            model=ModelSpec(patch_size=2, embed_dim=96, depth=6, num_heads=3),
            augmentation=AugmentationSpec(crop_scale=(0.8, 1)),
        )
    )
    data = load_data(spec.dataset, StorageSettings())
    images = (batch.images for batch in data.train.in_order(256))
    target = Target(
        data, pixel_statistics(images).with_floor(0.2), spec.augmentation, data.digest()
    )
    model = MaskedAutoencoder(spec.model, image_size=8, channels=1, seed=0)
    return Subject(spec, model.encoder, target, step=0, epoch=0.0, sha256="")


def _measure(subject: Subject, spec: LinearProbeSpec) -> tuple[float, float]:
    evaluations = Evaluations(subject, StorageSettings(), tick=lambda: None)
    began = time.process_time()
    found = evaluations.measure(resolve_evaluation(spec, subject.spec.dataset), "encoder", "probe")
    return time.process_time() - began, found.top1


@dataclass(frozen=True)
class KnnTimes:
    """Seconds for all k together; fraction of predictions that agree."""

    ours: float
    peer: float
    agreement: float


def knn() -> KnnTimes:
    """Measure 1,000 queries among 20,000 features of 192 numbers, k = 2 to 19, on one thread."""
    torch.set_num_threads(1)
    noise = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=noise)
    centers = torch.randn(CLASSES, DIM, generator=noise)
    train = 3 * torch.randn(IMAGES, DIM, generator=noise) + centers[labels]
    wanted = torch.randint(0, CLASSES, (QUERIES,), generator=noise)
    queries = 3 * torch.randn(QUERIES, DIM, generator=noise) + centers[wanted]

    def ours() -> Tensor:
        found = votes(nearest(queries, train, max(KS)), labels, KS, CLASSES)
        return torch.stack([counts.argmax(dim=1) for counts in found])

    def peer() -> Tensor:
        answers = []
        for k in KS:
            fitted = KNeighborsClassifier(k, algorithm="brute", n_jobs=1)
            answers.append(fitted.fit(train.numpy(), labels.numpy()).predict(queries.numpy()))
        return torch.stack([torch.from_numpy(answer) for answer in answers])

    mine, theirs = _median_cpu_seconds(3, ours), _median_cpu_seconds(1, peer)
    return KnnTimes(mine, theirs, (ours() == peer()).double().mean().item())


def _median_cpu_seconds(rounds: int, work: Callable[[], object]) -> float:
    """Median of processor time: waiting for a busy processor does not count."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)


def probe_figures() -> list[Figure]:
    """Measure the linear probe, for one line of the table."""
    found = probe()
    ratio = found.encoding / found.cached
    figure = Figure(
        f"linear probe, {EPOCHS} epochs, digits",
        "s",
        found.cached,
        "augmenting and encoding in every epoch",
        found.encoding,
        ratio,
        20,
        ratio >= 20,
        f"top-1 after {found.accuracy_epochs} epochs: {found.cached_top1:.1%}, encoding every "
        f"epoch {found.encoding_top1:.1%}",
    )
    return [figure]


def knn_figures() -> list[Figure]:
    """Measure k-NN, for one line of the table."""
    times = knn()
    ratio = times.peer / times.ours
    figure = Figure(
        f"k-NN, k = 2 to 19, {QUERIES:,} x {IMAGES:,} x {DIM}",
        "s",
        times.ours,
        KNN_PEER,
        times.peer,
        ratio,
        1,
        ratio >= 1,
        f"{times.agreement:.2%} of the predictions are the same",
    )
    return [figure]
