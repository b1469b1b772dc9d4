"""Room on the artifact disk."""

from __future__ import annotations

import shutil
from typing import NamedTuple

from api.http.errors import StorageFullError
from api.settings import ApiSettings


class Space(NamedTuple):
    """Of a disk, in bytes."""

    size: int
    free: int


def artifact_space(settings: ApiSettings) -> Space:
    """Of the disk that runs write to; the folder is made if it is not there yet."""
    settings.artifact_dir.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(settings.artifact_dir)
    return Space(usage.total, usage.free)


def free_bytes(settings: ApiSettings) -> int:
    """What is free where runs write."""
    return artifact_space(settings).free


def refuse_when_full(settings: ApiSettings) -> None:
    """Before a run is queued: it would fail at its first checkpoint.

    Raises:
        StorageFullError: less is free than the settings ask for.
    """
    free = free_bytes(settings)
    if free < settings.min_free_disk_bytes:
        raise StorageFullError(
            f"the artifact disk has {free:,} bytes free, fewer than the "
            f"{settings.min_free_disk_bytes:,} that a new run needs; delete runs, or make room"
        )
