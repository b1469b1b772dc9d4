"""Download the basis of a checkpoint. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fastapi import Response
from starlette.datastructures import Headers

from api.checkpoints.service import StoredCheckpoint
from api.http.download import respond_with_file
from api.http.errors import DamagedError, NotFoundError
from pmae.basis.files import BASIS_FILES, file_facts
from pmae.basis.store import read_spectrum
from pmae.errors import BasisError
from pmae.runs.events import FileFacts
from pmae.runs.layout import BASES_FOLDER, CONFIG_FILE
from pmae.schema import ProblemField
from pmae.schema.basis import CheckpointBasis


@dataclass(frozen=True)
class StoredBasis:
    """The basis of a checkpoint in the store.

    Attributes:
        digest: of its content.
        folder: of its files.
    """

    digest: str
    folder: Path

    def view(self) -> CheckpointBasis:
        """Describe the basis and list its files.

        Raises:
            DamagedError: it is missing in the store.
        """
        try:
            facts = read_spectrum(self.folder.parent, self.digest)
            files = file_facts(self.folder.parent, self.digest)
        except BasisError as error:
            raise DamagedError(str(error)) from error
        return CheckpointBasis(
            digest=self.digest,
            kind=facts.kind,
            channels=facts.channels,
            resolution=facts.resolution,
            num_components=facts.num_components,
            files=files,
        )

    def respond(self, name: str, request: Headers) -> Response:
        """Build the response to a GET or HEAD of a file.

        Raises:
            NotFoundError: the basis has no such file.
            DamagedError: it is missing in the store.
            RangeError: the range is outside of the file.
        """
        facts = self.facts_of(name)
        try:
            return respond_with_file(
                self.folder / name,
                facts,
                download_name=f"{self.digest[:8]}-{name}",
                request=request,
            )
        except FileNotFoundError as error:
            raise DamagedError(f"basis {self.digest} cannot be read: {error}") from error

    def facts_of(self, name: str) -> FileFacts:
        """Return digest and size of a file.

        Raises:
            NotFoundError: the basis has no such file.
            DamagedError: it is missing in the store.
        """
        if name not in BASIS_FILES:
            raise _no_file(
                f"a basis has no file {name!r}; expected one of {', '.join(BASIS_FILES)}"
            )
        try:
            return file_facts(self.folder.parent, self.digest)[name]
        except BasisError as error:
            raise DamagedError(str(error)) from error

    def file_at(self, place: str) -> str:
        """Return the name of the file at ``place``, a path in the checkpoint's folder.

        Raises:
            NotFoundError: ``place`` is not ``bases/<digest>/<file>`` of this basis.
        """
        places = {f"{BASES_FOLDER}/{self.digest}/{name}": name for name in BASIS_FILES}
        if place not in places:
            raise _no_file(f"the basis has no file {place!r}; expected one of {', '.join(places)}")
        return places[place]


def find_basis(checkpoint: StoredCheckpoint, bases_dir: Path) -> StoredBasis:
    """Find the basis that a checkpoint names.

    Raises:
        NotFoundError: it has none, or the checkpoint was removed.
        DamagedError: its configuration cannot be read.
    """
    if CONFIG_FILE not in checkpoint.view.files:
        raise _no_basis(checkpoint)
    try:
        config = json.loads((checkpoint.folder / CONFIG_FILE).read_bytes())
    except FileNotFoundError:
        raise checkpoint.gone() from None
    except ValueError as error:
        raise DamagedError(f"{CONFIG_FILE} of {checkpoint.view.id} cannot be read") from error
    digest = config.get("basis_digest") if isinstance(config, dict) else None
    if not digest:
        raise _no_basis(checkpoint)
    return StoredBasis(digest, bases_dir / digest)


def _no_basis(checkpoint: StoredCheckpoint) -> NotFoundError:
    return NotFoundError(
        f"the checkpoint {checkpoint.view.id} has no basis, since its run masks patches",
        code="no_basis",
    )


def _no_file(message: str) -> NotFoundError:
    field = ProblemField(pointer="file_name", message=message)
    return NotFoundError(message, code="file_not_found", fields=[field])
