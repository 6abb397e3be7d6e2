"""The questions beside recommendations: likeness, scores of pairs, tasks of raw rows, and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from towerkit import recommend as asking
from towerkit.data.table import Table
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.serving.engine import Engine
from towerkit.serving.live import Live
from towerkit.serving.placing import placed_of, shown
from towerkit.serving.problems import Problem
from towerkit.serving.recommending import excluded
from towerkit.serving.requests import Embed, Predict, Score, Similar
from towerkit.serving.users import OnlineUsers


def similar(engine: Engine, body: Similar) -> dict[str, Any]:
    """The candidates most like a candidate, or the queries most like a query.

    Args:
        engine: The model that is asked.
        body: The request.

    Raises:
        Problem: If the model has no vectors, or does not know what is named.
    """
    live = engine.ranking("compare")
    model = live.retriever("likeness is measured by vectors")
    choice, titles = asking.Choice(), None
    if body.item is not None:
        row = int(live.rows_of_candidates([body.item], "item")[0])
        ranker, vectors, keys, titles = live.likeness, model.candidate_vectors, live.keys, live.titles
        choice = live.choice(body.allow, body.deny, body.where)
    else:
        row = live.query_rows.get(str(body.query), 0)
        if not row:
            known = f"There are {len(live.query_rows):,} known queries."
            raise Problem(422, known, repr(body.query), "Ask for one of them.")
        ranker, vectors, keys = live.query_likeness, model.query_vectors, live.query_keys
    hits = ranker.with_queries(vectors[row : row + 1]).rank(
        np.zeros(1, np.int64),
        min(body.k, ranker.num_candidates),
        exclude=excluded([np.array([row - 1])], ranker.num_candidates),
        allowed=choice.allowed,
    )
    return engine.stamped({"items": shown(placed_of(hits, body.k), keys, titles), "notes": [*choice.notes]})


def score(engine: Engine, body: Score) -> dict[str, Any]:
    """The score of each pair; online queries as they are now.

    Args:
        engine: The model that is asked.
        body: The request.

    Raises:
        Problem: If the model does not rank.
    """
    live = engine.ranking("score pairs")
    queries, items = [str(pair.query) for pair in body.pairs], [str(pair.item) for pair in body.pairs]
    table = pa.table({live.model.query_entity: queries, live.model.candidate_entity: items})
    found = asking.pair_scores(live.model, Table(table, "the request"))
    told = [
        {"query": pair.query, "item": pair.item, "score": score, "cold": cold}
        for pair, score, cold in zip(
            body.pairs, found.column("score").to_pylist(), found.column("cold").to_pylist(), strict=True
        )
    ]
    if engine.users is not None:
        for each in told:
            each |= _online(engine.users, live, str(each["query"]), str(each["item"]))
    return engine.stamped({"scores": told})


def _online(users: OnlineUsers, live: Live, query: str, item: str) -> dict[str, Any]:
    """What changes in the score of a pair since the query met something."""
    vector = users.vector(live, query)
    if vector is None:
        return {}
    model, row = live.retriever("queries learn"), live.candidate_rows.get(item, 0)
    ranker = VectorRanker(vector[None], model.candidate_vectors[row : row + 1], model.model.match.similarity)
    return {"score": float(ranker.scores(np.zeros(1, np.int64))[0, 0]), "cold": row == 0}


def predict(engine: Engine, body: Predict) -> dict[str, Any]:
    """The tasks of raw rows.

    Args:
        engine: The model that is asked.
        body: The request.

    Raises:
        Problem: If the model has no tasks.
    """
    if not engine.run.tasks:
        raise Problem(
            422, f"The model '{engine.name}' ranks, and predicts no task.", "", "Use /v1/recommend or /v1/score."
        )
    answers = engine.run.predict(engine.table(body.rows, None).data)
    return engine.stamped({"rows": answers.to_pylist(), "notes": asking.notes_of(answers)})


def embed(engine: Engine, body: Embed) -> dict[str, Any]:
    """Vectors of raw rows.

    Args:
        engine: The model that is asked.
        body: The request.

    Raises:
        Problem: If the model has no vectors, or the side does not fit it.
    """
    model = engine.run.model if engine.live is None else engine.live.model
    if isinstance(model, Retriever):
        if body.side is None:
            raise Problem(422, "A two_tower has vectors of two sides.", "no side", "Say side: query or candidate.")
        entity = model.query_entity if body.side == "query" else model.candidate_entity
        found = asking.embedded(model, body.side, engine.table(body.rows, entity))
    elif isinstance(model, TaskPredictor):
        if body.side is not None:
            raise Problem(422, "A tower_model has no sides.", body.side, "Leave side out.")
        found = asking.embedded_rows(model, engine.table(body.rows, None))
    else:
        raise Problem(422, f"A {engine.run.kind} has no vectors.", "", "Ask a two_tower or a tower_model.")
    return engine.stamped({"vectors": found.column("vector").to_pylist(), "space": engine.run.space})
