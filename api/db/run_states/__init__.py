"""The states of a run. This package alone changes ``runs.state``.

===================  =====================================================================
from -> to           who, when
===================  =====================================================================
(new) -> queued      the API, on submit
queued -> running    a worker claims the best run that its slot can serve: priority, then age
running -> succeeded the worker, when the trainer reported ``end``
running -> failed    the worker; or the reconciler, when a lease ended after the last attempt
running -> cancelled the worker, when the trainer has exited; or the reconciler
running -> queued    the worker, when it drains or its trainer was killed; or the reconciler; or the
                     restore of a backup
queued -> cancelled  the API
failed, cancelled -> queued   the API (resume)
===================  =====================================================================

A run that has ended can be deleted: ``deleted_at`` hides it, it no longer changes, and an event
without a run reports the deletion. A run cannot be deleted while a queued or running run needs one
of its checkpoints.

Every change is one ``UPDATE ... WHERE`` and took place only if it matched a row; nothing is read
first. The lease number fences: a worker's updates match the number of its claim, so those of a
stale worker match nothing. Each change adds its history entry in the same transaction.

The functions take a session and do not commit: call them in ``with sessions.begin() as session``.
"""

from __future__ import annotations

from api.db.run_states.by_api import (
    MAX_ATTEMPTS,
    expire_leases,
    mark_deleted,
    reclaim_restored,
    request_cancel,
    resume,
    submit,
)
from api.db.run_states.by_worker import (
    claim,
    finish,
    heartbeat,
    release,
    release_all_of,
    requeue,
)
from api.db.run_states.claims import ANY_KIND, Claim, Slot, held
from api.db.run_states.dependents import UNFINISHED_STATES, who_needs
from api.db.run_states.machine import TRANSITIONS, Parent, hold

__all__ = [
    "ANY_KIND",
    "MAX_ATTEMPTS",
    "TRANSITIONS",
    "UNFINISHED_STATES",
    "Claim",
    "Parent",
    "Slot",
    "claim",
    "expire_leases",
    "finish",
    "heartbeat",
    "held",
    "hold",
    "mark_deleted",
    "reclaim_restored",
    "release",
    "release_all_of",
    "request_cancel",
    "requeue",
    "resume",
    "submit",
    "who_needs",
]
