"""The application: ``uvicorn --factory api.main:create_app``, or ``python -m api``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType

import anyio.to_thread
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from starlette.middleware import Middleware

from api.audit.writer import AuditWriter
from api.auth.identify import Access
from api.auth.middleware import AccessMiddleware, AuditMiddleware
from api.auth.requirements import Permissions
from api.auth.routes import router as access_router
from api.catalogue.routes import metrics_router
from api.catalogue.routes import router as system_router
from api.checkpoints.in_use import release_marks
from api.checkpoints.routes import router as checkpoints_router
from api.db.errors import DATABASE_AWAY, DatabaseAwayError, SchemaError, reason
from api.db.migrate import upgrade
from api.db.opening import check_database
from api.db.revision import require_current
from api.db.session import make_engine, make_sessions
from api.evaluations.routes import router as evaluations_router
from api.events.routes import router as events_router
from api.events.streams import EventStreams
from api.health.prometheus import PrometheusMetrics, ServiceCollector
from api.health.readiness import ReadinessCheck
from api.http.docs import router as docs_router
from api.http.error_handlers import install_error_handlers
from api.http.middleware import BodyLimitMiddleware, OriginMiddleware
from api.http.openapi import Document
from api.http.request_log import RequestLogMiddleware
from api.http.responses import API_PREFIX
from api.queue.reconcile import expire_lost_leases, repeat_wake_ups
from api.queue.wake_up import BROKER_ERRORS, WakeUpSender
from api.reconstructions.pool import Reconstructor
from api.runs.across import router as across_router
from api.runs.details import router as run_details_router
from api.runs.idempotency import forget_old_keys
from api.runs.routes import router as runs_router
from api.runs.submit import router as submit_router
from api.services import Services
from api.settings import ApiSettings
from api.storage.deletion import finish_deletions
from pmae import __version__
from pmae.runtime.logging import log_context

_logger = logging.getLogger(__name__)

ROUTERS = (
    (API_PREFIX, submit_router),
    (API_PREFIX, runs_router),
    (API_PREFIX, run_details_router),
    (API_PREFIX, across_router),
    (API_PREFIX, events_router),
    (API_PREFIX, checkpoints_router),
    (API_PREFIX, evaluations_router),
    (API_PREFIX, access_router),
    (API_PREFIX, system_router),
    (API_PREFIX, docs_router),
    ("", metrics_router),
)
"""All routers, with the prefixes of their paths."""
DESCRIPTION = """\
Pretrain vision models by masking principal components (PMAE) or patches (MAE): submit a spec,
follow the run, download its checkpoints, view reconstructions.

Errors are `application/problem+json` (RFC 9457) with a stable `code` and, in `errors`, a pointer to
each bad field. Times are in UTC. Lists come in pages with an opaque cursor.

