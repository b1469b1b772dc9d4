"""Small data sets, written as the real ones are."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pmae.data.locate import FASHION_MNIST_FILES

TINY_WNIDS = ("n02124075", "n01443537", "n02056570")


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    """Uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """``(height, width)`` or ``(height, width, 3)`` uint8, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_elpv(folder: Path, *, per_group: int) -> None:
    """The package ``elpv_dataset`` with photographs of every type and probability, by turns.

    Those of a cell are as bright as its probability of a defect.
    """
    data = folder / "elpv_dataset" / "data"
    write = []
    for number in range(per_group * 8):
        probability, kind = number % 4 / 3, ("mono", "poly")[number // 4 % 2]
        name = f"images/cell{number + 1:04d}.png"
        write_image(data / name, np.full((300, 300), round(probability * 255), np.uint8))
        write.append(f"{name}  {probability!s:18}  {kind}")
    (folder / "elpv_dataset" / "__init__.py").touch()
    (data / "labels.csv").write_text("\n".join(write) + "\n")


def write_idx(path: Path, values: np.ndarray, *, zipped: bool) -> None:
    """An idx file of unsigned bytes."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data = header + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


def write_fashion_mnist(folder: Path, *, train: int, test: int, zipped: bool) -> None:
    """The four idx files; image ``i`` has class ``i % 10``."""
    for split, count in (("train", train), ("test", test)):
        images = random_pixels(count, 28, 28, seed=count)
        write_idx(folder / FASHION_MNIST_FILES[f"{split}_images"], images, zipped=zipped)
        labels = np.arange(count) % 10
        write_idx(folder / FASHION_MNIST_FILES[f"{split}_labels"], labels, zipped=zipped)


def write_cifar10(folder: Path, *, images_per_batch: int) -> tuple[dict[str, str], dict[str, str]]:
    """The six pickled batches; the MD5 sums of the training ones and of the test one."""
    folder.mkdir(parents=True)
    checksums: dict[str, str] = {}
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        batch = {
            "batch_label": name,
            "labels": (np.arange(images_per_batch) % 10).tolist(),
            "data": random_pixels(images_per_batch, 3072, seed=number),
            "filenames": [f"{k}.png" for k in range(images_per_batch)],
        }
        data = pickle.dumps(batch, protocol=2)
        (folder / name).write_bytes(data)
        checksums[name] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    test = {"test_batch": checksums.pop("test_batch")}
    return checksums, test


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = True) -> None:
    """An npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save: Any = np.savez_compressed if compressed else np.savez
    save(path, **arrays)


def medmnist_arrays(
    size: int, *, count: int, classes: int, channels: int = 3
) -> dict[str, np.ndarray]:
    """MedMNIST's six arrays; image ``i`` has class ``i % classes``."""
    shape = (size, size, 3) if channels == 3 else (size, size)
    arrays: dict[str, np.ndarray] = {}
    for seed, split in enumerate(("train", "val", "test")):
        arrays[f"{split}_images"] = random_pixels(count, *shape, seed=seed)
        arrays[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % classes)[:, None]
    return arrays


def write_class_folders(
    root: Path,
    classes: Sequence[str],
    *,
    images_per_class: int,
    size: int = 12,
    grey: bool = False,
    suffix: str = ".png",
) -> None:
    """``root/<class>/<number><suffix>``."""
    shape = (size, size) if grey else (size, size, 3)
    for label, name in enumerate(classes):
        for number in range(images_per_class):
            pixels = random_pixels(*shape, seed=1000 * label + number)
            write_image(root / name / f"{number:04d}{suffix}", pixels)


def write_tiny_imagenet(folder: Path, *, train: int, val: int) -> None:
    """The zip's tree with three classes; ``train`` and ``val`` images of each."""
    folder.mkdir(parents=True)
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in TINY_WNIDS))
    words = {
        "n02124075": "Egyptian cat",
        "n01443537": "goldfish, Carassius auratus",
        "n02056570": "king penguin, Aptenodytes patagonica",
        "n00001740": "entity",
    }
    (folder / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in words.items()))
    annotations: list[str] = []
    for label, wnid in enumerate(TINY_WNIDS):
        for number in range(train):
            pixels = random_pixels(64, 64, 3, seed=100 * label + number)
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", pixels)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t9\t9\n")
        for _ in range(val):
            name = f"val_{len(annotations)}.JPEG"
            write_image(folder / "val" / "images" / name, random_pixels(64, 64, 3, seed=label))
            annotations.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    write_image(folder / "test" / "images" / "test_0.JPEG", random_pixels(64, 64, 3))


def write_clevr(folder: Path, *, train: int, val: int, masks: bool = False) -> None:
    """Scenes of 48 x 32 pixels with two objects.

    At the left edge a gray cube, at the right edge a red sphere or a yellow cylinder, by turns.
    """
    for split, count in (("train", train), ("val", val)):
        scenes: list[dict[str, Any]] = []
        for index in range(count):
            name = f"CLEVR_{split}_{index:06d}.png"
            color, shape = (("red", "sphere"), ("yellow", "cylinder"))[index % 2]
            things = [_clevr_object("gray", "cube"), _clevr_object(color, shape)]
            scenes.append(
                {"image_filename": name, "image_index": index, "split": split, "objects": things}
            )
            pixels = np.full((32, 48, 3), 40, np.uint8)
            pixels[8:24, :8], pixels[8:24, 40:] = 120, 200
            write_image(folder / "images" / split / name, pixels)
            if masks:
                numbers = np.zeros((32, 48), np.uint8)
                numbers[8:24, :8], numbers[8:24, 40:] = 1, 2
                write_image(folder / "masks" / split / name, numbers)
        path = folder / "scenes" / f"CLEVR_{split}_scenes.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"info": {"split": split}, "scenes": scenes}))


def _clevr_object(color: str, shape: str) -> dict[str, Any]:
    return {"color": color, "shape": shape, "size": "large", "material": "rubber"}
