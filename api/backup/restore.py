"""Restore a generation into an empty service: verify everything, copy the files, load the database.

The files are copied to a hidden folder in the artifact folder and renamed when complete; the
database is loaded last, in one transaction, so that all runs in it have their files. The hidden
folder marks an interrupted restore, which is then started again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, MetaData, Table, inspect, select

from api.backup import postgresql, sqlite
from api.backup.database import kind_of, why_not_empty
from api.backup.files import copy_bytes
from api.backup.manifest import BackupError, FileEntry, Generation, facts_of
from api.backup.settle import RestoredFiles, Settled, settle
from api.db.revision import revisions
from api.db.tables import RunRow
from pmae import __version__
from pmae.runtime.files import sync_folder, write_file
from pmae.settings import StorageSettings

_STAGING = ".restoring"
_MARK, _LOCK = "restored", "lock"
"""The mark lists the folders of a restore; starting again removes only these."""
_PARTS = ("runs", "bases")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Owner:
    """Owner of restored files; None: the current user, who is not root."""

    ids: tuple[int, int] | None

    @classmethod
    def of(cls, settings: StorageSettings) -> _Owner:
        """Find the owner of the target, for a restore by root."""
        if os.geteuid() != 0:
            return cls(None)
        target = settings.artifact_dir
        nearest = next(path for path in (target, *target.parents) if path.exists())
        home = settings.home.absolute()
        facts = (nearest if nearest == target or not home.exists() else home).stat()
        return cls((facts.st_uid, facts.st_gid))

    def take(self, path: Path) -> None:
        """Change the owner of a file or folder."""
        if self.ids is not None:
            os.chown(path, *self.ids)

    def make_folder(self, folder: Path) -> None:
        """Create a folder and its missing parents."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir()
            self.take(folder)


def verify(generation: Generation, tell: Tell) -> RestoredFiles:
    """Compare every file of a generation with its size and digest.

    Returns:
        A description of the files.

    Raises:
        BackupError: a file is missing or was changed; names it.
    """
    manifest = generation.manifest
    tell(f"verifying {manifest.num_files:,} files")
    for name, facts in manifest.parts.items():
        path = generation.folder / name
        if not path.is_file():
            raise BackupError(f"{path} is missing; nothing was restored")
        if facts_of(path) != facts:
            raise _changed(path)
    entries = list(generation.files())
    if len(entries) != manifest.num_files:
        raise BackupError(
            f"{generation.folder} lists {len(entries):,} files; expected "
            f"{manifest.num_files:,}, as its manifest says; nothing was restored"
        )
    for entry in entries:
        path = generation.artifacts / entry.path
        if not path.is_file():
            raise BackupError(f"{path} is missing; nothing was restored")
        found = facts_of(path)
        if (found.sha256, found.size) != (entry.sha256, entry.size):
            raise _changed(path)
    return RestoredFiles.of(entries)


def restore_backup(
    engine: Engine, settings: StorageSettings, generation: Generation, tell: Tell
) -> Settled:
    """Restore into an empty service that is stopped.

    Args:
        engine: of its database.
        settings: name the artifact folder.
        generation: to restore.
        tell: reports progress, a line now and then.

    Raises:
        BackupError: the backup is damaged or incompatible, or the service is not empty or is
            running; it is unchanged.
    """
    check_fits(generation, kind_of(engine))
    owner = _Owner.of(settings)
    _refuse_in_use(engine)
    _refuse_full_database(engine, settings, generation)
    staging = settings.artifact_dir / _STAGING
    _refuse_artifacts(settings.artifact_dir)
    files = verify(generation, tell)
    _check_room(settings.artifact_dir, generation.manifest.num_bytes)
    owner.make_folder(staging)
    with _locked(staging):
        # Left by an interrupted restore: they are not in the database.
        for folder in (*_published(settings.artifact_dir), *_children(staging)):
            if folder.is_dir():
                shutil.rmtree(folder)
        write_file(staging / _MARK, "\n".join(sorted(_entries(generation))).encode())
        tell(f"copying {generation.manifest.num_files:,} files")
        _copy(generation, staging, owner)
        for part in _PARTS:
            if (staging / part).is_dir():
                # An existing folder is empty; this one replaces it.
                (staging / part).rename(settings.artifact_dir / part)
        sync_folder(settings.artifact_dir)
        tell(f"restoring the database, {generation.manifest.num_runs:,} runs")
        settled = _load_database(engine, generation, files, owner)
    shutil.rmtree(staging)
    return settled


