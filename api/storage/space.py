"""Free space on the artifact disk."""

from __future__ import annotations

import shutil
from typing import NamedTuple

from api.http.errors import StorageFullError
from api.settings import ApiSettings


class Space(NamedTuple):
    """Total and free space of a disk, in bytes."""

    size: int
    free: int


def artifact_space(settings: ApiSettings) -> Space:
    """Measure the disk that runs write to; create the folder if it does not exist."""
    settings.artifact_dir.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(settings.artifact_dir)
    return Space(usage.total, usage.free)


def free_bytes(settings: ApiSettings) -> int:
    """Return the free bytes of the disk that runs write to."""
    return artifact_space(settings).free


def refuse_when_full(settings: ApiSettings) -> None:
    """Refuse to queue a run that would fail at its first checkpoint.

    Raises:
        StorageFullError: less space is free than ``min_free_disk_bytes``.
    """
    free = free_bytes(settings)
    if free < settings.min_free_disk_bytes:
        raise StorageFullError(
            f"the artifact disk has {free:,} bytes free, fewer than the "
            f"{settings.min_free_disk_bytes:,} that a new run needs; delete runs or free space"
        )
