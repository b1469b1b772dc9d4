"""Restore a generation into an empty service: verify all, then the files, then the database.

The files are copied under a hidden name in the artifact folder and renamed when all are there; the
database comes last, in one transaction, so that a service that shows runs has their files. The
hidden folder stays until then: with it, an interrupted restore is known for one and begins anew.
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
"""The mark names the folders that a restore makes: one that begins anew removes no other."""
_PARTS = ("runs", "bases")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Owner:
    """Owner of restored files; None: the user who restores, who is not root."""

    ids: tuple[int, int] | None

    @classmethod
    def of(cls, settings: StorageSettings) -> _Owner:
        """The owner of the target, where root restores."""
        if os.geteuid() != 0:
            return cls(None)
        target = settings.artifact_dir
        nearest = next(path for path in (target, *target.parents) if path.exists())
        home = settings.home.absolute()
        facts = (nearest if nearest == target or not home.exists() else home).stat()
        return cls((facts.st_uid, facts.st_gid))

    def take(self, path: Path) -> None:
        """Give it the file or folder."""
        if self.ids is not None:
            os.chown(path, *self.ids)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it that are missing."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            folder.mkdir()
            self.take(folder)


def verify(generation: Generation, tell: Tell) -> RestoredFiles:
    """Compare every file of a generation with its digest, and every size.

    Returns:
        What the files are.

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
            f"{generation.folder} lists {len(entries):,} files, and its manifest says "
            f"{manifest.num_files:,}; nothing was restored"
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
    """Restore into an empty service that does not run.

    Args:
        engine: of its database.
        settings: where its files are to lie.
        generation: to restore.
        tell: told what is being done, a line now and then.

    Raises:
        BackupError: the backup is damaged or does not fit, or the service is not empty or runs;
            it is as it was before.
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
        # Of a restore that was interrupted: the database knows nothing of them.
        for folder in (*_published(settings.artifact_dir), *_children(staging)):
            if folder.is_dir():
                shutil.rmtree(folder)
        write_file(staging / _MARK, "\n".join(sorted(_entries(generation))).encode())
        tell(f"copying {generation.manifest.num_files:,} files")
        _copy(generation, staging, owner)
        for part in _PARTS:
            if (staging / part).is_dir():
                # A folder that is there is empty, and makes room for this one.
                (staging / part).rename(settings.artifact_dir / part)
        sync_folder(settings.artifact_dir)
        tell(f"restoring the database, {generation.manifest.num_runs:,} runs")
        settled = _load_database(engine, generation, files, owner)
    shutil.rmtree(staging)
    return settled


def check_fits(generation: Generation, kind: str | None) -> None:
    """Refuse a backup that this version cannot restore.

    Args:
        generation: its manifest counts.
        kind: of the database to restore into; None: any.

    Raises:
        BackupError: says what would be right.
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
        "only: another database, or this one after everything in it was given up"
    )


def _refuse_artifacts(artifact_dir: Path) -> None:
    """Refuse files that are not those of an interrupted restore."""
    published = _published(artifact_dir)
    for part in _PARTS:
        found = len(set(_children(artifact_dir / part)) - published)
        if found:
            raise BackupError(
                f"{artifact_dir / part} is not empty: it holds {found:,} entries. A backup is "
                "restored into an empty service only; move them away, or set PMAE_ARTIFACT_ROOT"
            )


def _entries(generation: Generation) -> set[str]:
    """The folders of runs and bases that a restore makes, by their paths."""
    return {"/".join(entry.path.split("/")[:2]) for entry in generation.files()}


def _published(artifact_dir: Path) -> set[Path]:
    """The folders that an interrupted restore has left, ready or not."""
    mark = artifact_dir / _STAGING / _MARK
    names = mark.read_text().split("\n") if mark.is_file() else []
    return {artifact_dir / name for name in names if name}


def _check_room(artifact_dir: Path, needed: int) -> None:
    nearest = next(path for path in (artifact_dir, *artifact_dir.parents) if path.is_dir())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise BackupError(
            f"{artifact_dir} has {free:,} bytes free, and the files of the backup take {needed:,}"
        )


@contextmanager
def _locked(staging: Path) -> Iterator[None]:
    """Keep other restores out, until this process ends however it does."""
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
        f"{path} is not what the manifest says (its SHA-256 differs): the backup is damaged. "
        "Nothing of it is in the database; take another generation"
    )
