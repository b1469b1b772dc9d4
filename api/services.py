"""Services that the requests of one application share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from api.settings import ApiSettings

if TYPE_CHECKING:
    from api.audit.writer import AuditWriter
    from api.auth.identify import Access
    from api.events.streams import EventStreams
    from api.health.prometheus import PrometheusMetrics
    from api.health.readiness import ReadinessCheck
    from api.queue.wake_up import WakeUpSender
    from api.reconstructions.pool import Reconstructor


@dataclass(frozen=True, kw_only=True)
class Services:
    """Shared services, from the start of the application to its end."""

    settings: ApiSettings
    sessions: sessionmaker[Session]
    wake_ups: WakeUpSender
    streams: EventStreams
    reconstructor: Reconstructor
    prometheus: PrometheusMetrics
    access: Access
    audit_writer: AuditWriter
    readiness: ReadinessCheck


async def get_services(request: Request) -> Services:
    """Dependency: return the services of the application that serves ``request``."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]
