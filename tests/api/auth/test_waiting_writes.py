"""Writes that wait for the database (another program's long transaction) hold up nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from sqlalchemy import delete, text

from api.db.session import make_engine
from api.db.tables import ApiKeyRow, AuditRow
from pmae.client import PmaeClient
from tests.api.auth.conftest import LockedApi, bearer
from tests.api.live import DIGITS
from tests.support.waiting import wait_until

REFUSED = 24
"""More than the threads that write, and than an event loop's own."""


@contextmanager
def writes_held(url: str) -> Iterator[None]:
    """Another program writes keys and the trail, and does not come to an end meanwhile."""
    engine = make_engine(url, pooled=False)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(delete(AuditRow).where(AuditRow.id < 0))
        else:
            for table in (AuditRow.__tablename__, ApiKeyRow.__tablename__):
                connection.execute(text(f"LOCK TABLE {table} IN SHARE MODE"))
        try:
            yield
        finally:
            connection.rollback()
    engine.dispose()


def test_keys_are_checked_and_streams_go_on_while_writes_wait(locked: LockedApi) -> None:
    live = locked.live
    run = live.add_run(state="running")
    keys = {name: locked.key(name).key for name in ("eve", "ida")}
    root_key = locked.key("root", "admin").key
    with writes_held(live.settings.sqlalchemy_url):
        for _ in range(REFUSED):
            refused = live.client.post("/runs", json=DIGITS, headers=bearer(keys["eve"]))
            assert refused.status_code == 403, "its line in the trail waits, the answer does not"
        with PmaeClient(live.url, api_key=keys["ida"], timeout=15) as client:
            assert client.run(run.id).state == "running", "the first use of this key is noted later"
            events = list(islice(client.events(run.id), 2))
            assert {event.type for event in events} == {"state", "progress"}
        wrong = bearer(keys["ida"][:-1] + "_")
        assert live.client.get("/runs", headers=wrong, timeout=15).status_code == 401
        assert live.client.get("/readyz", timeout=15).status_code == 503
    with PmaeClient(live.url, api_key=root_key) as root:
        wait_until(lambda: len(root.audit().items) == REFUSED, "the lines that waited")

        def noted() -> set[str]:
            return {key.name for key in root.api_keys() if key.last_used_at is not None}

        wait_until(lambda: noted() == {"eve", "ida", "root"}, "the notes that waited")