Where the service requires keys, each request needs `Authorization: Bearer pmae_...`. On this page,
enter a key under *Authorize*; reloading the page forgets it.
"""


def create_app(settings: ApiSettings | None = None) -> FastAPI:
    """Create the application.

    Args:
        settings: default: from the environment.
    """
    settings = settings or ApiSettings()
    prometheus = PrometheusMetrics()
    permissions = Permissions(ROUTERS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        def refuse(error: SchemaError) -> None:
            """End the process as a signal does: the schema has changed under it."""
            app.state.refusal = error
            _logger.critical("the API ends: %s", error)
            os.kill(os.getpid(), signal.SIGTERM)

        async with running_services(settings, prometheus, refuse) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="pmae",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # api.http.docs serves the document and the page
        redirect_slashes=False,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(RequestLogMiddleware, observe=prometheus.observe_request),
            Middleware(
                OriginMiddleware, hosts=settings.allowed_hosts, origins=settings.allowed_origins
            ),
            Middleware(AuditMiddleware, permissions=permissions),
            Middleware(AccessMiddleware, permissions=permissions),
            Middleware(
                BodyLimitMiddleware,
                max_body_bytes=settings.max_body_bytes,
                larger={permissions.named("reconstruct").pattern: settings.max_upload_bytes},
            ),
        ],
    )
    install_error_handlers(app)
    for prefix, router in ROUTERS:
        app.include_router(router, prefix=prefix)
    app.state.document = Document(app, permissions)
    app.openapi = app.state.document  # type: ignore[method-assign]
    return app


def open_database(settings: ApiSettings) -> None:
    """Migrate the database, or check its schema, by ``settings.migrates_on_start``.

    A database that does not answer yet is not an error: requests get 503 until it does.

    Raises:
        SchemaError: its schema is of another version of the service.
        DatabaseRefusedError: it cannot be used.
        DatabaseAwayError: it does not answer and should be migrated.
    """
    if settings.migrates_on_start:
        upgrade(settings.sqlalchemy_url)
        return
    try:
        check_database(settings.sqlalchemy_url)
    except DatabaseAwayError as error:
        _logger.warning("%s; requests are answered with 503 until it does", error)


@asynccontextmanager
async def running_services(
    settings: ApiSettings, prometheus: PrometheusMetrics, refuse: Callable[[SchemaError], None]
) -> AsyncIterator[Services]:
    """Open the services that requests share, and run the background tasks."""
    await anyio.to_thread.run_sync(open_database, settings)
    engine = make_engine(settings.sqlalchemy_url)
    sessions = make_sessions(engine)
    collector = ServiceCollector(sessions, settings)
    prometheus.registry.register(collector)
    streams = EventStreams(
        sessions,
        poll_seconds=settings.stream_poll_seconds,
        heartbeat_seconds=settings.stream_heartbeat_seconds,
    )
    access = Access(settings, sessions)
    try:
        with (
            WakeUpSender(settings) as wake_ups,
            Reconstructor(settings) as reconstructor,
            AuditWriter(sessions) as audit_writer,
            calling_on_stop(streams.close),
        ):
            async with (
                streams.running(),
                reconciling(settings, sessions, wake_ups, prometheus, refuse),
                deleting(settings, sessions),
            ):
                yield Services(
                    settings=settings,
                    sessions=sessions,
                    wake_ups=wake_ups,
                    streams=streams,
                    reconstructor=reconstructor,
                    prometheus=prometheus,
                    access=access,
                    audit_writer=audit_writer,
                    readiness=ReadinessCheck.of(settings, sessions, wake_ups),
                )
    finally:
        await access.close()
        prometheus.registry.unregister(collector)
        engine.dispose()


@asynccontextmanager
async def reconciling(
    settings: ApiSettings,
    sessions: sessionmaker[Session],
    wake_ups: WakeUpSender,
    prometheus: PrometheusMetrics,
    refuse: Callable[[SchemaError], None],
) -> AsyncIterator[None]:
    """Expire leases and wake workers every few seconds.

    Calls ``refuse`` instead if the database was migrated to another schema.
    """

    def once() -> None:
        try:
            with sessions() as session:
                require_current(session)
            lost = expire_lost_leases(sessions)
            prometheus.leases_lost.inc(len(lost))
            for run_id in lost:
                with log_context(run_id=run_id):
                    _logger.warning("the lease has expired; the run was reclaimed")
            repeat_wake_ups(
                sessions,
                send=wake_ups.send,
                waiting_messages=wake_ups.waiting_messages,
                worker_silence_seconds=settings.lease_seconds,
            )
        except BROKER_ERRORS as error:
            _logger.warning("workers are not woken: the broker does not answer: %s", error)
        except SchemaError as error:
            refuse(error)
        except SQLAlchemyError as error:
            _logger.warning(
                "leases are not checked: the database does not answer: %s", reason(error)
            )

    async with run_periodically(once, settings.reconcile_seconds, "reconciler"):
        yield


@asynccontextmanager
async def deleting(settings: ApiSettings, sessions: sessionmaker[Session]) -> AsyncIterator[None]:
    """Remove deleted runs, marks of ended runs and old idempotency keys, every few seconds."""
    stopping = threading.Event()

    def once() -> None:
        try:
            release_marks(sessions, settings.runs_dir)
            forget_old_keys(sessions, retention_days=settings.idempotency_retention_days)
            for run_id in finish_deletions(sessions, settings.runs_dir, stopping):
                with log_context(run_id=run_id):
                    _logger.info("the run was deleted")
        except DATABASE_AWAY as error:
            _logger.warning("nothing is deleted: the database does not answer: %s", reason(error))

    async with run_periodically(once, settings.reconcile_seconds, "deletions"):
        try:
            yield
        finally:
            stopping.set()


@asynccontextmanager
async def run_periodically(
    work: Callable[[], None], seconds: float, name: str
) -> AsyncIterator[None]:
    """Run ``work`` in a thread, now and every ``seconds``, until the block ends."""
    stopping = asyncio.Event()
    thread = anyio.CapacityLimiter(1)  # its own, since it may wait long for the database

    async def forever() -> None:
        while not stopping.is_set():
            try:
                await anyio.to_thread.run_sync(work, limiter=thread)
            except Exception:
                _logger.exception("a round of %s failed; it will be repeated", name)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), timeout=seconds)

    task = asyncio.create_task(forever(), name=name)
    try:
        yield
    finally:
        # Not cancelled: a round in progress holds a connection.
        stopping.set()
        await task


@contextmanager
def calling_on_stop(callback: Callable[[], None]) -> Iterator[None]:
    """Call ``callback`` in the event loop as soon as the process gets SIGINT or SIGTERM.

    A server waits for open responses before it shuts the application down, and event streams stay
    open, so the signal itself has to end them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a server that is not stopped by signals
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
