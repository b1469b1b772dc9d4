"""Permissions that routes need, declared beside each route.

An application with a route that declares none does not start, so none is open by mistake. A route
declares one of::

    @router.get(..., dependencies=[VIEWER])       reads
    @router.post(..., dependencies=[SUBMITTER])   creates something that the caller owns
    @router.patch(..., dependencies=[OWNER])      changes a run, or a checkpoint of it
    @router.post(..., dependencies=[ADMIN])       affects everybody
    @router.post(..., dependencies=[SIGN_IN])     begins or ends a session of the caller's own
    @router.get(..., dependencies=[EVERYBODY])    shows nothing confidential
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy import select
from starlette.routing import compile_path

from api.auth.errors import ForbiddenError
from api.auth.principal import Principal
from api.db.tables import RunRow
from api.services import Services
from pmae.schema.access import Role

_RUN_ID = re.compile(r"[0-9a-f]{8,32}")


@dataclass(frozen=True)
class Needs:
    """Dependency: check the permissions of a request's sender.

    Attributes:
        role: minimum role of the caller; None: open to everybody.
        owns_run: the caller must own the run in the path, or be an admin.
        signs_in: begins or ends a session: counted and recorded like other changes, although
            viewers may do it.
    """

    role: Role | None
    owns_run: bool = False
    signs_in: bool = False

    @property
    def writes(self) -> bool:
        """True if the route changes something; a viewer can only begin and end sessions."""
        return self.signs_in or self.role not in (None, "viewer")

    async def __call__(self, request: Request) -> None:
        """Check the sender of ``request``.

        Raises:
            ForbiddenError: its role is too low, or the run belongs to somebody else.
            TooManyRequestsError: too many writes.
        """
        if self.role is None:
            return
        services: Services = request.app.state.services
        principal: Principal = request.state.principal
        if self.writes and principal.name is not None:
            services.access.count_write(request.scope, principal.name)
        if not principal.may(self.role):
            raise ForbiddenError(
                f"the key {principal.name!r} has the role {principal.role}; expected {self.role}",
                code="role_too_small",
            )
        if self.owns_run and not principal.may("admin"):
            await services.access.check(_check_owner, services, request.path_params, principal)


EVERYBODY = Depends(Needs(None))
VIEWER = Depends(Needs("viewer"))
SUBMITTER = Depends(Needs("submitter"))
OWNER = Depends(Needs("submitter", owns_run=True))
ADMIN = Depends(Needs("admin"))
SIGN_IN = Depends(Needs("viewer", signs_in=True))


def _check_owner(services: Services, path: dict[str, Any], principal: Principal) -> None:
    """Check that the caller owns the run; the route reports one that does not exist."""
    run_id = str(path.get("run_id") or str(path.get("checkpoint_id")).rpartition("-")[0])
    if _RUN_ID.fullmatch(run_id) is None:
        return
    query = select(RunRow.owner).where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
    with services.sessions() as session:
        found = session.execute(query).one_or_none()
    if found is None or found.owner == principal.name:
        return
    raise ForbiddenError(
        f"run {run_id} belongs to {repr(found.owner) if found.owner else 'nobody'}; only its owner "
        f"and admins may change it and its checkpoints, and this key is {principal.name!r}",
        code="not_the_owner",
    )


@dataclass(frozen=True)
class Operation:
    """A route and its requirements."""

    name: str
    path: str
    methods: frozenset[str]
    needs: Needs
    pattern: re.Pattern[str]


class Permissions:
    """Requirements of all routes of an application.

    Args:
        routers: pairs of path prefix and router.

    Raises:
        TypeError: routes do not declare exactly one requirement; names each.
    """

    def __init__(self, routers: Sequence[tuple[str, APIRouter]]) -> None:
        routes = [
            (prefix + route.path, route)
            for prefix, router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
        ]
        bad = [f"{r.methods} {path}" for path, r in routes if len(_declared(r)) != 1]
        if bad:
            raise TypeError(
                "expected each route to declare one of api.auth.requirements in `dependencies`; "
                f"these do not: {', '.join(bad)}"
            )
        self.operations = [
            Operation(
                name=route.name,
                path=path,
                methods=frozenset(route.methods or ()),
                needs=_declared(route)[0],
                pattern=compile_path(path)[0],
            )
            for path, route in routes
        ]
        self.open_paths = frozenset(o.path for o in self.operations if o.needs.role is None)

    def find(self, method: str, path: str) -> Operation | None:
        """Find the operation of a request; None if there is none."""
        for operation in self.operations:
            if method in operation.methods and operation.pattern.fullmatch(path):
                return operation
        return None

    def named(self, name: str) -> Operation:
        """Return the operation of that name."""
        return next(operation for operation in self.operations if operation.name == name)

    def of(self, name: str) -> Needs:
        """Return the requirements of the operation of that name."""
        return self.named(name).needs


def _declared(route: APIRoute) -> list[Needs]:
    found = (dependency.dependency for dependency in route.dependencies)
    return [needs for needs in found if isinstance(needs, Needs)]
