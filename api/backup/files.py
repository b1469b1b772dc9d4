"""Copy the artifacts into a generation while trainers write, replace and remove them.

The database was copied before. Files that its rows name existed then, and may have vanished since.
A checkpoint or a basis is copied completely or not at all: all its files are opened before the
first is read, and an open file outlives its removal. A growing file is copied up to its length when
opened. Hard links point to the previous generation only, never to the live store.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from api.backup.manifest import CHUNK_BYTES, FILES_FILE, FileEntry, Generation
from pmae.runs.layout import MANIFEST_FILE, LeaseDir, RunDir
from pmae.runs.removal import needed_by
from pmae.runtime.files import sync_folder

_FITS = "fits"
_MAX_ROUNDS = 5
"""Attempts to copy a run whose rolling checkpoint is replaced during the copy."""


@dataclass
class Copied:
    """The files of a generation.

    Attributes:
        entries: by path below the artifact folder.
        num_linked: number of hard links to the previous generation.
        num_copied_bytes: bytes of the other files.
        broken: checkpoints that do not match their own manifest, in the artifact folder too.
    """

    entries: dict[str, FileEntry] = field(default_factory=dict)
    num_linked: int = 0
    num_copied_bytes: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries.values())

    def write_list(self, folder: Path) -> None:
        """Write the list of the files into a generation's folder."""
        with gzip.open(folder / FILES_FILE, "wb", compresslevel=1) as lines:
            for path in sorted(self.entries):
                lines.write(self.entries[path].model_dump_json().encode() + b"\n")


