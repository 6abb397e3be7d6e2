"""Queries that learn while they are served: what each of them met since the training, and the vector that follows from it."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from towerkit.data.batch import Columns, dense, take
from towerkit.data.table import Table
from towerkit.features.history import Events
from towerkit.models.answer import Retriever, bags, longest
from towerkit.serving.live import Live

if TYPE_CHECKING:  # a service without a log needs no database
    from towerkit.serving.journal import Happened

_FORGOTTEN_BELOW = 1e-4
"""Weight of all older events together at which they count no more."""
_EMPTY = np.empty(0, np.float32)


@dataclass
class OnlineUser:
    """What came of one query since the training."""

    row: int
    """Of the query catalogue, 0 for a newcomer."""
    met: deque[tuple[str, float]]
    """Keys of candidates and times of the last events, in the order of their times."""
    seen: set[str] = field(default_factory=set)
    ids: NDArray[np.float32] = field(default_factory=lambda: _EMPTY)
    """``[dim]`` its id vector, which each event moves; empty before the first one that the model knows."""
    averaged: int = 0
    """Events that moved it."""
    counted: int = 0
    """Events that were taken in by this process."""
    place: int = 0
    """In the log, of the last event that is counted in."""
    vector: NDArray[np.float32] | None = None
    """As the match sees it; None where it has to be made again."""


class OnlineUsers:
    """The online queries of one model.

    With the update ``one_backprop`` an event moves the query's id vector as a step of the training does, ``e_u <- β e_u + (1 - β)
    e_i``, in O(dim); that of a newcomer is the same average with nothing in front (its weights add up to 1), so that the first
    event sets it. Where a tower reads histories, the event is put behind what the query met in training. Both may hold.

    Args:
        model: A two-tower that takes histories.
        beta: Share of the old vector that stays at each event; None where ids are not averages.
    """

    def __init__(self, model: Retriever, beta: float | None) -> None:
        self.beta = beta
        self.averages = model.queries_average_candidates and beta is not None
        self.keep = max(longest(model.model.query), self._reach())
        self._users: dict[str, OnlineUser] = {}
        self._lock = threading.Lock()
        self._is_plain = model.model.query.backbone is None and not model.reads_history
        self._start = _id_table(model) if self.averages else None

    def _reach(self) -> int:
        """How many events of a query go on counting in its average."""
        return 1 if self.beta is None else math.ceil(math.log(_FORGOTTEN_BELOW) / math.log(self.beta))

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, key: str) -> bool:
        return key in self._users

    def apply(self, live: Live, key: str, item: str, time: float, place: int = 0) -> bool:
        """Take an event in.

        Args:
            live: The model with its candidates.
            key: Of the query.
            item: Key of the candidate.
            time: When it was.
            place: Of the event in the log.

        Returns:
            Whether the model knows the candidate; else the event changes nothing now.
        """
        row = live.candidate_rows.get(item, 0)
        if not row:
            return False
        model = live.retriever("queries learn")
        with self._lock:
            user = self._user(live, key)
            _put(user.met, item, time)
            user.seen.add(item)
            if self.averages:
                self._move(user, model.candidate_vectors[row])
            user.place, user.counted = max(user.place, place), user.counted + 1
            user.vector = user.ids if self._is_plain and self.averages else None
        return True

    def take(self, live: Live, event: Happened) -> bool:
        """Take an event of a log in; whether the model knows its candidate.

        Args:
            live: The model with its candidates.
            event: The event; one without a time says no more than that its item was met.
        """
        if event.time is not None:
            return self.apply(live, event.query, event.item, event.time, event.place)
        if not live.candidate_rows.get(event.item, 0):
            return False
        with self._lock:
            user = self._user(live, event.query)
            user.seen.add(event.item)
            user.place = max(user.place, event.place)
        return True

    def _user(self, live: Live, key: str) -> OnlineUser:
        user = self._users.get(key)
        if user is None:
            user = self._users[key] = OnlineUser(live.query_rows.get(key, 0), deque(maxlen=self.keep))
        return user

    def _move(self, user: OnlineUser, target: NDArray[np.float32]) -> None:
        assert self.beta is not None
        if not len(user.ids):
            user.ids = target if self._start is None or not user.row else self._start[user.row]
        user.averaged += 1
        share = 1.0 - self.beta
        if not user.row:
            share /= 1.0 - self.beta**user.averaged
        user.ids = (user.ids + np.float32(share) * (target - user.ids)).astype(np.float32, copy=False)

    def forget(self, key: str) -> bool:
        """Remove a query; whether there was one."""
        with self._lock:
            return self._users.pop(key, None) is not None

    def seen(self, live: Live, key: str) -> NDArray[np.int64]:
        """Places of the candidates, from 0, that it met since the training."""
        with self._lock:
            user = self._users.get(key)
            met = [] if user is None else [live.candidate_rows.get(item, 0) - 1 for item in user.seen]
        return np.array([place for place in met if place >= 0], np.int64)

    def vector(self, live: Live, key: str) -> NDArray[np.float32] | None:
        """``[dim]`` its vector as the match sees it; None for a query that met nothing since the training."""
        with self._lock:
            user = self._users.get(key)
            if user is None:
                return None
            if user.vector is not None:
                return _prepared(live, user.vector)
            known = replace(user, met=deque(user.met))
        vector = _merged(live, self.parts(live, known))
        with self._lock:
            if user.counted == known.counted and not self._is_plain:  # else somebody came in between
                user.vector = vector
        return vector

    def place(self, key: str) -> int | None:
        """The place in the log of the last event of a query that is counted in; None where there is none."""
        with self._lock:
            user = self._users.get(key)
            return None if user is None else user.place

    def user(self, key: str) -> OnlineUser | None:
        """A copy of what is known of a query."""
        with self._lock:
            user = self._users.get(key)
            return None if user is None else replace(user, met=deque(user.met))

    def parts(self, live: Live, user: OnlineUser) -> dict[str, torch.Tensor]:
        """Tower -> ``[1, dim]`` what it makes of the query now."""
        model = live.retriever("queries learn")
        ids = user.ids if len(user.ids) else None
        return parts_of(model, row_of(model, user.row), history_of(live, user), ids)

    def weights(self, user: OnlineUser) -> list[tuple[str, float]]:
        """What each event weighs in the query's id vector."""
        if not self.averages or self.beta is None:
            return []
        whole = 1.0 if user.row else 1.0 - self.beta**user.averaged
        count = len(user.met)
        return [
            (item, (1.0 - self.beta) * self.beta ** (count - 1 - place) / whole)
            for place, (item, _) in enumerate(user.met)
        ]


