"""``/keys``, ``/sessions``, ``/identity``, ``/audit`` and a checkpoint's ``/links``: the routes."""

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
    """End a key at once, its sessions, and the links that it made. Its runs stay, and go on."""
    with services.sessions.begin() as session:
        service.revoke_key(session, name)


@router.post(
    "/sessions",
    status_code=http.HTTPStatus.CREATED,
    response_model=NewSignInSession,
    summary="Sign a browser in",
    responses=problems(
        forbidden="The request carries the token of a session, not a key.",
        conflict="Keys are off: nobody signs in.",
        unprocessable_entity="The body is not valid.",
    ),
    dependencies=[SIGN_IN],
)
def create_session(
    services: ServicesDep,
    principal: PrincipalDep,
    request: Request,
    body: SignInRequest | None = None,
) -> NewSignInSession:
    """Begin a session of the key that the request carries, for `PMAE_SESSION_DAYS`.

    The answer is the only place where its token is ever shown. The token is taken wherever a key
    is, with the key's name and role, until the session ends, or the key does. This API takes it
    from the `Authorization` header only, never from a cookie.
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
    """The sessions of the caller's key that hold, newest first; an admin sees everybody's."""
    with services.sessions() as session:
        return SignInSessionList(items=sign_ins.list_sessions(session, principal))


@router.delete(
    "/sessions/current",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="Sign this browser out",
    responses=problems(not_found="The request carries the token of no session."),
    dependencies=[SIGN_IN],
)
def end_current_session(services: ServicesDep, principal: PrincipalDep) -> None:
    """End the session whose token the request carries, at once.

    Download links that it made are its key's: they hold for their minutes.
    """
    with services.sessions.begin() as session:
        sign_ins.end_current_session(session, principal)


@router.delete(
    "/sessions/{session_id}",
    status_code=http.HTTPStatus.NO_CONTENT,
    response_model=None,
    summary="End a session",
    responses=problems(not_found="The caller's key has no such session; nobody has, for an admin."),
    dependencies=[SIGN_IN],
)
def end_session(services: ServicesDep, principal: PrincipalDep, session_id: SessionId) -> None:
    """End a session of the caller's key, at once; an admin ends anybody's."""
    with services.sessions.begin() as session:
        sign_ins.end_session(session, principal, session_id)


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
    "/audit", response_model=AuditPage, summary="List what was changed", dependencies=[ADMIN]
)
def list_audit(
    services: ServicesDep, filters: Annotated[entries.AuditFilters, Query()]
) -> AuditPage:
    """Each request that changed something, or tried to: who, what, when, and what came of it.

    Newest first. Kept where keys are required; `pmae gc` removes what is old.
    """
    with services.sessions() as session:
        return entries.list_entries(session, filters)
