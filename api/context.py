"""What the requests of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings

if TYPE_CHECKING:
    from api.access.access import Access
    from api.access.trail import AuditTrail
    from api.broker import Doorbell
    from api.checkpoints.reconstructions import Reconstructor
    from api.runs.streams import RunStreams
    from api.system.instruments import Instruments
    from api.system.readiness import ReadinessCheck


@dataclass(frozen=True, kw_only=True)
class Services:
    """Made when the application starts, closed when it ends."""

    settings: ApiSettings
    sessions: sessionmaker[Session]
    doorbell: Doorbell
    streams: RunStreams
    reconstructor: Reconstructor
    instruments: Instruments
    access: Access
    trail: AuditTrail
    readiness: ReadinessCheck


async def get_services(request: Request) -> Services:
    """The services of the application that serves ``request``."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]
