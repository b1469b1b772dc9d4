"""The sender of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from pmae.schema.access import ROLES, Role


@dataclass(frozen=True)
class Principal:
    """The sender of a request: the holder of a key, or anybody where keys are off.

    Attributes:
        name: the key's; None where keys are off.
        role: of the key; admin where keys are off.
        key_id: the key's public part; None where keys are off.
        session_id: of the session whose token was sent instead of a key, if any.
    """

    name: str | None
    role: Role
    key_id: str | None
    session_id: str | None = None

    @property
    def actor(self) -> str:
        """Name of the sender in a run's history."""
        return self.name or "api"

    def may(self, role: Role) -> bool:
        """Return True if the sender has the permissions of ``role``."""
        return ROLES.index(self.role) >= ROLES.index(role)


ANYBODY = Principal(name=None, role="admin", key_id=None)
"""The sender where keys are off."""


async def get_stranger_or_principal(request: Request) -> Principal | None:
    """Dependency: the sender; None without a valid key, on a route that is open to all."""
    principal: Principal | None = request.state.principal
    return principal


async def get_principal(request: Request) -> Principal:
    """Dependency: the sender, on a route that needs a role."""
    principal: Principal = request.state.principal
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]
StrangerOrPrincipalDep = Annotated[Principal | None, Depends(get_stranger_or_principal)]
