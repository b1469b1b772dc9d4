"""Identify the sender of a request, and apply the rate limits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import anyio.to_thread
from sqlalchemy.orm import Session, sessionmaker
from starlette.datastructures import Headers, QueryParams
from starlette.types import Scope

from api.auth.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from api.auth.limits import RateLimit
from api.auth.links import LinkSigner, make_signer
from api.auth.principal import ANYBODY, Principal
from api.auth.service import NOTED_SECONDS, note_use, verify_bearer, verify_link_key
from api.http.middleware import READING_METHODS
from api.settings import ApiSettings
from pmae.runtime.loopback import is_loopback

CHECK_THREADS = 8
NOTE_THREADS = 1
"""Separate from the threads that check keys: a write may wait for another program's write."""
_T = TypeVar("_T")
_COUNTED = "write_counted"


class Access:
    """Authentication and rate limits of one application. Used from its event loop."""

    def __init__(self, settings: ApiSettings, sessions: sessionmaker[Session]) -> None:
        self._settings = settings
        self._sessions = sessions
        self.keys_required = settings.keys_required
        self._writes = RateLimit(settings.writes_per_minute)
        self._failures = RateLimit(settings.failed_keys_per_minute)
        self._checking = anyio.CapacityLimiter(CHECK_THREADS)
        self._noting = anyio.CapacityLimiter(NOTE_THREADS)
        self._noted: dict[str, float] = {}
        self._notes: set[asyncio.Task[None]] = set()

    @cached_property
    def signer(self) -> LinkSigner:
        """Signer of download links. Its secret is generated on first use."""
        return make_signer(self._settings)

    async def identify(self, scope: Scope, *, is_open: bool) -> Principal | None:
        """Identify the sender of a request.

        Args:
            scope: of the request.
            is_open: True if the route needs no key.

        Returns:
            The sender; None if it has no valid key and the route needs none.

        Raises:
            UnauthorizedError: it has no valid key.
            ForbiddenError: its link is invalid; or keys are off, and it came over a network.
            TooManyRequestsError: too many invalid keys and links came from its address.
        """
        if not self.keys_required:
            _refuse_network(scope)
            return ANYBODY
        try:
            return await self._verified(scope)
        except (UnauthorizedError, ForbiddenError) as error:
            if is_open:
                return None
            self._count_failure(scope, error)
            raise

    async def check(self, look: Callable[..., _T], *arguments: object) -> _T:
        """Run ``look``, a query that only reads, in a thread."""
        return await anyio.to_thread.run_sync(look, *arguments, limiter=self._checking)

    async def close(self) -> None:
        """Wait for pending writes, which hold connections."""
        await asyncio.gather(*self._notes)

    def count_write(self, scope: Scope, caller: str) -> None:
        """Count a request that changes something, or that the audit trail records.

        Args:
            scope: of the request; each is counted once.
            caller: the name of the key, or the address where there is none.

        Raises:
            TooManyRequestsError: the caller sent too many.
        """
        state = scope.setdefault("state", {})
        if state.get(_COUNTED):
            return
        state[_COUNTED] = True
        seconds = self._writes.seconds_to_wait(caller)
        if seconds:
            raise TooManyRequestsError(
                f"{caller} sent more than {self._writes.per_minute} writes in a minute",
                code="too_many_writes",
                retry_after_seconds=seconds,
            )

    async def _verified(self, scope: Scope) -> Principal:
        given = Headers(scope=scope).get("authorization")
        if given is not None:
            scheme, _, text = given.partition(" ")
            if scheme.lower() != "bearer":
                raise UnauthorizedError(
                    f"expected a key as `Authorization: Bearer pmae_...`, not as {scheme[:20]!r}"
                )
            principal = await self.check(verify_bearer, self._sessions, text.strip())
            self._note_use(principal)
            return principal
        query = QueryParams(scope["query_string"])
        if "signature" in query and scope["method"] in READING_METHODS:
            key_id = self.signer.check(scope["path"], query)
            return await self.check(verify_link_key, self._sessions, key_id)
        raise UnauthorizedError(
            "this service requires a key, `Authorization: Bearer pmae_...`; an admin creates one",
            code="key_required",
        )

    def _note_use(self, principal: Principal) -> None:
        """Record the use of a key, at most once a minute and without delaying the request."""
        now, used = time.monotonic(), principal.session_id or principal.key_id
        if used is None or now - self._noted.get(used, -math.inf) < NOTED_SECONDS:
            return
        self._noted[used] = now
        noting = anyio.to_thread.run_sync(
            note_use, self._sessions, principal.key_id, principal.session_id, limiter=self._noting
        )
        task = asyncio.create_task(noting)
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    def _count_failure(self, scope: Scope, error: UnauthorizedError | ForbiddenError) -> None:
        """Count a failure by address. Valid keys are never limited by it: many share a proxy's."""
        address = address_of(scope)
        if scope["method"] not in READING_METHODS:
            self.count_write(scope, address)
        seconds = 0.0 if error.code == "key_required" else self._failures.seconds_to_wait(address)
        if seconds:
            raise TooManyRequestsError(
                f"too many invalid keys and links came from {address}",
                code="too_many_failures",
                retry_after_seconds=seconds,
            )


def address_of(scope: Scope) -> str:
    """Return the client's address; a proxy's, unless the server is configured to trust it."""
    client = scope.get("client")
    return str(client[0])[:64] if client else "local"


def _refuse_network(scope: Scope) -> None:
    """Refuse connections from other machines while keys are off, however the server was started."""
    server = scope.get("server")
    if server is not None and server[1] is not None and not is_loopback(server[0]):
        raise ForbiddenError(
            "keys are off, so only this machine has access, but the service listens on "
            f"{server[0]}; set PMAE_REQUIRE_KEYS=true, or listen on 127.0.0.1",
            code="keys_needed",
        )
