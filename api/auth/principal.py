"""Who sends a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from pmae.schema.access import ROLES, Role


@dataclass(frozen=True)
class Principal:
    """The holder of a key, or whoever it is where keys are off.

    Attributes:
        name: the key's; None where keys are off.
        role: what it may do.
        key_id: the key's public part; None where keys are off.
        session_id: of the session whose token the request carries in the key's place, if any.
    """

    name: str | None
    role: Role
    key_id: str | None
    session_id: str | None = None

    @property
    def actor(self) -> str:
        """The name in a run's history."""
        return self.name or "api"

    def may(self, role: Role) -> bool:
        """Whether it may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


ANYBODY = Principal(name=None, role="admin", key_id=None)
"""Where keys are off: whoever reaches the service."""


async def get_stranger_or_principal(request: Request) -> Principal | None:
    """Who sends the request; None: somebody without a valid key, on a route that is open to all."""
    principal: Principal | None = request.state.principal
    return principal


async def get_principal(request: Request) -> Principal:
    """Who sends the request, on a route that needs a role."""
    principal: Principal = request.state.principal
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]
StrangerOrPrincipalDep = Annotated[Principal | None, Depends(get_stranger_or_principal)]
