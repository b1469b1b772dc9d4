"""``/checkpoints``: read, pin, delete, download and reconstruct."""

from __future__ import annotations

import asyncio
import http
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from api.auth.principal import PrincipalDep
from api.auth.requirements import OWNER, VIEWER
from api.basis.download import find_basis
from api.checkpoints.delete import delete_checkpoint
from api.checkpoints.service import StoredCheckpoint, find_checkpoint, pin
from api.http.bodies import read_long_body
from api.http.download import respond_with_file
from api.http.parameters import CheckpointId, refuse_unknown_parameters
from api.http.responses import binary, problems
from api.services import Services, ServicesDep
from pmae.schema import Checkpoint, CheckpointChange, Reconstruction, ReconstructionRequest
from pmae.schema.basis import CheckpointBasis

router = APIRouter(
    prefix="/checkpoints",
    tags=["checkpoints"],
    dependencies=[Depends(refuse_unknown_parameters)],
)

_NO_CHECKPOINT = problems(not_found="There is no such checkpoint, or it was removed.")
_FILE_RESPONSES = (
    binary("application/octet-stream", "The file. Its ETag is its SHA-256.")
    | {
        206: {"description": "The requested range."},
        304: {"description": "The client already has this file."},
    }
    | problems(
        not_found="There is no such checkpoint or file, or it was removed.",
        requested_range_not_satisfiable="The range begins after the end of the file.",
    )
)


_RECONSTRUCTION_BODY = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/ReconstructionRequest"},
                        {"type": "null"},
                    ],
                    "title": "Request",
                }
            }
        }
    }
}


class LinkParameters(BaseModel):
    """Query parameters of a signed link, which replace a key."""

    expires: str | None = Field(default=None, description="Unix time at which the link expires.")
    signed_by: str | None = Field(default=None, description="Id of the key that made the link.")
    signature: str | None = Field(
        default=None, description="Signature over the file, `expires` and the key."
    )


def _find(services: Services, checkpoint_id: str) -> StoredCheckpoint:
    with services.sessions() as session:
        return find_checkpoint(session, checkpoint_id, services.settings.runs_dir)


@router.get(
    "/{checkpoint_id}",
    response_model=Checkpoint,
    summary="Get a checkpoint",
    responses=_NO_CHECKPOINT,
    dependencies=[VIEWER],
)
def get_checkpoint(services: ServicesDep, checkpoint_id: CheckpointId) -> Checkpoint:
    """Return a checkpoint: time, metrics, and its files with sizes and SHA-256."""
    return _find(services, checkpoint_id).view


@router.patch(
    "/{checkpoint_id}",
    response_model=Checkpoint,
    summary="Pin a checkpoint",
    responses=_NO_CHECKPOINT | problems(conflict="A rolling checkpoint cannot be pinned."),
    dependencies=[OWNER],
)
def change_checkpoint(
    services: ServicesDep, checkpoint_id: CheckpointId, change: CheckpointChange
) -> Checkpoint:
    """Pin a checkpoint, so that the spec's retention keeps it, or unpin it."""
    with services.sessions.begin() as session:
        return pin(session, checkpoint_id, services.settings.runs_dir, pinned=change.pinned)


@router.delete(
    "/{checkpoint_id}",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="Delete a checkpoint",
    responses=_NO_CHECKPOINT
    | problems(
        conflict="It is pinned, the rolling one, the newest of a run that has not ended, or needed "
        "by another run that has not ended."
    ),
    dependencies=[OWNER],
)
def remove_checkpoint(
    services: ServicesDep, principal: PrincipalDep, checkpoint_id: CheckpointId
) -> None:
    """Delete a kept checkpoint. Results measured on it stay with its run."""
    runs_dir = services.settings.runs_dir
    delete_checkpoint(services.sessions, checkpoint_id, runs_dir, actor=principal.actor)


