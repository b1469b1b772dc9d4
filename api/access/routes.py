"""``/keys``, ``/identity``, ``/audit`` and a checkpoint's ``/links``: the routes."""

from __future__ import annotations

import http
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from api.access import audit, service
from api.access.needs import ADMIN, VIEWER
from api.access.principal import PrincipalDep
from api.checkpoints.service import find_checkpoint
from api.context import ServicesDep
from api.openapi import problems
from api.parameters import CheckpointId, refuse_unknown_parameters
from pmae.faults import NO_NUL
from pmae.schema_access import (
    ApiKeyList,
    ApiKeyRequest,
    AuditPage,
    DownloadLinks,
    Identity,
    LinkRequest,
    NewApiKey,
)

router = APIRouter(tags=["access"], dependencies=[Depends(refuse_unknown_parameters)])

KeyName = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="The key's `name`.")]


@router.get("/identity", response_model=Identity, summary="Who am I?", dependencies=[VIEWER])
async def get_identity(principal: PrincipalDep) -> Identity:
    """The name and role of the key that the request carries."""
    return Identity(name=principal.name, role=principal.role)


@router.get("/keys", response_model=ApiKeyList, summary="List keys", dependencies=[ADMIN])
def list_keys(services: ServicesDep) -> ApiKeyList:
    """All keys by name, revoked and expired ones too. Their secrets are not kept."""
    with services.sessions() as session:
        return ApiKeyList(items=service.list_keys(session))


@router.post(
    "/keys",
    status_code=http.HTTPStatus.CREATED,
    response_model=NewApiKey,
    summary="Make a key",
    responses=problems(
        conflict="There is a key of that name, and it holds.",
        unprocessable_entity="The name or the role is not valid.",
    ),
    dependencies=[ADMIN],
)
def create_key(services: ServicesDep, principal: PrincipalDep, request: ApiKeyRequest) -> NewApiKey:
    """Make a key. The answer is the only place where it is ever shown.

    A name whose key was revoked or has expired can be given again: the new key owns its runs.
    """
    with services.sessions.begin() as session:
        return service.create_key(session, request, created_by=principal.name)


@router.delete(
    "/keys/{name}",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="Revoke a key",
    responses=problems(not_found="There is no key of that name."),
    dependencies=[ADMIN],
)
def revoke_key(services: ServicesDep, name: KeyName) -> None:
    """End a key at once, and the links that it made. Its runs stay, and go on."""
    with services.sessions.begin() as session:
        service.revoke_key(session, name)


@router.post(
    "/checkpoints/{checkpoint_id}/links",
    response_model=DownloadLinks,
    summary="Make download links",
    responses=problems(not_found="There is no such checkpoint or file (any more)."),
    dependencies=[VIEWER],
)
def create_links(
    services: ServicesDep,
    principal: PrincipalDep,
    checkpoint_id: CheckpointId,
    request: LinkRequest | None = None,
) -> DownloadLinks:
    """Addresses that fetch files for some minutes without a key, for a browser or another machine.

    They are relative to the service's own address. Without a body: of all files.

    Whoever has a link can fetch its file until it expires, or until the key that made it ends.
    """
    with services.sessions() as session:
        checkpoint = find_checkpoint(session, checkpoint_id, services.settings.runs_dir)
    names = sorted(checkpoint.view.files)
    if request is not None and request.file_name is not None:
        checkpoint.file_facts(request.file_name)
        names = [request.file_name]
    signer = services.access.signer
    return DownloadLinks(
        items=[signer.sign(checkpoint_id, name, principal.key_id) for name in names]
    )


@router.get(
    "/audit", response_model=AuditPage, summary="List what was changed", dependencies=[ADMIN]
)
def list_audit(services: ServicesDep, filters: Annotated[audit.AuditFilters, Query()]) -> AuditPage:
    """Each request that changed something, or tried to: who, what, when, and what came of it.

    Newest first. Kept where keys are required; `pmae gc` removes what is old.
    """
    with services.sessions() as session:
        return audit.list_entries(session, filters)
