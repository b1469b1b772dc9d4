"""Make a generation: copy the database, then the files; write the manifest, then rename it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from api.backup import postgresql, sqlite
from api.backup.database import Dumped, kind_of
from api.backup.files import ArtifactCopier, Copied
from api.backup.manifest import (
    ARTIFACTS_FOLDER,
    DATABASE_FOLDER,
    FILES_FILE,
    FORMAT,
    MANIFEST_FILE,
    BackupError,
    BackupManifest,
    Generation,
    facts_of,
    generations,
    read_generation,
)
from pmae import __version__
from pmae.cli.output import size as in_words
from pmae.runtime.files import sync_folder, write_synced
from pmae.settings import StorageSettings

_PARTIAL, _REMOVED = ".partial-", ".removed-"
_LOCK_FILE = ".lock"
_SPARE_BYTES = 64 * 1024 * 1024
"""Space beside the files: for their list, and for files that grow during the copy."""
_TELL_SECONDS = 5.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Made:
    """The outcome of a backup.

    Attributes:
        generation: the new one.
        copied: its files.
        removed: older generations that were removed, because of ``keep``.
    """

    generation: Generation
    copied: Copied
    removed: list[Path]


def make_backup(
    engine: Engine, settings: StorageSettings, folder: Path, *, keep: int | None, tell: Tell
) -> Made:
    """Add a generation to a backup folder; safe while the service runs.

    Args:
        engine: of the run database.
        settings: name the artifact folder.
        folder: of all generations; must exist.
        keep: number of generations to keep; None: all.
        tell: reports progress, a line now and then.

    Raises:
        BackupError: the backup failed; its files were removed.
    """
    _check_folder(folder, settings)
    with _locked(folder):
        _remove_leftovers(folder)
        name, started_at = _new_name(folder)
        partial = folder / f"{_PARTIAL}{name}"
        try:
            partial.mkdir()
            copied = _fill(partial, engine, settings, started_at, tell)
            partial.rename(folder / name)
            sync_folder(folder)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BackupError(
                    f"{folder} is full; this backup was removed, and older ones are unchanged. "
                    "Free space, or keep fewer backups (--keep)"
                ) from error
            raise
        removed = [] if keep is None else generations(folder)[:-keep]
        for old in removed:
            _remove(old)
    return Made(read_generation(folder / name), copied, removed)


def _check_folder(folder: Path, settings: StorageSettings) -> None:
    if not folder.is_dir():
        raise BackupError(
            f"{folder} is not a folder; create it first (`mkdir`). It is not created here, since "
            "its disk may not be mounted"
        )
    artifacts = settings.artifact_dir.resolve()
    if folder.resolve().is_relative_to(artifacts):
        raise BackupError(
            f"{folder} is in the artifact folder {artifacts}, which is backed up; expected a "
            "folder outside of it, preferably on another disk"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other backups until this process ends."""
    descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another backup into {folder} is under way") from None
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove the partial generations of killed processes."""
    for path in folder.iterdir():
        if path.name.startswith((_PARTIAL, _REMOVED)):
            shutil.rmtree(path)


def _new_name(folder: Path) -> tuple[str, datetime]:
    while True:
        now = datetime.now(UTC)
        name = f"{now:%Y-%m-%dT%H-%M-%SZ}"
        if not (folder / name).exists():
            return name, now
        time.sleep(0.1)


def _fill(
    partial: Path, engine: Engine, settings: StorageSettings, started_at: datetime, tell: Tell
) -> Copied:
    folder = partial.parent
    existing = generations(folder)
    before = read_generation(existing[-1]) if existing else None
    database = postgresql if kind_of(engine) == "postgresql" else sqlite
    tell("copying the database")
    dumped = database.dump(engine, partial)
    tell(f"copying the files of {len(dumped.run_ids):,} runs")
    progress = _Progress(tell)
    copier = ArtifactCopier(
        settings.artifact_dir,
        partial / ARTIFACTS_FOLDER,
        before=before,
        run_ids=dumped.run_ids,
        progress=progress,
    )
    _check_room(folder, copier.bytes_to_copy())
    copied = copier.copy()
    copied.write_list(partial)
    _write_manifest(partial, dumped, copied, started_at)
    return copied


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise BackupError(
            f"{folder} has {in_words(free)} free, and the files that changed since the last "
            f"generation take {in_words(needed)} (plus {in_words(_SPARE_BYTES)} of reserve). Free "
            "space, or keep fewer generations (--keep)"
        )


def _write_manifest(partial: Path, dumped: Dumped, copied: Copied, started_at: datetime) -> None:
    parts = [partial / FILES_FILE, *sorted((partial / DATABASE_FOLDER).iterdir())]
    for part in parts:
        with part.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(partial / DATABASE_FOLDER)
    manifest = BackupManifest(
        format=FORMAT,
        version=__version__,
        created_at=started_at,
        database=dumped.dump,
        parts={part.relative_to(partial).as_posix(): facts_of(part) for part in parts},
        num_runs=dumped.num_runs,
        newest_run=dumped.run_ids[-1] if dumped.run_ids else None,
        num_files=len(copied.entries),
        num_bytes=copied.num_bytes,
    )
    write_synced(partial / MANIFEST_FILE, manifest.model_dump_json(indent=1).encode())
    sync_folder(partial)


class _Progress:
    """Progress of a copy, printed every few seconds."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._reported = time.monotonic()

    def __call__(self, files: int, copied_bytes: int) -> None:
        if time.monotonic() - self._reported >= _TELL_SECONDS:
            self._reported = time.monotonic()
            self._tell(f"{files:,} files so far, {in_words(copied_bytes)} copied")


def _remove(generation: Path) -> None:
    """Remove a generation; one that is partly removed is not listed."""
    hidden = generation.with_name(f"{_REMOVED}{generation.name}")
    generation.rename(hidden)
    shutil.rmtree(hidden)
