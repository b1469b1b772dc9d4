"""The format of a backup. It is complete when its manifest, with the digest of every file, exists.

::

    DIR/
      2026-11-28T05-30-00Z/      a generation; the name is the time at which it was begun
        manifest.json            written last: version, schema, digests of the files below
        files.jsonl.gz           path, SHA-256, size, time and mode of each file of artifacts/
        database/...             PostgreSQL: a file a table; SQLite: the database's file
        artifacts/runs/...       as in the artifact folder; unchanged files are hard links to those
        artifacts/bases/...      of the previous generation
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pmae.errors import PmaeError
from pmae.runs.events import FileFacts

MANIFEST_FILE = "manifest.json"
FILES_FILE = "files.jsonl.gz"
DATABASE_FOLDER = "database"
ARTIFACTS_FOLDER = "artifacts"
CHUNK_BYTES = 1024 * 1024
FORMAT = 1
_GENERATION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z")
DatabaseKind = Literal["postgresql", "sqlite"]


class BackupError(PmaeError):
    """A backup or restore failed; the target is unchanged."""


class TableDump(BaseModel):
    """The rows of one table.

    Attributes:
        columns: in their order in ``file``.
        sequences: last value of each column with a sequence; None if it was not used yet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    file: str
    columns: list[str]
    rows: int
    sequences: dict[str, int | None] = Field(default_factory=dict)


class DatabaseDump(BaseModel):
    """A snapshot of the database. ``tables`` is empty for SQLite, whose file is copied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: DatabaseKind
    revision: str
    tables: list[TableDump] = Field(default_factory=list)


class BackupManifest(BaseModel):
    """The manifest of a generation.

    Attributes:
        format: version of the backup format.
        version: of pmae.
        created_at: start of the copy of the database.
        parts: SHA-256 and size of every file beside the artifacts, by path.
        num_runs: number of runs in the database.
        newest_run: id of the run with the highest number.
        num_files: number of files in the artifacts.
        num_bytes: their total size.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    version: str
    created_at: datetime
    database: DatabaseDump
    parts: dict[str, FileFacts]
    num_runs: int
    newest_run: str | None
    num_files: int
    num_bytes: int


class FileEntry(BaseModel):
    """A file of the artifacts, with its path below the artifact folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    size: int
    mtime_ns: int
    mode: int


@dataclass(frozen=True)
class Generation:
    """A backup on disk."""

    folder: Path
    manifest: BackupManifest

    @property
    def artifacts(self) -> Path:
        """The folder of runs and bases."""
        return self.folder / ARTIFACTS_FOLDER

    def files(self) -> Iterator[FileEntry]:
        """Read the list of the files of the artifacts.

        Raises:
            BackupError: the list is damaged, or names a path outside of runs and bases.
        """
        try:
            with gzip.open(self.folder / FILES_FILE) as lines:
                for line in lines:
                    yield _safe(FileEntry.model_validate_json(line))
        except (OSError, EOFError, ValidationError) as error:
            raise BackupError(f"{self.folder / FILES_FILE} cannot be read: {error}") from error


def _safe(entry: FileEntry) -> FileEntry:
    path = PurePosixPath(entry.path)
    if ".." in path.parts or path.parts[:1] not in (("runs",), ("bases",)):
        raise BackupError(f"{entry.path!r} is not a path of a run or a basis; nothing was restored")
    return entry


def read_generation(folder: Path) -> Generation:
    """Read the manifest of a generation; its files are not checked.

    Raises:
        BackupError: it is missing or damaged, or has a newer format.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = BackupManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BackupError(
            f"{folder} is not a backup: it has no {MANIFEST_FILE}, which is written at the end "
            "of a backup"
        ) from None
    except (OSError, ValidationError) as error:
        raise BackupError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if manifest.format != FORMAT:
        raise BackupError(
            f"{folder} was made by pmae {manifest.version} in format {manifest.format}; expected "
            f"format {FORMAT}. Restore it with pmae {manifest.version}"
        )
    return Generation(folder, manifest)


def generations(folder: Path) -> list[Path]:
    """List the complete generations in a backup folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if _GENERATION.fullmatch(path.name) and (path / MANIFEST_FILE).is_file()
    )


def find_generation(path: Path) -> Generation:
    """Find a generation by its folder, or the newest one of a backup folder.

    Raises:
        BackupError: ``path`` is neither.
    """
    if (path / MANIFEST_FILE).is_file() or _GENERATION.fullmatch(path.name):
        return read_generation(path)
    found = generations(path)
    if not found:
        raise BackupError(
            f"{path} is not a backup; expected a folder with a {MANIFEST_FILE}, or one that holds "
            "such folders, as `pmae backup` makes them"
        )
    return read_generation(found[-1])


def facts_of(path: Path) -> FileFacts:
    """Compute SHA-256 and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFacts(sha256=digest, size=file.tell())
