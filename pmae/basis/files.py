"""The files of a stored basis, and the digest that names it.

Imports neither torch nor safetensors, so that the client can verify a download without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from pmae.errors import BasisError
from pmae.runs.events import FileFacts

BASIS_WEIGHTS = "basis.safetensors"
BASIS_FACTS = "facts.json"
BASIS_FILES = (BASIS_WEIGHTS, BASIS_FACTS)
"""The files of a stored basis."""
_CHUNK_BYTES = 1 << 20
_REMEMBERED_FILES = 256


def file_facts(bases_dir: Path, digest: str) -> dict[str, FileFacts]:
    """Size and SHA-256 of each of :data:`BASIS_FILES`; hashes are cached.

    Raises:
        BasisError: the basis is not in the store.
    """
    try:
        return {name: _facts_of(bases_dir / digest / name) for name in BASIS_FILES}
    except OSError as error:
        raise BasisError(f"basis {digest} cannot be read: {error}") from error


def verify_basis(folder: Path, digest: str) -> None:
    """Check a copy of a basis against its digest.

    Raises:
        BasisError: a file is missing, or the content has another digest.
    """
    try:
        found = content_digest({name: _chunks(folder / name) for name in BASIS_FILES})
    except OSError as error:
        raise BasisError(f"basis {digest} cannot be read: {error}") from error
    if found != digest:
        raise BasisError(f"expected the basis {digest} in {folder}, found {found}")


def content_digest(files: Mapping[str, Iterable[bytes]]) -> str:
    """SHA-256 over each file's name, a zero byte and its content, in the order of the names.

    Args:
        files: the content of each file, in chunks.
    """
    sha = hashlib.sha256()
    for name, chunks in sorted(files.items()):
        sha.update(name.encode() + b"\0")
        for chunk in chunks:
            sha.update(chunk)
    return sha.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _facts_of(path: Path) -> FileFacts:
    status = path.stat()
    return _hashed(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=_REMEMBERED_FILES)
def _hashed(path: Path, _mtime_ns: int, size: int) -> FileFacts:
    with path.open("rb") as file:
        return FileFacts(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=size)
