"""Nearest neighbours, against scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from pmae.evaluate.knn import nearest, votes

KS = tuple(range(2, 20))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_every_k_predicts_as_scikit_learn(offset: float) -> None:
    noise = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (900,), generator=noise)
    points = torch.randn(900, 12, generator=noise) + 0.5 * labels[:, None] + offset
    train, test = points[:700], points[700:]
    found = votes(nearest(test, train, 19), labels[:700], KS, 7)
    for k, counts in zip(KS, found, strict=True):
        peer = KNeighborsClassifier(k, algorithm="brute").fit(train.double(), labels[:700])
        assert counts.argmax(dim=1).tolist() == peer.predict(test.double()).tolist()


def test_neighbours_come_by_exact_distance_and_equal_ones_by_index() -> None:
    points = torch.tensor([[3.0], [1.0], [1.0], [-1.0], [0.5]])
    assert nearest(torch.zeros(1, 1), points, 5).tolist() == [[4, 1, 2, 3, 0]]


def test_binary_labels_vote_one_by_one() -> None:
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    (two, three) = votes(torch.tensor([[0, 1, 2]]), labels, (2, 3), 2)
    assert two.tolist() == [[2.0, 0.0]]
    assert three.tolist() == [[1.0, 1.0]]