@router.head("/{checkpoint_id}/files/{file_name}", include_in_schema=False, dependencies=[VIEWER])
@router.get(
    "/{checkpoint_id}/files/{file_name}",
    response_class=Response,
    summary="Download a file",
    responses=_FILE_RESPONSES,
    dependencies=[VIEWER],
)
def download_file(
    services: ServicesDep,
    request: Request,
    checkpoint_id: CheckpointId,
    file_name: Annotated[str, Path(description="A name in the checkpoint's `files`.")],
    link: Annotated[LinkParameters, Query()],  # noqa: ARG001 - checked earlier
) -> Response:
    """Download a file of a checkpoint, or its `manifest.json`.

    The ETag is the file's SHA-256. `Range` with `If-Range` resumes an interrupted download;
    `If-None-Match` avoids a repeated one. A signed link (`POST .../links`) needs no key.
    """
    checkpoint = _find(services, checkpoint_id)
    facts = checkpoint.file_facts(file_name)
    run, name = checkpoint.view.run_id[:8], checkpoint.view.name
    try:
        return respond_with_file(
            checkpoint.folder / file_name,
            facts,
            download_name=f"{run}-{name}-{file_name}",
            request=request.headers,
        )
    except FileNotFoundError:
        raise checkpoint.gone() from None


@router.get(
    "/{checkpoint_id}/basis",
    response_model=CheckpointBasis,
    summary="Get a checkpoint's basis",
    responses=problems(
        not_found="There is no such checkpoint, or it has no basis (`code` is `no_basis`)."
    ),
    dependencies=[VIEWER],
)
def get_basis(services: ServicesDep, checkpoint_id: CheckpointId) -> CheckpointBasis:
    """Return the basis that the checkpoint was trained with: files, sizes and SHA-256.

    Together with the checkpoint's files it is all that is needed to reconstruct elsewhere.
    """
    return find_basis(_find(services, checkpoint_id), services.settings.bases_dir).view()


@router.head(
    "/{checkpoint_id}/basis/files/{file_name}", include_in_schema=False, dependencies=[VIEWER]
)
@router.get(
    "/{checkpoint_id}/basis/files/{file_name}",
    response_class=Response,
    summary="Download a file of a basis",
    responses=_FILE_RESPONSES,
    dependencies=[VIEWER],
)
def download_basis_file(
    services: ServicesDep,
    request: Request,
    checkpoint_id: CheckpointId,
    file_name: Annotated[str, Path(description="A name in the basis's `files`.")],
    link: Annotated[LinkParameters, Query()],  # noqa: ARG001 - checked earlier
) -> Response:
    """Download a file of the basis that the checkpoint was trained with.

    ETag, `Range` and signed links are as for the checkpoint's own files.
    """
    basis = find_basis(_find(services, checkpoint_id), services.settings.bases_dir)
    return basis.respond(file_name, request.headers)


@router.post(
    "/{checkpoint_id}/reconstructions",
    response_model=Reconstruction,
    summary="Reconstruct images",
    responses=binary("image/png", "With `format=png`: all panels in one labelled sheet.")
    | problems(
        not_found="There is no such checkpoint, or it was removed.",
        conflict="The checkpoint cannot be used: its basis is missing, or its data set, if images "
        "of that are requested.",
        request_entity_too_large="The body is too long.",
        unprocessable_entity="There is no such image, component or patch, an uploaded image is "
        "invalid, or the masking does not fit the run's method.",
        service_unavailable="Too many reconstructions wait; see `Retry-After`.",
    ),
    openapi_extra=_RECONSTRUCTION_BODY,
    dependencies=[VIEWER],
)
async def reconstruct(
    services: ServicesDep,
    request: Request,
    checkpoint_id: CheckpointId,
    form: Annotated[
        Literal["json", "png"],
        Query(alias="format", description="A PNG for each panel, or one sheet."),
    ] = "json",
) -> Reconstruction | Response:
    """Reconstruct masked images with a checkpoint.

    The images are those of the run's data set, or uploaded ones, which are not stored and for which
    the data set need not be on the service's machine. Masking by objects needs images with object
    masks: those of a data set.

    Returns for each image: original, visible part, target, prediction, full reconstruction and
    error, the residual of each masked component or patch (`residuals`), and the fraction of the
    masked variance that is explained. The mask is sampled by any strategy of the run's method
    (`masking`, `seed`), or given as `components` or `patches`. The same request gives the same
    masks. The run may still be training.
    """
    asked = await read_long_body(request, ReconstructionRequest) or ReconstructionRequest()
    checkpoint = await run_in_threadpool(_find, services, checkpoint_id)
    if form == "png":
        sheet = await asyncio.wrap_future(services.reconstructor.as_png(checkpoint, asked))
        return Response(sheet, media_type="image/png")
    return await asyncio.wrap_future(services.reconstructor.as_json(checkpoint, asked))
