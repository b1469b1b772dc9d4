"""Up to which id the events of all runs are complete.

PostgreSQL gives ids out before it commits: event 5 can be seen while the transaction that will make
event 4 visible goes on, and who then asks for what comes after 5 never sees 4. A transaction that
is rolled back leaves a gap of its own. So at a gap one waits until every transaction that ran when
it was seen has ended; what is missing then will never come.

Transactions that write events have written to another table before, so that they have a number
(``xid``) by the time they take an id, and a snapshot tells of them.

SQLite lets one transaction write at a time: there ids become visible in their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Text, cast, func, select
from sqlalchemy.orm import Session

from api.db.tables import RunEventRow

_MOST_IDS = 2_000
_RECENT_IDS = 500
"""No transaction takes an id and commits so many others' ids later."""


@dataclass(frozen=True)
class Place:
    """Beginning of a stream that wants only what happens from now on.

    Attributes:
        last_id: the stream gets events after this id,
        known: except these, which could be seen when it began.
    """

    last_id: int
    known: frozenset[int]


def place_of_now(session: Session) -> Place:
    """The place after every event that can be seen, and before any that cannot be seen yet."""
    ids = session.scalars(
        select(RunEventRow.id).order_by(RunEventRow.id.desc()).limit(_RECENT_IDS)
    ).all()
    return Place(min(ids, default=1) - 1, frozenset(ids))


class EventOrder:
    """Follows the ids of the events while streams are open.

    Attributes:
        complete_to: every event up to this id can be seen, or will never be there; None: not known
            yet.
        behind: there was more to look at than one look does.
    """

    def __init__(self) -> None:
        self.complete_to: int | None = None
        self.behind = False
        self._gaps: tuple[int, int] | None = None
        """An id and a transaction number: gaps up to the id are final once all transactions before
        the number have ended."""

    def look(self, session: Session) -> None:
        """Raise ``complete_to`` as far as is certain; later reads of ``session`` see all of it."""
        if session.get_bind().dialect.name != "postgresql":
            self.complete_to = session.scalar(select(func.max(RunEventRow.id))) or 0
            return
        if self._gaps is not None:
            self._end_gaps(session)
        if self.complete_to is None:
            newest = session.scalar(select(func.max(RunEventRow.id))) or 0
        else:
            newest = self._follow(session, self.complete_to)
        if self._gaps is None and newest != self.complete_to:
            self._gaps = (newest, _snapshot(session)[1])
            self._end_gaps(session)

    def _follow(self, session: Session, complete_to: int) -> int:
        """Count on to the first gap; the newest id that was seen."""
        later = select(RunEventRow.id).where(RunEventRow.id > complete_to)
        ids = session.scalars(later.order_by(RunEventRow.id).limit(_MOST_IDS)).all()
        self.behind = len(ids) == _MOST_IDS
        for event_id in ids:
            if event_id != complete_to + 1:
                break
            complete_to = event_id
        self.complete_to = complete_to
        return ids[-1] if ids else complete_to

    def _end_gaps(self, session: Session) -> None:
        assert self._gaps is not None
        seen_to, first_later = self._gaps
        if _snapshot(session)[0] >= first_later:
            self.complete_to = max(self.complete_to or 0, seen_to)
            self._gaps = None


def _snapshot(session: Session) -> tuple[int, int]:
    """The oldest transaction that is under way, and the next one that will begin."""
    now = func.pg_current_snapshot()
    oldest, following = func.pg_snapshot_xmin(now), func.pg_snapshot_xmax(now)
    # To PostgreSQL an xid8 is no number, but its text is one.
    numbers = select(cast(cast(oldest, Text), BigInteger), cast(cast(following, Text), BigInteger))
    found = session.execute(numbers).one()
    return found[0], found[1]
