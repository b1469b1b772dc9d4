"""The thread of a worker's main process that says that the worker is there."""

from __future__ import annotations

import os
import threading

import pytest
from sqlalchemy.orm import Session, sessionmaker

from worker.presence.heartbeat import Identity, Presence
from worker.settings import WorkerSettings


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_until_it_is_not_in_the_database(
    sessions: sessionmaker[Session], settings: WorkerSettings
) -> None:
    inside, may_leave = threading.Event(), threading.Event()

    class SlowPresence(Presence):
        def _renew(self) -> bool:
            inside.set()
            assert may_leave.wait(60)
            return super()._renew()

    presence = SlowPresence(
        sessions,
        settings,
        Identity("here", 1.0),
        set_draining=lambda _: None,
        tend=lambda: None,
        refuse=lambda error: pytest.fail(str(error)),
    )
    presence.start()
    assert inside.wait(60)
    threading.Timer(0.3, may_leave.set).start()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if may_leave.is_set() and not presence._in_database.locked() else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    presence.stop()