def check_fits(generation: Generation, kind: str | None) -> None:
    """Refuse a backup that this version cannot restore.

    Args:
        generation: to restore; only its manifest is checked.
        kind: of the database to restore into; None: any.

    Raises:
        BackupError: the schema or the kind of database does not match.
    """
    manifest, known = generation.manifest, revisions()
    if manifest.database.revision not in known:
        raise BackupError(
            f"{generation.folder} was made by pmae {manifest.version} and has the schema "
            f"{manifest.database.revision}; pmae {__version__} knows {known[0]} to {known[-1]}. "
            f"Restore it with pmae {manifest.version} or a newer version"
        )
    if kind not in (None, manifest.database.kind):
        raise BackupError(
            f"{generation.folder} is of a {_NAMES[manifest.database.kind]} database, and this "
            f"service's is {_NAMES[str(kind)]}: a backup is restored into the same kind "
            "(PMAE_DATABASE_URL)"
        )


_NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}


def _refuse_in_use(engine: Engine) -> None:
    if kind_of(engine) == "sqlite":
        sqlite.refuse_in_use(engine)
        return
    with engine.connect() as connection:
        postgresql.refuse_in_use(connection)


def _refuse_full_database(
    engine: Engine, settings: StorageSettings, generation: Generation
) -> None:
    if kind_of(engine) == "sqlite" and not Path(engine.url.database or "").is_file():
        return
    with engine.connect() as connection:
        held = why_not_empty(connection)
        if held is None:
            return
        complete = False
        if (settings.artifact_dir / _STAGING).is_dir() and inspect(connection).has_table("runs"):
            runs = Table(RunRow.__tablename__, MetaData(), autoload_with=connection)
            newest = select(runs.c.id).where(runs.c.id == generation.manifest.newest_run)
            complete = connection.scalar(newest) is not None
    if complete:
        raise BackupError(
            f"the restore of {generation.folder.name} is complete: the database holds {held}. Only "
            f"{settings.artifact_dir / _STAGING} was left behind; remove it"
        )
    raise BackupError(
        f"the database is not empty: it holds {held}. A backup is restored into an empty service "
        "only; expected another database, or this one after it was emptied"
    )


def _refuse_artifacts(artifact_dir: Path) -> None:
    """Refuse an artifact folder with files that are not of an interrupted restore."""
    published = _published(artifact_dir)
    for part in _PARTS:
        found = len(set(_children(artifact_dir / part)) - published)
        if found:
            raise BackupError(
                f"{artifact_dir / part} is not empty: it holds {found:,} entries. A backup is "
                "restored into an empty service only; move them, or set PMAE_ARTIFACT_ROOT"
            )


def _entries(generation: Generation) -> set[str]:
    """List the paths of the folders of runs and bases that a restore creates."""
    return {"/".join(entry.path.split("/")[:2]) for entry in generation.files()}


def _published(artifact_dir: Path) -> set[Path]:
    """List the folders left by an interrupted restore."""
    mark = artifact_dir / _STAGING / _MARK
    names = mark.read_text().split("\n") if mark.is_file() else []
    return {artifact_dir / name for name in names if name}


def _check_room(artifact_dir: Path, needed: int) -> None:
    nearest = next(path for path in (artifact_dir, *artifact_dir.parents) if path.is_dir())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise BackupError(
            f"{artifact_dir} has {free:,} bytes free; the files of the backup need {needed:,}"
        )


@contextmanager
def _locked(staging: Path) -> Iterator[None]:
    """Lock out other restores until this process ends."""
    descriptor = os.open(staging / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"another restore into {staging.parent} is under way") from None
        yield
    finally:
        os.close(descriptor)


def _copy(generation: Generation, staging: Path, owner: _Owner) -> None:
    folders: set[Path] = set()
    for entry in generation.files():
        target = staging / entry.path
        owner.make_folder(target.parent)
        _copy_file(generation.artifacts / entry.path, target, entry)
        owner.take(target)
        folders.update(parent for parent in target.parents if parent.is_relative_to(staging))
    for folder in folders:
        sync_folder(folder)


def _copy_file(source: Path, target: Path, entry: FileEntry) -> None:
    with source.open("rb") as file:
        copied = copy_bytes(file, target)
    if copied != (entry.sha256, entry.size):
        raise _changed(source)
    target.chmod(entry.mode & 0o777)
    os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))


def _load_database(
    engine: Engine, generation: Generation, files: RestoredFiles, owner: _Owner
) -> Settled:
    settled: list[Settled] = []
    made_at = f"{generation.manifest.created_at:%Y-%m-%d %H:%M:%S} UTC"
    if kind_of(engine) == "postgresql":
        postgresql.load(engine, generation, lambda s: settled.append(settle(s, files, made_at)))
    else:
        path = Path(engine.url.database or "").absolute()
        owner.make_folder(path.parent)
        sqlite.load(engine, generation, lambda s: settled.append(settle(s, files, made_at)))
        owner.take(path)
    return settled[0]


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _changed(path: Path) -> BackupError:
    return BackupError(
        f"{path} does not match the manifest (its SHA-256 differs): the backup is damaged. "
        "Nothing was restored into the database; use another generation"
    )
