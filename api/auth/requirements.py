"""What each route needs of who calls it, declared beside the route.

Nothing is open because it was forgotten: an application with a route that declares nothing does
not start. A route declares one of::

    @router.get(..., dependencies=[VIEWER])       reads
    @router.post(..., dependencies=[SUBMITTER])   makes something of the caller's own
    @router.patch(..., dependencies=[OWNER])      changes a run, or a checkpoint of it
    @router.post(..., dependencies=[ADMIN])       concerns everybody
    @router.post(..., dependencies=[SIGN_IN])     begins or ends a session of the caller's own
    @router.get(..., dependencies=[EVERYBODY])    tells nothing that a stranger may not know
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
    """A dependency: lets a request through, or not.

    Attributes:
        role: the least that the caller must have; None: open to everybody.
        owns_run: the run in the path must be the caller's, unless it is an admin.
        signs_in: it begins or ends a session: it is counted and recorded like any other change,
            although a viewer may send it.
    """

    role: Role | None
    owns_run: bool = False
    signs_in: bool = False

    @property
    def writes(self) -> bool:
        """Say whether such a route changes something; what else a viewer may do changes nothing."""
        return self.signs_in or self.role not in (None, "viewer")

    async def __call__(self, request: Request) -> None:
        """Look at who sends ``request``.

        Raises:
            ForbiddenError: the role is too small, or the run somebody else's.
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
                f"the key {principal.name!r} is a {principal.role}'s; this needs a {self.role}'s",
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
    """What does not exist is for the route to say."""
    run_id = str(path.get("run_id") or str(path.get("checkpoint_id")).rpartition("-")[0])
    if _RUN_ID.fullmatch(run_id) is None:
        return
    query = select(RunRow.owner).where(RunRow.id == run_id, RunRow.deleted_at.is_(None))
    with services.sessions() as session:
        found = session.execute(query).one_or_none()
    if found is None or found.owner == principal.name:
        return
    raise ForbiddenError(
        f"run {run_id} is {f'of {found.owner!r}' if found.owner else 'of nobody'}; it and its "
        f"checkpoints are changed by its owner and by admins, this key is {principal.name!r}",
        code="not_the_owner",
    )


@dataclass(frozen=True)
class Operation:
    """A route, and what it needs."""

    name: str
    path: str
    methods: frozenset[str]
    needs: Needs
    pattern: re.Pattern[str]


class Permissions:
    """What every route of an application needs.

    Args:
        routers: all of its routes, each router after what its addresses begin with.

    Raises:
        TypeError: a route declares nothing, or more than one thing; names each.
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
                "each route declares one of api.auth.requirements in its `dependencies`; these do "
                f"not: {', '.join(bad)}"
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
        """The operation that a request asks for, if there is one."""
        for operation in self.operations:
            if method in operation.methods and operation.pattern.fullmatch(path):
                return operation
        return None

    def named(self, name: str) -> Operation:
        """The operation of that name."""
        return next(operation for operation in self.operations if operation.name == name)

    def of(self, name: str) -> Needs:
        """What the operation of that name needs."""
        return self.named(name).needs


def _declared(route: APIRoute) -> list[Needs]:
    found = (dependency.dependency for dependency in route.dependencies)
    return [needs for needs in found if isinstance(needs, Needs)]