class ArtifactCopier:
    """Copies runs and bases.

    Args:
        source: the artifact folder.
        target: the same folder of the new generation.
        before: the previous generation, whose unchanged files are linked, if there is one.
        run_ids: the runs in the copied database; other runs are not copied.
        progress: gets the numbers of files and bytes now and then.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        *,
        before: Generation | None,
        run_ids: Iterable[str],
        progress: Callable[[int, int], None],
    ) -> None:
        self._source = source
        self._target = target
        self._before = before.artifacts if before else None
        self._known = {entry.path: entry for entry in before.files()} if before else {}
        self._run_ids = list(run_ids)
        self._runs = set(self._run_ids)
        self._progress = progress
        self._folders: set[Path] = set()
        self._copied = Copied()

    def bytes_to_copy(self) -> int:
        """Return the bytes of the files that changed since the previous generation."""
        roots = [self._source / "runs" / run_id for run_id in self._run_ids]
        total = 0
        for path in _walk([*roots, self._source / "bases"]):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue
            if self._unchanged(path.relative_to(self._source).as_posix(), facts) is None:
                total += facts.st_size
        return total

    def copy(self) -> Copied:
        """Copy everything, and flush it to the disk.

        Raises:
            OSError: a file cannot be read or written.
        """
        # Runs first, so that the bases of copied checkpoints still exist when bases are copied.
        for run_id in self._run_ids:
            run = RunDir(self._source / "runs" / run_id)
            for _ in range(_MAX_ROUNDS):
                if self._copy_run(run):
                    break
        self._copy_bases(self._source / "bases")
        for folder in self._folders:
            sync_folder(folder)
        return self._copied

    def _copy_run(self, run: RunDir) -> bool:
        """Copy the files not copied yet; return False if one vanished meanwhile."""
        whole = True
        for lease in run.leases():
            for folder in _checkpoints(lease):
                if folder.relative_to(self._source).as_posix() + f"/{MANIFEST_FILE}" not in (
                    self._copied.entries
                ):
                    whole &= self._copy_checkpoint(folder)
        for path in _walk([run.path]):
            if not _is_of_checkpoint(path.relative_to(run.path)):
                self._copy_loose(path)
        return whole

    def _copy_checkpoint(self, folder: Path) -> bool:
        with ExitStack() as stack:
            files = _open_all(folder, stack)
            named = _named_files(files.get(MANIFEST_FILE))
            if named is None or not named.keys() <= files.keys():
                return False
            for name, file in files.items():
                needs = needed_by(name)
                if needs is None or needs in self._runs:
                    self._copy_file(file, folder / name)
        relative = folder.relative_to(self._source).as_posix()
        for name, sha256 in named.items():
            if self._copied.entries[f"{relative}/{name}"].sha256 != sha256:
                self._copied.broken.append(f"{relative}/{name}")
        return True

    def _copy_bases(self, bases: Path) -> None:
        """Copy bases before the pointers to them: a dangling pointer would break the next run."""
        copied = set()
        for folder in _children(bases):
            if folder.name != _FITS:
                with ExitStack() as stack:
                    files = _open_all(folder, stack)
                    for name, file in files.items():
                        self._copy_file(file, folder / name)
                if files:
                    copied.add(folder.name)
        for pointer in _children(bases / _FITS):
            try:
                basis = json.loads(pointer.read_bytes())["basis"]
            except FileNotFoundError:
                continue
            except (ValueError, KeyError, TypeError):
                basis = None  # unusable; a run will fit it again
            if basis in copied:
                self._copy_loose(pointer)

    def _copy_loose(self, path: Path) -> None:
        if path.relative_to(self._source).as_posix() in self._copied.entries:
            return
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._copy_file(file, path)

    def _copy_file(self, file: BinaryIO, path: Path) -> None:
        relative = path.relative_to(self._source).as_posix()
        facts = os.fstat(file.fileno())
        target = self._target / relative
        self._make_folder(target.parent)
        entry = self._unchanged(relative, facts)
        if entry is not None and self._link(relative, target):
            self._copied.num_linked += 1
        else:
            times = (facts.st_atime_ns, facts.st_mtime_ns)
            mode = facts.st_mode & 0o777
            digest, size = copy_bytes(file, target, facts.st_size)
            target.chmod(mode)
            os.utime(target, ns=times)
            entry = FileEntry(
                path=relative, sha256=digest, size=size, mtime_ns=facts.st_mtime_ns, mode=mode
            )
            self._copied.num_copied_bytes += size
        self._copied.entries[relative] = entry
        self._progress(len(self._copied.entries), self._copied.num_copied_bytes)

    def _unchanged(self, relative: str, facts: os.stat_result) -> FileEntry | None:
        """Find a file in the previous generation, if size and time are the same."""
        entry = self._known.get(relative)
        same = entry and (entry.size, entry.mtime_ns) == (facts.st_size, facts.st_mtime_ns)
        return entry if same else None

    def _link(self, relative: str, target: Path) -> bool:
        """Link a file of the previous generation; False if that is not possible, or it is gone."""
        assert self._before is not None
        old = self._before / relative
        try:
            if old.stat().st_size != self._known[relative].size:
                return False
            os.link(old, target)
        except OSError:
            return False  # a file system without hard links, or the limit for this file is reached
        return True

    def _make_folder(self, folder: Path) -> None:
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
            if folder != self._target:
                self._make_folder(folder.parent)


def copy_bytes(file: BinaryIO, target: Path, max_bytes: int | None = None) -> tuple[str, int]:
    """Copy up to ``max_bytes`` into a new file and flush it; return SHA-256 and length."""
    sha, size = hashlib.sha256(), 0
    with target.open("xb") as out:
        while max_bytes is None or size < max_bytes:
            left = CHUNK_BYTES if max_bytes is None else min(CHUNK_BYTES, max_bytes - size)
            data = file.read(left)
            if not data:
                break
            sha.update(data)
            out.write(data)
            size += len(data)
        out.flush()
        os.fsync(out.fileno())
    return sha.hexdigest(), size


def _checkpoints(lease: LeaseDir) -> list[Path]:
    """List the folders of a lease's checkpoints, newest first."""
    return [
        folder
        for parent in (lease.latest, lease.checkpoints)
        for folder in _children(parent)[::-1]
        if folder.is_dir()
    ]


def _is_of_checkpoint(path: Path) -> bool:
    """Return True if a path in a run's folder is in one of its checkpoints."""
    return len(path.parts) > 2 and path.parts[1] in ("checkpoints", "latest")


def _open_all(folder: Path, stack: ExitStack) -> dict[str, BinaryIO]:
    """Open the files of a folder, by name; empty if one of them vanished."""
    try:
        return {path.name: stack.enter_context(path.open("rb")) for path in _children(folder)}
    except FileNotFoundError:
        return {}


def _named_files(manifest: BinaryIO | None) -> dict[str, str] | None:
    """Read the SHA-256 of the files in a checkpoint's manifest, by name; None without one."""
    if manifest is None:
        return None
    try:
        found = json.loads(manifest.read())["files"]
        return {name: str(facts["sha256"]) for name, facts in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    finally:
        manifest.seek(0)


def _children(folder: Path) -> list[Path]:
    """List a folder by name, without temporary names; empty if it is gone."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _walk(roots: Iterable[Path]) -> Iterator[Path]:
    """Yield the regular files below some folders, which may be missing."""
    for root in roots:
        for path in _children(root):
            if path.is_dir():
                yield from _walk([path])
            elif path.is_file():
                yield path