def _put(met: deque[tuple[str, float]], item: str, time: float) -> None:
    """Behind all that is not later: events may come out of order."""
    later = []
    while met and met[-1][1] > time:
        later.append(met.pop())
    met.append((item, time))
    met.extend(reversed(later))


def history_of(live: Live, user: OnlineUser) -> Events | None:
    """What the towers read: the stored events of the query, then those that came; of row 1."""
    model = live.retriever("queries learn")
    if model.events is None:
        return None
    stored = model.events
    start, stop = (int(stored.starts[user.row]), int(stored.starts[user.row + 1])) if user.row else (0, 0)
    rows = [(live.candidate_rows.get(item, 0), time) for item, time in user.met]
    codes = _codes(model)
    came = [(int(codes[row]), time) for row, time in rows if row and row < len(codes) and codes[row]]
    all_codes = np.concatenate([stored.codes[start:stop], np.array([code for code, _ in came], np.int32)])
    times = None
    if stored.times is not None:
        before = stored.times[start:stop]
        new = np.array([time for _, time in came], np.float64)
        if not stored.is_dated:  # the time column only orders: what came since the training is later
            new = np.arange(len(came), dtype=np.float64) + 1.0 + (float(before[-1]) if len(before) else 0.0)
        times = np.concatenate([before, new])
        order = np.argsort(times, kind="stable")
        times, all_codes = times[order], all_codes[order]
    return Events(np.array([0, 0, len(all_codes)]), all_codes.astype(np.int32), times, is_dated=stored.is_dated)


def _codes(model: Retriever) -> NDArray[np.int64]:
    return model.candidate_codes


def row_of(model: Retriever, row: int) -> Table:
    """One row of the query catalogue; row 0 has nothing."""
    table = model.query.table
    if row:
        return replace(table, data=table.data.slice(row - 1, 1))
    return replace(table, data=pa.table({each.name: pa.nulls(1, each.type) for each in table.data.schema}))


@torch.no_grad()
def parts_of(
    model: Retriever, table: Table, events: Events | None, ids: NDArray[np.float32] | None
) -> dict[str, torch.Tensor]:
    """What the towers of the query side make of one row.

    Args:
        model: The model.
        table: One raw row.
        events: What it met, as row 1 of these; None where no tower reads histories.
        ids: ``[dim]`` what stands in for its id vector; None for what the table of ids has.

    Returns:
        Tower -> ``[1, dim]``.
    """
    side = model.model.query
    model.model.eval()
    columns = model.encoder.encode(model.query_entity, table)
    own: Columns = take(columns, torch.ones(1, dtype=torch.int64)) | bags(side, events, np.ones(1, np.int64))
    parts = side.parts(own)
    if ids is not None:
        vector = torch.from_numpy(np.ascontiguousarray(ids))[None]
        for name, tower in side.id_towers().items():
            parts[name] = tower.around(vector, own)
    return parts


@torch.no_grad()
def _merged(live: Live, parts: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    model = live.retriever("queries learn")
    merged: NDArray[np.float32] = model.model.match.prepare(model.model.query.merge(parts))[0].numpy()
    return merged


@torch.no_grad()
def _prepared(live: Live, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    match = live.retriever("queries learn").model.match
    prepared: NDArray[np.float32] = match.prepare(torch.from_numpy(vector)[None])[0].numpy()
    return prepared


@torch.no_grad()
def _id_table(model: Retriever) -> NDArray[np.float32]:
    """``[queries + 1, dim]`` the trained id vector of each row of the query catalogue."""
    tower = next(iter(model.model.query.id_towers().values()))
    codes = dense(model.encoder.encode(model.query_entity, model.query.table), "id")
    found: NDArray[np.float32] = tower.table[codes].numpy()
    return found


def beta_of(spec: Any) -> float | None:
    """The share of the old vector that stays, of a Run's spec; None where another update trained it.

    Args:
        spec: In plain data.
    """
    update = spec.get("update") or {}
    return float(update["beta"]) if update.get("kind") == "one_backprop" else None


def unknown_columns(model: Retriever) -> Columns:
    """What the towers of the query side read of a query that nothing is known of."""
    columns = model.encoder.encode(model.query_entity, row_of(model, 0))
    events = None if model.events is None else Events(np.array([0, 0, 0]), np.empty(0, np.int32), None)
    return take(columns, torch.zeros(1, dtype=torch.int64)) | bags(model.model.query, events, np.zeros(1, np.int64))
