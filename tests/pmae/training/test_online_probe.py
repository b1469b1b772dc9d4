"""The classifier that trains beside the model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pmae.runs.events import finite
from pmae.training.epoch_sums import EpochSums
from pmae.training.online_probe import EPSILON, MOMENTUM, OnlineProbe

DIM, CLASSES = 12, 4


def features(images: int, seed: int) -> torch.Tensor:
    """Features far from zero that hardly differ between images, as a young encoder's."""
    noise = torch.Generator().manual_seed(seed)
    return 3 + 0.01 * torch.randn(images, DIM, generator=noise)


def test_after_many_steps_it_standardises_as_a_batch_norm_in_evaluation() -> None:
    probe = OnlineProbe(DIM, CLASSES, standardized=True)
    norm = nn.BatchNorm1d(DIM, affine=False, eps=EPSILON, momentum=MOMENTUM)
    for step in range(200):
        batch = features(64, step)
        norm(batch)
        probe.follow(probe.moments(batch), len(batch), step)
    nn.init.eye_(probe.weight)
    held_out = features(32, 999)
    expected = norm.eval()(held_out)[:, :CLASSES]
    # A batch norm's running variance is the unbiased one: 64/63 of ours.
    torch.testing.assert_close(probe(held_out), expected * math.sqrt(64 / 63), rtol=1e-3, atol=1e-3)


def test_the_first_steps_count_alike() -> None:
    probe = OnlineProbe(DIM, CLASSES, standardized=True)
    batches = [features(64, step) + step for step in range(8)]
    for step, batch in enumerate(batches):
        probe.follow(probe.moments(batch), len(batch), step)
    torch.testing.assert_close(probe.mean, torch.stack(batches).mean(dim=(0, 1)))


def test_parts_of_a_step_move_the_averages_as_the_whole_does() -> None:
    whole, parts = (OnlineProbe(DIM, CLASSES, standardized=True) for _ in range(2))
    batch = features(60, 0)
    whole.follow(whole.moments(batch), 60, 0)
    parts.follow(sum(map(parts.moments, batch.split(20)), torch.zeros(())), 60, 0)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(parts.var, whole.var, rtol=1e-6, atol=0)


def test_it_learns_from_features_that_hardly_differ_and_gives_them_no_gradient() -> None:
    labels = torch.arange(256) % CLASSES
    values = features(256, 0) + 0.02 * nn.functional.one_hot(labels, DIM)
    values.requires_grad_()
    right = {}
    for standardized in (True, False):
        probe = OnlineProbe(DIM, CLASSES, standardized=standardized)
        optimizer = torch.optim.AdamW(probe.parameters(), lr=1e-2, weight_decay=0)
        for step in range(50):
            loss = nn.functional.cross_entropy(probe(values), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.follow(probe.moments(values), len(values), step)
        right[standardized] = (probe(values).argmax(dim=1) == labels).float().mean().item()
    assert values.grad is None
    assert right[True] > right[False] + 0.2


def test_features_as_they_are_have_the_weights_of_version_1() -> None:
    assert set(OnlineProbe(DIM, CLASSES, standardized=False).state_dict()) == {"weight", "bias"}


def test_a_mean_that_an_older_checkpoint_lacks_is_left_out_until_the_epoch_ends() -> None:
    old = {"loss": 6.0, "correct": 1.0, "images": 2.0, "trained_seconds": 1.0}
    means = EpochSums(("all",), old).means("train", "top1")
    assert finite(means) == {"train_loss": 3.0, "train_online_probe_top1": 0.5}
    ended = EpochSums(("all",), {"loss": 0.0, "correct": 0.0, "images": 0.0})
    ended.add(torch.tensor([2.0, 3.0, 8.0, 4.0, 0.0, 0.0], dtype=torch.float64))
    assert ended.means("train", "top1") == pytest.approx(
        {"train_loss": 0.5, "train_online_probe_top1": 0.75, "train_online_probe_loss": 2.0}
    )
    assert EpochSums(("all",), ended.counters()).counters() == ended.counters()
