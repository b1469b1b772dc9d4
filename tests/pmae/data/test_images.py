"""Data sets in memory: batches, digests, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from pmae.data.images import ImageData, MemorySplit, check_splits
from pmae.data.registry import load_data
from pmae.errors import DataError
from pmae.settings import StorageSettings
from pmae.spec import DatasetSpec


def _split(count: int, labels: torch.Tensor | None = None) -> MemorySplit:
    images = torch.arange(count * 12).reshape(count, 3, 2, 2).remainder(251).byte()
    return MemorySplit(images, torch.arange(count) % 3 if labels is None else labels)


def _data(**changes: MemorySplit) -> ImageData:
    data = ImageData("some", _split(9), _split(3), _split(3), ("a", "b", "c"))
    return replace(data, train=changes.get("train", data.train), val=changes.get("val", data.val))


def test_batches_are_what_take_gives_in_the_order_asked_for() -> None:
    split = replace(_split(9), object_masks=torch.arange(36).reshape(9, 2, 2).byte())
    wanted = [torch.tensor([4, 0, 4]), torch.tensor([8])]
    for indices, batch in zip(wanted, split.batches(wanted), strict=True):
        assert torch.equal(batch.images, split.images[indices])
        assert torch.equal(batch.labels, split.labels[indices])
        assert batch.object_masks is not None
        assert split.object_masks is not None
        assert torch.equal(batch.object_masks, split.object_masks[indices])
    assert [len(batch.images) for batch in split.in_order(4)] == [4, 4, 1]
    assert torch.equal(torch.cat([b.images for b in split.in_order(4)]), split.images)
    assert split.num_bytes == 9 * 12 + 9 * 4


def test_checkpoints_of_the_first_version_are_of_the_same_images() -> None:
    """Its digest of the digits stands in tests/upgrade/fixtures/82a655f."""
    spec = DatasetSpec(name="digits", resolution=8, max_train_images=200)
    data = load_data(spec, StorageSettings())
    first = "50633f0d4b671432cfc12a492de49f36b5e112f3a9333e14849ad1720175f3d5"
    assert data.digest() != first
    assert data.has_digest(first)
    assert data.has_digest(data.digest())
    other = load_data(spec.model_copy(update={"max_train_images": 201}), StorageSettings())
    assert not other.has_digest(first)
    assert not other.has_digest(data.digest())


def test_the_digest_sees_every_pixel_label_and_split() -> None:
    data = _data()
    pixels = data.train.in_memory().images.clone()
    pixels[5, 1, 0, 0] += 1
    labels = data.train.labels.clone()
    labels[0] = 2
    digests = {
        data.digest(),
        _data(train=MemorySplit(pixels, data.train.labels)).digest(),
        _data(train=_split(9, labels)).digest(),
        _data(train=_split(8)).digest(),
        replace(data, train=data.val, val=data.train).digest(),
        _data(train=replace(_split(9), object_masks=torch.zeros(9, 2, 2).byte())).digest(),
    }
    assert len(digests) == 6
    assert _data().digest() == data.digest()


def test_labels_as_people_read_them() -> None:
    assert _data().label_text(torch.tensor(2)) == "c"
    assert _data().label_text(torch.tensor([1, 0, 1])) == "a, c"
    assert _data().label_text(torch.tensor([0, 0, 0])) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"val": _split(0)}, "some has no images for val"),
        ({"train": _split(2, torch.tensor([0, 3]))}, "the train labels are 0 to 3; expected 0 to"),
        ({"train": _split(2, torch.tensor([-1, 0]))}, "the train labels are -1 to 0"),
        ({"val": _split(2, torch.ones(2, 3).long())}, "have shapes that do not agree"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    changes: dict[str, MemorySplit], sentence: str
) -> None:
    with pytest.raises(DataError, match=re.escape(sentence)):
        check_splits(_data(**changes))


def test_binary_labels_are_zero_or_one_and_as_many_as_names() -> None:
    def data(labels: torch.Tensor) -> ImageData:
        return _data().map(lambda split: _split(len(split), labels[: len(split)]))

    fine = torch.randint(0, 2, (9, 3), generator=torch.Generator().manual_seed(0))
    assert check_splits(data(fine)).multi_label
    assert not _data().multi_label
    with pytest.raises(DataError, match="expected 0 to 1"):
        check_splits(data(fine + 1))
    with pytest.raises(DataError, match="do not agree"):
        check_splits(data(fine[:, :2]))


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="some has 1 class; a probe needs at least 2"):
        check_splits(replace(_data(), class_names=("a",)))
