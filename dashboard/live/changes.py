"""Watcher of the service's changes: one thread follows the events for all pages."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict

from pmae.client import ApiError, ClientError, Event, PmaeClient
from pmae.client.backoff import Backoff

RETRY_SECONDS = 5.0
MAX_TOKENS = 32


class Changes:
    """Counter of each run's events, by which a page detects changes.

    The thread reads the stream of all runs, with the token of a reader whose page is open where
    the service asks for keys; when that one does not hold any more, with another's. Nothing but
    counts leaves it.

    Args:
        client: of the service, without a key. The thread ends when it is closed.
    """

    def __init__(self, client: PmaeClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._token_came = threading.Condition(self._lock)
        self._tokens: OrderedDict[str | None, None] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._connected = False
        self._thread = threading.Thread(target=self._follow, name="changes", daemon=True)
        self._thread.start()

    def version(self, run_id: str | None, token: str | None) -> int | None:
        """Return the number of events of a run and of the runs that evaluate it.

        Args:
            run_id: of the run; None: of all runs.
            token: of the reader who asks; None where the service asks for no keys.

        Returns:
            None: unknown, since the events are not read now.
        """
        with self._lock:
            if token not in self._tokens:
                self._tokens[token] = None
                self._token_came.notify_all()
            self._tokens.move_to_end(token)
            while len(self._tokens) > MAX_TOKENS:
                self._tokens.popitem(last=False)
            if not self._connected:
                return None
            return self._total if run_id is None else self._counts[run_id]

    def _follow(self) -> None:
        """Read events while the client is open, across restarts and expired tokens."""
        last_id: int | None = None
        while not self._client.is_closed():
            with self._lock:
                if not self._token_came.wait_for(lambda: self._tokens, timeout=RETRY_SECONDS):
                    continue
                token = next(reversed(self._tokens))
            client = self._client.with_key(token) if token else self._client
            backoff = Backoff(self._note_away, on_answer=self._note_answer)
            try:
                for event in client.events(last_event_id=last_id, backoff=backoff):
                    last_id = event.id or last_id
                    self._count(event)
            except ApiError:
                self._forget(token)
            except ClientError as error:  # not this service, or of another version
                self._note_away(str(error))
                time.sleep(RETRY_SECONDS)

    def _count(self, event: Event) -> None:
        with self._lock:
            self._total += 1
            self._counts[event.run_id] += 1
            if event.run is not None and event.run.parent_id is not None:
                self._counts[event.run.parent_id] += 1

    def _forget(self, token: str | None) -> None:
        """Drop a token; the next page with a valid one provides it again."""
        with self._lock:
            self._connected = False
            self._tokens.pop(token, None)

    def _note_answer(self) -> None:
        with self._lock:
            self._connected = True

    def _note_away(self, _why: str) -> None:
        with self._lock:
            self._connected = False
