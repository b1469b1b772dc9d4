"""Figures of a run's features while it trains."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from pmae.data.registry import load_data
from pmae.data.transforms.standardize import PixelStatistics
from pmae.evaluate.features import Features
from pmae.metrics import METRICS
from pmae.models.autoencoder import MaskedAutoencoder
from pmae.settings import StorageSettings
from pmae.spec import ExperimentSpec, resolve
from pmae.training.monitor import Monitor, effective_rank, feature_spectrum, knn_accuracy


def _orthogonal(rows: int, columns: int) -> torch.Tensor:
    noise = torch.Generator().manual_seed(0)
    values = torch.randn(rows, columns, generator=noise, dtype=torch.float64)
    directions: torch.Tensor = torch.linalg.qr(values)[0]
    return directions


@given(st.integers(1, 12))
def test_equal_directions_count_one_each(directions: int) -> None:
    values = torch.zeros(12)
    values[:directions] = 3.0
    assert effective_rank(values) == pytest.approx(directions, rel=1e-4)


def test_rankme_is_that_of_its_definition() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) + 2
    singular = np.linalg.svd(features.double().numpy(), compute_uv=False)
    shares = singular / singular.sum() + 1e-7
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert feature_spectrum(features)["rankme"] == pytest.approx(expected, rel=1e-9)


def test_the_spectrum_shows_how_features_collapse() -> None:
    spread = _orthogonal(200, 16)
    found = feature_spectrum(spread - spread.mean(dim=0))
    assert found["feature_rank"] == pytest.approx(16, rel=0.01)
    assert found["feature_first_share"] == pytest.approx(1 / 16, rel=0.1)
    assert found["feature_ten_share"] == pytest.approx(10 / 16, rel=0.1)
    one_direction = torch.linspace(-1, 1, 200)[:, None] * torch.ones(16) + 5
    found = feature_spectrum(one_direction)
    assert found["feature_rank"] == pytest.approx(1, abs=1e-3)
    assert found["feature_first_share"] == pytest.approx(1)
    constant = feature_spectrum(torch.full((200, 16), 2.0))
    assert constant["rankme"] == pytest.approx(1, abs=1e-3)
    assert (constant["feature_rank"], constant["feature_std"]) == (1.0, 0.0)


def test_the_neighbours_vote_as_scikit_learns() -> None:
    noise = torch.Generator().manual_seed(2)
    labels = torch.randint(3, (300,), generator=noise)
    values = torch.randn(300, 6, generator=noise) + labels[:, None]
    bank, queries = (Features(values[None, s], labels[s]) for s in (slice(200), slice(200, 300)))
    peer = KNeighborsClassifier(5).fit(bank.values[0].numpy(), bank.labels.numpy())
    expected = peer.score(queries.values[0].numpy(), queries.labels.numpy())
    assert knn_accuracy(queries, bank, 5, 3) == pytest.approx(expected)


def test_of_binary_labels_each_is_voted_on() -> None:
    values = torch.eye(4)[None]
    labels = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]])
    bank = Features(values, labels)
    assert knn_accuracy(bank, bank, 1, 2) == 1.0
    assert knn_accuracy(Features(values, 1 - labels), bank, 1, 2) == 0.0
    # All four of a bank of four vote: two for and two against each label, which predicts 0.
    assert knn_accuracy(bank, bank, 9, 2) == 0.5


def _spec(**monitor: object) -> ExperimentSpec:
    return resolve(
        ExperimentSpec.model_validate(
            {
                "dataset": {"name": "digits", "max_train_images": 200},
                "model": {"embed_dim": 24, "depth": 1, "num_heads": 2, "decoder_embed_dim": 16}
                | {"decoder_depth": 1, "decoder_num_heads": 2},
                "epochs": 120,
                "monitor": monitor,
            }
        )
    )


def test_it_measures_a_fixed_choice_and_leaves_the_encoder_as_it_is(
    storage: StorageSettings,
) -> None:
    spec = _spec(images=64, k=3)
    data = load_data(spec.dataset, storage)
    encoder = MaskedAutoencoder.of(spec, 1).encoder.train()
    statistics = PixelStatistics(torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    state = torch.get_rng_state()
    first = Monitor(spec, data).measure(encoder, statistics)
    assert Monitor(spec, data).measure(encoder, statistics) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert first.keys() == {
        "val_knn_top1", "val_rankme", "val_feature_rank", "val_feature_first_share",
        "val_feature_ten_share", "val_feature_std",
    }  # fmt: skip
    assert first.keys() <= METRICS.keys()
    assert 0.1 < first["val_knn_top1"] <= 1
    assert 1 < first["val_rankme"] <= 24
    fewer = Monitor(_spec(images=64, spectrum=False), data).measure(encoder, statistics)
    assert fewer.keys() == {"val_knn_top1"}


def test_it_measures_at_most_forty_times_and_at_the_end(storage: StorageSettings) -> None:
    spec = _spec()
    assert spec.monitor.every_epochs == 3
    assert spec.monitor.images == 512
    assert resolve(spec) == spec
    data = load_data(spec.dataset, storage)
    monitor = Monitor(spec, data)
    due = [epoch for epoch in range(1, 121) if monitor.due(epoch, chooses=False)]
    assert due == list(range(3, 121, 3))
    assert monitor.due(1, chooses=True)
    off = Monitor(_spec(knn=False, spectrum=False), data)
    assert not off.due(120, chooses=True)


def test_there_are_more_images_than_features_and_ten_of_each_class() -> None:
    for changes, images in (
        ({"model": {"preset": "vit_base"}}, 1536),
        ({"dataset": {"name": "imagenet"}}, 10_000),
        ({"monitor": {"images": 100}}, 100),
    ):
        spec = {"dataset": {"name": "cifar10"}, **changes}
        assert resolve(ExperimentSpec.model_validate(spec)).monitor.images == images


def test_a_run_of_version_1_measures_none_of_it() -> None:
    old = resolve(ExperimentSpec.model_validate({"version": 1, "dataset": {"name": "digits"}}))
    assert old.monitor.online_probe == "raw"
    assert not old.monitor.knn
    assert not old.monitor.spectrum
