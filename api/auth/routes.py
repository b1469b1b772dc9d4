"""Routes ``/keys``, ``/sessions``, ``/identity``, ``/audit`` and a checkpoint's ``/links``."""

from __future__ import annotations

import http
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from api.audit import entries
from api.auth import service, sign_ins
from api.auth.principal import PrincipalDep
from api.auth.requirements import ADMIN, SIGN_IN, VIEWER
from api.basis.download import find_basis
from api.checkpoints.service import find_checkpoint
from api.http.parameters import CheckpointId, refuse_unknown_parameters
from api.http.responses import problems
from api.services import ServicesDep
from pmae.runs.layout import BASES_FOLDER
from pmae.schema.access import (
    ApiKeyList,
    ApiKeyRequest,
    AuditPage,
    DownloadLinks,
    Identity,
    LinkRequest,
    NewApiKey,
    NewSignInSession,
    SignInRequest,
    SignInSessionList,
)
from pmae.spec.messages import NO_NUL

router = APIRouter(tags=["access"], dependencies=[Depends(refuse_unknown_parameters)])

KeyName = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="The key's `name`.")]
SessionId = Annotated[str, Path(max_length=64, pattern=NO_NUL, description="The session's `id`.")]


@router.get("/identity", response_model=Identity, summary="Who am I?", dependencies=[VIEWER])
async def get_identity(principal: PrincipalDep) -> Identity:
    """Return name and role of the request's key."""
    return Identity(name=principal.name, role=principal.role)


@router.get("/keys", response_model=ApiKeyList, summary="List keys", dependencies=[ADMIN])
def list_keys(services: ServicesDep) -> ApiKeyList:
    """List all keys by name, including revoked and expired ones. Secrets are not stored."""
    with services.sessions() as session:
        return ApiKeyList(items=service.list_keys(session))


@router.post(
    "/keys",
    status_code=http.HTTPStatus.CREATED,
    response_model=NewApiKey,
    summary="Create a key",
    responses=problems(
        conflict="A valid key has that name.",
        unprocessable_entity="The name or the role is invalid.",
    ),
    dependencies=[ADMIN],
)
def create_key(services: ServicesDep, principal: PrincipalDep, request: ApiKeyRequest) -> NewApiKey:
    """Create a key. It is shown in this response only.

    The name of a revoked or expired key can be reused: the new key owns its runs.
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
    """Revoke a key, its sessions and its links at once. Its runs stay and continue."""
    with services.sessions.begin() as session:
        service.revoke_key(session, name)


@router.post(
    "/sessions",
    status_code=http.HTTPStatus.CREATED,
    response_model=NewSignInSession,
    summary="Begin a session",
    responses=problems(
        forbidden="The request has the token of a session, not a key.",
        conflict="Keys are off, so there are no sessions.",
        unprocessable_entity="The body is invalid.",
    ),
    dependencies=[SIGN_IN],
)
def create_session(
    services: ServicesDep,
    principal: PrincipalDep,
    request: Request,
    body: SignInRequest | None = None,
) -> NewSignInSession:
    """Begin a session with the request's key, for `PMAE_SESSION_DAYS`.

    Its token is shown in this response only. It is accepted instead of the key, with the key's name
    and role, until the session or the key ends. This API reads it from the `Authorization` header
    only, never from a cookie.
    """
    named = body.user_agent if body is not None else None
    user_agent = request.headers.get("user-agent", "") if named is None else named
    with services.sessions.begin() as session:
        return sign_ins.create_session(
            session, principal, user_agent=user_agent, days=services.settings.session_days
        )


@router.get(
    "/sessions",
    response_model=SignInSessionList,
    summary="List sessions",
    dependencies=[VIEWER],
)
def list_sessions(services: ServicesDep, principal: PrincipalDep) -> SignInSessionList:
    """List the active sessions of the caller's key, newest first; for an admin, of all keys."""
    with services.sessions() as session:
        return SignInSessionList(items=sign_ins.list_sessions(session, principal))


@router.delete(
    "/sessions/current",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="End this session",
    responses=problems(not_found="The request has no session's token."),
    dependencies=[SIGN_IN],
)
def end_current_session(services: ServicesDep, principal: PrincipalDep) -> None:
    """End the session whose token the request has, at once.

    Its download links belong to the key and stay valid until they expire.
    """
    with services.sessions.begin() as session:
        sign_ins.end_current_session(session, principal)


@router.delete(
    "/sessions/{session_id}",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="End a session",
    responses=problems(
        not_found="There is no such session of the caller's key; for an admin: of any key."
    ),
    dependencies=[SIGN_IN],
)
def end_session(services: ServicesDep, principal: PrincipalDep, session_id: SessionId) -> None:
    """End a session of the caller's key at once; an admin can end any session."""
    with services.sessions.begin() as session:
        sign_ins.end_session(session, principal, session_id)


@router.post(
    "/checkpoints/{checkpoint_id}/links",
    response_model=DownloadLinks,
    summary="Create download links",
    responses=problems(not_found="There is no such checkpoint or file, or it was removed."),
    dependencies=[VIEWER],
)
def create_links(
    services: ServicesDep,
    principal: PrincipalDep,
    checkpoint_id: CheckpointId,
    request: LinkRequest | None = None,
) -> DownloadLinks:
    """Create links that download files without a key, for a browser or another machine.

    They are relative to the service's URL. Without a body: for all files.

    Whoever has a link can download its file until the link expires or its key ends.
    """
    with services.sessions() as session:
        checkpoint = find_checkpoint(session, checkpoint_id, services.settings.runs_dir)
    signer, asked = services.access.signer, request.file_name if request is not None else None
    if asked is not None and asked.startswith(f"{BASES_FOLDER}/"):
        name = find_basis(checkpoint, services.settings.bases_dir).file_at(asked)
        link = signer.sign(checkpoint_id, name, principal.key_id, of_basis=True)
        return DownloadLinks(items=[link.model_copy(update={"file_name": asked})])
    if asked is not None:
        checkpoint.file_facts(asked)
    names = sorted(checkpoint.view.files) if asked is None else [asked]
    return DownloadLinks(
        items=[signer.sign(checkpoint_id, name, principal.key_id) for name in names]
    )


@router.get(
    "/audit", response_model=AuditPage, summary="List the audit trail", dependencies=[ADMIN]
)
def list_audit(
    services: ServicesDep, filters: Annotated[entries.AuditFilters, Query()]
) -> AuditPage:
    """List the requests that changed something, or tried to, with sender, time and outcome.

    Newest first. Recorded where keys are required; `pmae gc` removes old entries.
    """
    with services.sessions() as session:
        return entries.list_entries(session, filters)
