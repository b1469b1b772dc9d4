"""Start the services in order, restart those that end, and stop them in order."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from importlib.util import find_spec
from typing import Self

import httpx

from pmae.client import ApiError, PmaeClient
from pmae.client.client import connect
from pmae.errors import ClientError, StackError
from pmae.runtime.interrupts import Interrupts
from pmae.up import broker
from pmae.up.configuration import HOST, UpSettings
from pmae.up.home import HomeLock, broker_socket
from pmae.up.process import Service

START_SECONDS = 120.0
DRAIN_SECONDS = 120.0
"""Time for a training run to write a checkpoint and return to the queue."""
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.1


class Interrupted(Exception):  # noqa: N818
    """A signal asked to stop before the services were up."""


class Stack:
    """The services of one home; leaving the ``with`` block stops them.

    No service outlives this process, even if it is killed: see :mod:`pmae.up.guard`.
    """

    def __init__(
        self, settings: UpSettings, interrupts: Interrupts, say: Callable[[str], None]
    ) -> None:
        """Prepare the stack; entering takes the home's lock, :meth:`start` starts the services.

        Args:
            settings: settings of this machine's service.
            interrupts: entered by the caller; a signal ends every wait.
            say: called with a message for each event of a service.
        """
        self.settings = settings
        self._say = say
        self._interrupts = interrupts
        self._services: dict[str, Service] = {}
        self._environment: dict[str, str] = {}
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        """Take the home's lock and check the ports.

        Raises:
            StackError: the home or a port is in use.
        """
        with ExitStack() as resources:
            resources.enter_context(HomeLock(self.settings))
            _check_port(self.settings.api_port, "PMAE_API_PORT")
            _check_port(self.settings.dashboard_port, "PMAE_DASHBOARD_PORT")
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._resources:
            self.stop()

    def start(self) -> None:
        """Start all services and wait until they are ready.

        Raises:
            StackError: a service ended or is not ready in time; has the end of its log.
            Interrupted: a signal asked to stop meanwhile.
        """
        self.settings.logs_dir.mkdir(parents=True, exist_ok=True)
        self._environment = self.settings.environment(self._start_broker())
        self._migrate()
        client = self._resources.enter_context(connect(self.settings.api_url))
        for service in (self._api(), self._dashboard()):
            self._launch(service)
        self._wait_until_ready(self._services["api"])
        self._launch(self._worker(client))
        for name in ("worker", "dashboard"):
            self._wait_until_ready(self._services[name])

    def tend(self) -> None:
        """Restart the services that have ended, with a backoff."""
        for service in self._services.values():
            if service.running:
                continue
            newly = service.ended_newly
            seconds = service.back_off()
            if newly:
                self._say(
                    f"the {service.name} ended with status {service.exit_status}; starting it "
                    f"again in {seconds:.0f} s (log: {service.log_path})"
                )
            if seconds == 0:
                service.start(self._environment, self.settings.working_dir)

    def pause(self, seconds: float) -> bool:
        """Tend the services once, then sleep; a signal ends the sleep.

        Returns:
            True if a signal asked to stop.
        """
        self.tend()
        self._interrupts.pause(seconds)
        return self._interrupts.requested

    def stop(self) -> None:
        """Stop all services, the worker first and the broker last; another Ctrl-C kills them."""
        before = self._interrupts.count
        for names in (("worker",), ("dashboard", "api"), ("broker",)):
            services = [self._services[name] for name in names if name in self._services]
            for service in services:
                service.terminate()
            for service in services:
                self._wait_for_end(service, hasten=lambda: self._interrupts.count > before)
        self._services.clear()

    def _wait_for_end(self, service: Service, hasten: Callable[[], bool]) -> None:
        started = time.monotonic()
        announced = False
        while service.running and not hasten():
            waited = time.monotonic() - started
            if waited > service.stop_seconds:
                self._say(
                    f"the {service.name} did not end in {service.stop_seconds:.0f} s; killing it"
                )
                break
            if waited > 1 and not announced:
                announced = True
                self._say(f"stopping the {service.name} (Ctrl-C kills it at once)")
            self._interrupts.pause(LOOK_SECONDS)
        service.kill()

    def _start_broker(self) -> str:
        if self.settings.broker_url:
            return self.settings.broker_url
        path = broker_socket(self.settings)
        broker.remove_left_over(path)
        url = broker.url(path)
        self._environment = self.settings.environment(url)
        service = self._service(
            "broker", broker.command(path), is_ready=lambda: broker.answers(path)
        )
        self._launch(service)
        self._wait_until_ready(service)
        return url

    def _migrate(self) -> None:
        service = self._service("migration", _python("api.db.migrate"), is_ready=lambda: False)
        service.start(self._environment, self.settings.working_dir)
        try:
            while service.running:
                self._pause_or_raise()
            if service.exit_status != 0:
                raise self._failure(service, f"ended with status {service.exit_status}")
        finally:
            service.kill()

    def _api(self) -> Service:
        return self._service(
            "api",
            _python("api"),
            is_ready=lambda: _responds(f"{self.settings.api_url}/api/v1/livez"),
        )

    def _worker(self, client: PmaeClient) -> Service:
        # A killed supervisor leaves behind the row of its worker, which has the same name.
        left_over = None
        with suppress(ClientError):
            left_over = self._started_at(client)

        def is_ready() -> bool:
            try:
                return self._started_at(client) not in (None, left_over)
            except ApiError as error:
                # Without a key workers are not listed; a worker that cannot work would end.
                return error.problem.status == httpx.codes.UNAUTHORIZED
            except ClientError:
                return False

        return self._service(
            "worker",
            _python("worker"),
            is_ready=is_ready,
            stop_seconds=DRAIN_SECONDS,
        )

    def _started_at(self, client: PmaeClient) -> datetime | None:
        """Return the start time of the worker with this service's name; None if it is not up."""
        name = self.settings.worker_name
        return next((one.started_at for one in client.workers() if one.name == name), None)

    def _dashboard(self) -> Service:
        if find_spec("dashboard") is None or find_spec("streamlit") is None:
            raise StackError("the dashboard is not installed: pip install 'pmae[embedded]'")
        return self._service(
            "dashboard",
            _python("dashboard"),
            is_ready=lambda: _responds(f"{self.settings.dashboard_url}/_stcore/health"),
        )

    def _service(
        self,
        name: str,
        command: list[str],
        *,
        is_ready: Callable[[], bool],
        stop_seconds: float = STOP_SECONDS,
    ) -> Service:
        log_path = self.settings.logs_dir / f"{name}.log"
        return Service(name, command, log_path, stop_seconds, is_ready)

    def _launch(self, service: Service) -> None:
        self._services[service.name] = service
        service.start(self._environment, self.settings.working_dir)

    def _wait_until_ready(self, service: Service) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not service.is_ready():
            for any_service in self._services.values():
                if not any_service.running:
                    status = any_service.exit_status
                    raise self._failure(any_service, f"ended with status {status}")
            if time.monotonic() > deadline:
                raise self._failure(service, f"was not ready after {START_SECONDS:.0f} s")
            self._pause_or_raise()

    def _pause_or_raise(self) -> None:
        self._interrupts.pause(LOOK_SECONDS)
        if self._interrupts.requested:
            raise Interrupted

    def _failure(self, service: Service, what: str) -> StackError:
        return StackError(
            f"the {service.name} {what}. The end of {service.log_path}:\n\n{service.log_tail()}"
        )


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _responds(url: str) -> bool:
    try:
        # No proxy: the address is on this machine.
        with httpx.Client(trust_env=False, timeout=2) as client:
            return client.get(url).is_success
    except httpx.TransportError:
        return False


def _check_port(port: int, setting: str) -> None:
    """Check that ``port`` is free.

    Raises:
        StackError: it is in use, or cannot be listened on.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = (
                "is in use by another program"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used: {error.strerror}"
            )
            raise StackError(
                f"port {port} {reason}; set {setting} to a free port, for example {port + 1}"
            ) from error
