"""The log of events and new candidates: durable before it is acknowledged, and counted once however often it is sent.

What is kept are facts (who met what, and when), never vectors: so a log outlives every model, and a model that takes the place
of another one reads it again. One process owns a log.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from towerkit.serving.store import Store

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
"""An event that counts no more keeps its id and nothing of what happened."""
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
    time: float
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
        try:
            _META.create_all(self._store.engine)
            with self._store.writing() as connection:
                self._look(connection)
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
                if self._is_forgotten(event):
                    found.append(f"the query was forgotten after the event {event.id!r} happened")
                elif before is None:
                    place = self._last + len(fresh) + 1
                    placed = Happened(event.model, event.id, event.query, event.item, event.time, place)
                    known[event.model, event.id] = placed
                    fresh.append(placed)
                    found.append(placed)
                else:
                    same = before.item == "" or (before.query, before.item) == (event.query, event.item)
                    found.append(None if same else f"the event {event.id!r} was told before, with another content")
            if not fresh:
                return found
            connection.execute(sa.insert(EVENTS), [vars(event) for event in fresh])
        self._last += len(fresh)
        return found

    def _is_forgotten(self, event: Happened) -> bool:
        if not self._forgotten:
            return False
        return event.time <= self._forgotten.get((event.model, _hidden(event.query)), -math.inf)

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
        """Take out of old events what happened; their ids stay, so that none counts again.

        Args:
            model: Its name.
            keep: How many events of each query go on counting.

        Returns:
            How many count no more.
        """
        newest = sa.func.row_number().over(partition_by=EVENTS.c.query, order_by=EVENTS.c.place.desc())
        ranked = sa.select(EVENTS.c.place, newest.label("age")).where(
            EVENTS.c.model == model, EVENTS.c.item.is_not(None)
        )
        old = ranked.subquery()
        places = sa.select(old.c.place).where(old.c.age > keep)
        with self._store.writing() as connection:
            change = sa.update(EVENTS).where(EVENTS.c.place.in_(places)).values(item=None, time=None)
            count = int(connection.execute(change).rowcount)
        if count:
            self._store.write_back()
        return count

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

    def removed(self, model: str) -> list[str]:
        """The keys of candidates that are answers no more."""
        asked = sa.select(REMOVED.c.key).where(REMOVED.c.model == model).order_by(REMOVED.c.key)
        with self._store.reading() as connection:
            return list(connection.scalars(asked))

    def close(self) -> None:
        """Let go of the log."""
        self._store.close()


def _happened(row: Any) -> Happened:
    return Happened(row.model, row.id, row.query, row.item or "", row.time or 0.0, row.place)


def _hidden(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()


def now() -> float:
    """Seconds since 1970."""
    return time.time()
