"""Cache of downloaded checkpoints, usable without the service.

::

    CACHE/checkpoints/<service>/<checkpoint id>/   config.json, model.safetensors, manifest.json
    CACHE/bases/<digest>/                          shared by the checkpoints of all services
    CACHE/lock                                     held by the process that downloads
"""

from __future__ import annotations

import fcntl
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx

from pmae.basis.files import verify_basis
from pmae.client.client import connect
from pmae.client.connection import API_PREFIX
from pmae.client.download import is_file_of
from pmae.client.errors import ApiError, DownloadError
from pmae.client.whole import basis_of
from pmae.errors import BasisError, CheckpointError
from pmae.runs.events import FileFacts
from pmae.runs.layout import BASES_FOLDER, CONFIG_FILE, MANIFEST_FILE, MODEL_FILE

_USED = (CONFIG_FILE, MODEL_FILE)
"""Files that a model is loaded from; the optimiser's state, twice as large, is not fetched."""

_ADDRESS = re.compile(
    re.escape(API_PREFIX) + r"/(checkpoints/(?P<checkpoint>[0-9a-f]{8,32}-\d{8,12})"
    r"|runs/(?P<run>[0-9a-f]{8,32}))/?"
)
_log = logging.getLogger(__name__)


class _Address(NamedTuple):
    """Parsed address: the service ``base_url``, and the id of either a checkpoint or a run."""

    base_url: str
    checkpoint_id: str | None
    run_id: str | None


def cached_checkpoint(address: str, cache_dir: Path) -> Path:
    """Return the local folder of a service's checkpoint, downloaded unless it is in the cache.

    A complete, verified copy is used without a request. The key is read as by
    :func:`pmae.client.client.connect`.

    Args:
        address: ``http://HOST/api/v1/checkpoints/ID``, or ``.../runs/ID`` for a run's newest kept
            checkpoint, which always takes a request.
        cache_dir: created if missing.

    Raises:
        CheckpointError: the address is of another form, or the run has no kept checkpoint.
        ClientError: the service does not answer or refuses, or the files do not match the
            manifest. The next call resumes an interrupted download.
    """
    asked = _parsed(address)
    bases = cache_dir / BASES_FOLDER
    service = cache_dir / "checkpoints" / quote(asked.base_url, safe="")
    if asked.checkpoint_id is not None and _is_whole(service / asked.checkpoint_id, bases):
        return service / asked.checkpoint_id
    with _hints(), connect(asked.base_url) as client:
        checkpoint_id = asked.checkpoint_id
        if checkpoint_id is None:
            assert asked.run_id is not None
            newest = next(client.checkpoints(asked.run_id, kind="kept", page_size=1), None)
            if newest is None:
                raise CheckpointError(f"the run {asked.run_id} has no kept checkpoint yet")
            checkpoint_id = newest.id
        folder = service / checkpoint_id
        with _locked(cache_dir):
            if not _is_whole(folder, bases):
                _log.info("downloading the checkpoint %s to %s", checkpoint_id, folder)
                for _ in client.download_folder(checkpoint_id, folder, only=_USED, bases=bases):
                    pass
        return folder


def _parsed(address: str) -> _Address:
    url = httpx.URL(address)
    prefix, _, rest = url.path.partition(API_PREFIX)
    found = _ADDRESS.fullmatch(API_PREFIX + rest)
    if found is None:
        raise CheckpointError(
            f"{address} is no address of a checkpoint; expected "
            f"http://HOST:8000{API_PREFIX}/checkpoints/ID or http://HOST:8000{API_PREFIX}/runs/ID "
            "(the API's address, not the dashboard's)"
        )
    base_url = str(url.copy_with(path=prefix or "/", query=None, fragment=None)).rstrip("/")
    return _Address(base_url, found["checkpoint"], found["run"])


def _is_whole(folder: Path, bases: Path) -> bool:
    """Return True if all files for loading are in the cache and match their digests."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        facts = {name: FileFacts.model_validate(manifest["files"][name]) for name in _USED}
        digest = basis_of(folder / CONFIG_FILE)
    except (OSError, ValueError, KeyError, TypeError, DownloadError):
        return False
    if not all(is_file_of(folder / name, facts[name]) for name in _USED):
        return False
    if digest is None:
        return True
    try:
        verify_basis(bases / digest, digest)
    except BasisError:
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the cache: one process downloads at a time, and the others then find its files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _hints() -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.problem.code == "key_required":
            error.add_note("set the key in PMAE_API_KEY, or its file's path in PMAE_API_KEY_FILE")
        raise
