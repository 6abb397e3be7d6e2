"""Who asks for recommendations: somebody known by a key, a raw row, or a history; as a ranking and as shares in scores need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit import recommend as asking
from towerkit.data.table import Table, values_of
from towerkit.features.history import Events, given_events
from towerkit.index.ranker import Ranker
from towerkit.models.answer import Retriever
from towerkit.recommend.asked import keyed
from towerkit.recommend.keys import with_stored_columns
from towerkit.serving.engine import Engine
from towerkit.serving.live import Live
from towerkit.serving.problems import Problem
from towerkit.serving.requests import Recommend
from towerkit.serving.shares import Asker
from towerkit.serving.users import history_of, parts_of, row_of

NOBODY: NDArray[np.int64] = np.empty(0, np.int64)
"""Places of no candidate."""


@dataclass(frozen=True)
class Question:
    """A request for recommendations on its way to the ranker."""

    body: Recommend
    live: Live
    row: int = 0
    """Of the ranker, where no vector stands in."""
    vector: NDArray[np.float32] | None = None
    seen: NDArray[np.int64] = field(default_factory=lambda: NOBODY)
    """Places of candidates, from 0."""
    cold: bool = False
    allowed: NDArray[np.bool_] | None = None
    """``[candidates]`` which may be answers; None lets all."""
    ranker: Ranker | None = None
    """One of its own, where the row says more than a vector of the model does."""
    notes: tuple[str, ...] = ()
    table: Table | None = None
    """The raw row of the question."""
    as_of: int | None = None
    """The place in the log of its last event that is counted in."""
    met: list[int] | None = None
    """Rows of the candidates, from 1, of the history of the question."""

    @property
    def excluded(self) -> NDArray[np.int64]:
        """Places of the candidates that are left out since the query had them."""
        return self.seen if self.body.exclude_seen else NOBODY


def question_of(engine: Engine, body: Recommend) -> Question:
    """A request, looked up and checked.

    Args:
        engine: The model that is asked.
        body: The request.

    Raises:
        Problem: If the model cannot answer it.
        DataError: If a value does not fit.
    """
    live = engine.ranking("recommend")
    allowed, notes = _choice(live, body)
    if body.query is not None:
        question = _by_key(engine, live, body, str(body.query))
    elif body.features is not None:
        question = _by_features(engine, live, body, body.features)
    else:
        question = _by_history(engine, live, body, body.history or [])
    return replace(question, allowed=allowed, notes=(*notes, *question.notes))


def _choice(live: Live, body: Recommend) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Which candidates may be answers, and what is to be said of it."""
    choice = live.choice(body.allow, body.deny, body.where)
    allowed = choice.allowed
    if body.rules is not None and body.rules.in_stock is not None:
        stock = live.in_stock(body.rules.in_stock)
        allowed = stock if allowed is None else allowed & stock
    return allowed, choice.notes


def _by_key(engine: Engine, live: Live, body: Recommend, key: str) -> Question:
    row = live.query_rows.get(key, 0)
    users = engine.users if engine.users is not None and key in engine.users else None
    vector, seen = None, _seen(live.model.seen, row) if row else NOBODY
    if isinstance(live.model, Retriever):
        vector = None if users is None else users.vector(live, key)
        vector = live.model.query_vectors[row] if vector is None else vector
    if users is not None:
        seen = np.union1d(seen, users.seen(live, key))
    cold = row == 0 and users is None
    known = f"The query is not among the {len(live.query_rows):,} known ones: the answer is the one for a stranger."
    as_of = None if users is None else users.place(key)
    return Question(body, live, row, vector, seen, cold, notes=(known,) if cold else (), as_of=as_of)


def _by_features(engine: Engine, live: Live, body: Recommend, row: Mapping[str, Any]) -> Question:
    if body.model_fields_set & {"history"}:
        raise Problem(422, "A history of a raw row is its column 'history'.", "history beside features", "")
    table = engine.table([row], live.model.query_entity)
    asked = asking.by_rows(live.model, table)
    if asked.allow is not None or asked.deny is not None:
        raise Problem(422, "allow and deny stand beside the row.", "a column of it", "Put them into the request.")
    assert isinstance(asked.ranker, Ranker)  # no index was handed over
    seen = asked.seen.indices.astype(np.int64)
    return Question(
        body, live, seen=seen, cold=bool(asked.cold[0]), ranker=asked.ranker, notes=tuple(asked.notes), table=table
    )


def _by_history(engine: Engine, live: Live, body: Recommend, history: Sequence[Any]) -> Question:
    model = live.model
    if not isinstance(model, Retriever) or not model.takes_history:
        raise Problem(
            422,
            f"The queries of the model '{engine.name}' do not follow from what they met.",
            "a history",
            "Ask with query or features, or train with update: {kind: one_backprop} or a query tower {kind: history}.",
        )
    rows = live.rows_of_candidates(history, "history")
    return Question(body, live, vector=model.vector_of_history(rows), seen=np.unique(rows) - 1, met=rows.tolist())


def asker_of(engine: Engine, question: Question) -> Asker:
    """The query of a request as its towers see it, for the shares in its scores.

    Args:
        engine: The model that is asked.
        question: The request.

    Raises:
        Problem: If the model has no vectors.
    """
    live, model = question.live, question.live.retriever("'why' needs them")
    if question.met is not None:
        return _of_history(model, row_of(model, 0), question.met)
    if question.table is not None:
        return _of_row(live, model, question.table)
    user = None if engine.users is None else engine.users.user(str(question.body.query))
    if user is None or engine.users is None:
        events = _stored(model, question.row)
        return Asker(parts_of(model, row_of(model, question.row), events, None), events)
    weights = [(live.candidate_rows[item], weight) for item, weight in engine.users.weights(user)]
    return Asker(engine.users.parts(live, user), history_of(live, user), weights)


def _of_row(live: Live, model: Retriever, given: Table) -> Asker:
    columns = model.encoder.columns(model.query_entity)
    table = with_stored_columns(model.query, columns, keyed(model.query, model.query_entity, given))
    if "history" in table.data.column_names and model.takes_history:
        met = live.rows_of_candidates(values_of(table.data, "history")[0].as_py() or [], "history")
        return _of_history(model, table, met.tolist())
    row = int(model.query.rows(values_of(table.data, model.query.key))[0])
    events = _stored(model, row)
    return Asker(parts_of(model, table, events, None), events)


def _of_history(model: Retriever, table: Table, met: Sequence[int]) -> Asker:
    """Somebody who met candidates (their rows, from 1), each of which weighs the same in an id vector that averages them."""
    events = given_events([model.candidate_codes[np.array(met, np.int64)]]) if model.reads_history else None
    if not (model.queries_average_candidates and met):
        return Asker(parts_of(model, table, events, None), events)
    ids = model.candidate_vectors[list(met)].mean(axis=0, dtype=np.float64).astype(np.float32)
    return Asker(parts_of(model, table, events, ids), events, [(row, 1.0 / len(met)) for row in met])


def _seen(seen: csr_array, row: int) -> NDArray[np.int64]:
    start, stop = seen.indptr[row - 1], seen.indptr[row]
    return np.asarray(seen.indices[start:stop], np.int64)


def _stored(model: Retriever, row: int) -> Events | None:
    """What a query met in training, as row 1."""
    if model.events is None:
        return None
    start, stop = (int(model.events.starts[row]), int(model.events.starts[row + 1])) if row else (0, 0)
    times = None if model.events.times is None else model.events.times[start:stop]
    starts = np.array([0, 0, stop - start])
    return replace(model.events, starts=starts, codes=model.events.codes[start:stop], times=times)
