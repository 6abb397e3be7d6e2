"""The log of events and new candidates: durable before it is acknowledged, and counted once however often it is sent.

What is kept are facts (who met what, and when), never vectors: so a log outlives every model, and a model that takes the place
of another one reads it again. One process owns a log.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import operator
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from towerkit.serving.store import Store, cannot_be_opened

_LOG = logging.getLogger("towerkit.serving")
_META = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # the one that SQLite counts up by itself
EVENTS = sa.Table(
    "towerkit_events",
    _META,
    sa.Column("place", _BIG, primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("item", sa.Text),
    sa.Column("time", sa.Float(53)),
    sa.UniqueConstraint("model", "id"),
    sa.Index("towerkit_events_of_query", "model", "query"),
)
"""An event that weighs nothing any more has no time, and keeps its item as long as no later event has the same one."""
ITEMS = sa.Table(
    "towerkit_items",
    _META,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
REMOVED = sa.Table(
    "towerkit_removed_items",
    _META,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
)
FORGOTTEN = sa.Table(
    "towerkit_forgotten",
    _META,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("query", sa.Text, primary_key=True),
    sa.Column("time", sa.Float(53), nullable=False),
)
"""A hash of the key of each query that was forgotten, and up to when: events that are older come from somebody who repeats them."""
_IDS_AT_A_TIME = 500


@dataclass(frozen=True)
class Happened:
    """An event as it is kept."""

    model: str
    id: str
    query: str
    item: str
    time: float | None
    """Seconds since 1970. None of one that is told: it happens as it comes. None of one in the log: its item was met, and
    that is all that counts of it."""
    place: int = 0
    """Its place in the log."""


class Journal:
    """A log in SQLite or PostgreSQL; see the module's docstring. Used by one thread at a time.

    Args:
        where: The path of a SQLite file, or the address of a PostgreSQL database.

    Raises:
        DataError: If it cannot be opened.
        RunError: If another process owns it.
    """

    def __init__(self, where: str) -> None:
        self._store = Store(where)
        self._missed: list[Happened] = []
        self._clock = -math.inf
        self.item_changes = 0
        """How often candidates came, changed or went since the log was opened."""
        try:
            _META.create_all(self._store.engine)
            with self._store.writing() as connection:
                self._look(connection)
        except sa.exc.SQLAlchemyError as error:
            self._store.close()
            raise cannot_be_opened(where, error) from None
        except BaseException:
            self._store.close()
            raise

    def _look(self, connection: sa.Connection) -> None:
        """Learn what the log has; again where the database went and came back, for a commit may have been cut off or another's."""
        rows = connection.execute(sa.select(FORGOTTEN))
        self._forgotten = {(row.model, row.query): float(row.time) for row in rows}
        self._last: int = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(EVENTS.c.place), 0))) or 0
        self._times_owned = self._store.times_owned

    def _catch_up(self, connection: sa.Connection) -> None:
        if self._times_owned == self._store.times_owned:
            return
        asked = sa.select(EVENTS).where(EVENTS.c.place > self._last, EVENTS.c.item.is_not(None))
        self._missed += [_happened(row) for row in connection.execute(asked.order_by(EVENTS.c.place))]
        self._look(connection)

    def missed(self) -> list[Happened]:
        """Events that came into the log while the database was away; told once."""
        found, self._missed = self._missed, []
        return found

    def append(self, events: Sequence[Happened]) -> list[Happened | str | None]:
        """Write events, all of them or none; when this returns they are on disk.

        Args:
            events: In the order in which they came.

        Returns:
            For each the event with its place; None for one that was there before; the reason for one whose id was there with
            another content, or that happened before its query was forgotten.
        """
        with self._store.writing() as connection:
            self._catch_up(connection)
            known = self._known(connection, events)
            found: list[Happened | str | None] = []
            fresh: list[Happened] = []
            for event in events:
                before = known.get((event.model, event.id))
                forgotten = self._forgotten_until(event)
                if event.time is not None and event.time <= forgotten:
                    found.append(f"the query was forgotten after the event {event.id!r} happened")
                elif before is None:
                    time, place = self._time(event, forgotten), self._last + len(fresh) + 1
                    placed = Happened(event.model, event.id, event.query, event.item, time, place)
                    known[event.model, event.id] = placed
                    fresh.append(placed)
                    found.append(placed)
                else:
                    same = before.item == "" or (before.query, before.item) == (event.query, event.item)
                    found.append(None if same else f"the event {event.id!r} was told before, with another content")
            if not fresh:
                return found
            self._insert(connection, fresh)
        self._last += len(fresh)
        return found

    def _insert(self, connection: sa.Connection, events: Sequence[Happened]) -> None:
        """Write new events. The statement is SQLAlchemy's; its own way with the values would take longer than to write them."""
        statement = sa.insert(EVENTS).compile(dialect=connection.dialect)
        rows: list[Any] = [vars(event) for event in events]
        if statement.positiontup is not None:
            value_of = operator.itemgetter(*statement.positiontup)
            rows = [value_of(row) for row in rows]
        connection.exec_driver_sql(statement.string, rows)

    def _forgotten_until(self, event: Happened) -> float:
        if not self._forgotten:
            return -math.inf
        return self._forgotten.get((event.model, _hidden(event.query)), -math.inf)

    def _time(self, event: Happened, forgotten: float) -> float:
        """When it happened. What happens as it comes is never earlier than what came before, wherever the clock went."""
        if event.time is not None:
            return event.time
        self._clock = max(now(), self._clock)
        return max(self._clock, math.nextafter(forgotten, math.inf))

    @staticmethod
    def _known(connection: sa.Connection, events: Sequence[Happened]) -> dict[tuple[str, str], Happened]:
        """Of these ids, those that are in the log."""
        found: dict[tuple[str, str], Happened] = {}
        for model in dict.fromkeys(event.model for event in events):
            ids = [event.id for event in events if event.model == model]
            for start in range(0, len(ids), _IDS_AT_A_TIME):
                chunk = ids[start : start + _IDS_AT_A_TIME]
                asked = sa.select(EVENTS).where(EVENTS.c.model == model, EVENTS.c.id.in_(chunk))
                found |= {(model, row.id): _happened(row) for row in connection.execute(asked)}
        return found

    def knows(self, model: str) -> bool:
        """Whether anything was ever told of a model."""
        with self._store.reading() as connection:
            found = (sa.select(sa.exists().where(table.c.model == model)) for table in (EVENTS, ITEMS, REMOVED))
            return any(connection.scalar(each) for each in found)

    def read(self, model: str, after: int = 0) -> list[Happened]:
        """The events of a model that count, oldest first.

        Args:
            model: Its name.
            after: Only those behind this place.
        """
        asked = sa.select(EVENTS).where(EVENTS.c.model == model, EVENTS.c.place > after, EVENTS.c.item.is_not(None))
        with self._store.reading() as connection:
            return [_happened(row) for row in connection.execute(asked.order_by(EVENTS.c.place))]

    def forget(self, model: str, query: str) -> int:
        """Remove everything of a query, ids included, from the log and from what the file holds of it.

        A hash of the key stays, with the time of its last event or of now: what happened before that is not taken again.

        Args:
            model: Its name.
            query: The key.

        Returns:
            How many events are gone.
        """
        with self._store.writing() as connection:
            which = (EVENTS.c.model == model, EVENTS.c.query == query)
            last = connection.scalar(sa.select(sa.func.max(EVENTS.c.time)).where(*which)) or 0.0
            hidden, until = _hidden(query), max(now(), float(last))
            connection.execute(sa.delete(FORGOTTEN).where(FORGOTTEN.c.model == model, FORGOTTEN.c.query == hidden))
            connection.execute(sa.insert(FORGOTTEN), {"model": model, "query": hidden, "time": until})
            gone = connection.execute(sa.delete(EVENTS).where(*which))
        self._forgotten[model, hidden] = until
        self._store.write_back()
        return int(gone.rowcount)

    def compact(self, model: str, keep: int) -> int:
        """Take out of old events what happened; their ids stay, so that none counts again, and which items a query met.

        Args:
            model: Its name.
            keep: How many events of each query go on counting, of the last that came and of the last that happened.

        Returns:
            How many count no more; 0 where the log cannot be written now, for nothing depends on it.
        """
        try:
            with self._store.writing() as connection:
                count = sum(connection.execute(change).rowcount for change in _compactions(model, keep))
            if count:
                self._store.write_back()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            _LOG.warning(
                "the log of events cannot be compacted now, and stays as it is: %s", str(error).splitlines()[0]
            )
            return 0
        return int(count)

    def put_items(self, model: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Keep the rows of new candidates; one of a key that is there changes the columns that it names.

        Args:
            model: Its name.
            rows: Keys, and what is known of them.
        """
        with self._store.writing() as connection:
            for key, row in rows:
                which = (ITEMS.c.model == model, ITEMS.c.key == key)
                before = connection.scalar(sa.select(ITEMS.c.content).where(*which))
                connection.execute(sa.delete(ITEMS).where(*which))
                whole = row if before is None else json.loads(before) | row
                content = json.dumps(whole, ensure_ascii=True, allow_nan=False)
                connection.execute(sa.insert(ITEMS), {"model": model, "key": key, "content": content})
                connection.execute(sa.delete(REMOVED).where(REMOVED.c.model == model, REMOVED.c.key == key))
        self.item_changes += 1

    def items(self, model: str) -> list[dict[str, Any]]:
        """The rows of new candidates."""
        asked = sa.select(ITEMS.c.content).where(ITEMS.c.model == model).order_by(ITEMS.c.key)
        with self._store.reading() as connection:
            return [json.loads(content) for content in connection.scalars(asked)]

    def remove_item(self, model: str, key: str) -> None:
        """Keep that a candidate is an answer no more, until its row is put again.

        Args:
            model: Its name.
            key: Of the candidate.
        """
        with self._store.writing() as connection:
            connection.execute(sa.delete(REMOVED).where(REMOVED.c.model == model, REMOVED.c.key == key))
            connection.execute(sa.insert(REMOVED), {"model": model, "key": key})
        self.item_changes += 1

    def removed(self, model: str) -> list[str]:
        """The keys of candidates that are answers no more."""
        asked = sa.select(REMOVED.c.key).where(REMOVED.c.model == model).order_by(REMOVED.c.key)
        with self._store.reading() as connection:
            return list(connection.scalars(asked))

    def close(self) -> None:
        """Let go of the log."""
        self._store.close()


def _compactions(model: str, keep: int) -> list[sa.Update]:
    """First those that weigh nothing any more lose their time, then those whose item came again lose that too."""

    def number(of: Sequence[sa.ColumnElement[Any]], first: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[int]:
        return sa.func.row_number().over(partition_by=of, order_by=first)

    known = (EVENTS.c.model == model, EVENTS.c.item.is_not(None))
    latest, last = EVENTS.c.place.desc(), EVENTS.c.time.desc()
    ages = [
        number([EVENTS.c.query], [latest]).label("came"),
        number([EVENTS.c.query], [last, latest]).label("happened"),
    ]
    timed = sa.select(EVENTS.c.place, *ages).where(*known, EVENTS.c.time.is_not(None)).subquery()
    old = sa.select(timed.c.place).where(timed.c.came > keep, timed.c.happened > keep)
    again = number([EVENTS.c.query, EVENTS.c.item], [latest]).label("again")
    met = sa.select(EVENTS.c.place, EVENTS.c.time, again).where(*known).subquery()
    repeated = sa.select(met.c.place).where(met.c.time.is_(None), met.c.again > 1)
    return [
        sa.update(EVENTS).where(EVENTS.c.place.in_(old)).values(time=None),
        sa.update(EVENTS).where(EVENTS.c.place.in_(repeated)).values(item=None),
    ]


def _happened(row: Any) -> Happened:
    return Happened(row.model, row.id, row.query, row.item or "", row.time, row.place)


def _hidden(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()


def now() -> float:
    """Seconds since 1970."""
    return time.time()
