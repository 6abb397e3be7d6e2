"""The other questions: which queries fit new candidates, and the scores of given pairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError, listed, nearest
from towerkit.data.readers import Table
from towerkit.data.table import values_of
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever
from towerkit.recommend.answers import kept, ranks, titles_of
from towerkit.recommend.asked import keyed
from towerkit.recommend.keys import key_column, unknown_key_notes, with_stored_columns
from towerkit.recommend.notes import with_notes
from towerkit.trained import RankingModel, ranker_of_newcomers, scores_of_rows

_QUERIES, _PAIRS = ("rank", "score"), ("score", "cold", "title")
"""The columns of our own in the answers to a new candidate, and to given pairs."""


def queries_for_rows(model: RankingModel, table: Table, k: int) -> pa.Table:
    """The queries that raw candidate rows fit best, from the rows alone: who would want this new item?"""
    entity = model.candidate_entity
    table = keyed(model.candidate, entity, table)
    notes = unknown_key_notes(model.candidate, table)
    read = model.encoder.columns(entity) if isinstance(model, Retriever) else model.candidate_columns
    ranker = _ranker_of_queries(model, with_stored_columns(model.candidate, read, table))
    hits = ranker.rank(np.arange(table.data.num_rows), min(k, ranker.num_candidates))
    keep, owner = kept(hits.rows)
    found = {
        key_column(entity, _QUERIES): values_of(table.data, model.candidate.key).take(pa.array(owner)),
        "rank": ranks(hits.rows)[keep],
        key_column(model.query_entity, _QUERIES): model.query.keys.take(pa.array(hits.rows.ravel()[keep])),
        "score": hits.scores.ravel()[keep],
    }
    if k > ranker.num_candidates:
        notes = (*notes, f"Fewer than the {k:,} answers asked for: there are {ranker.num_candidates:,} known queries.")
    return with_notes(pa.table(found), notes)


def _ranker_of_queries(model: RankingModel, table: Table) -> Ranker:
    """Ranks the known queries for raw candidate rows, by their place from 0."""
    if not isinstance(model, Retriever):
        return ranker_of_newcomers(model, table)
    vectors = model.vectors_of(model.model.candidate, model.candidate_entity, table)[1:]
    return VectorRanker(vectors, model.query_vectors[1:], model.model.match.similarity)


def pair_scores(model: RankingModel, table: Table) -> pa.Table:
    """The score of each given pair of keys, and whether one of the two is cold.

    Raises:
        DataError: If the query or the candidate column is missing.
    """
    entities = model.query_entity, model.candidate_entity
    for name in entities:
        if name not in table.data.column_names:
            raise DataError(
                f"{table.name}: lacks the column '{name}'{nearest(name, table.data.column_names) or '.'} "
                f"A pair needs '{entities[0]}' and '{entities[1]}'; the columns are {listed(table.data.column_names)}."
            )
    keys = values_of(table.data, entities[0]), values_of(table.data, entities[1])
    rows = model.query.rows(keys[0]), model.candidate.rows(keys[1])
    scores = _similarities(model, *rows) if isinstance(model, Retriever) else scores_of_rows(model, *rows)
    cold = (rows[0] == 0) | (rows[1] == 0)
    columns = [key_column(name, _PAIRS) for name in entities]
    places = pa.array(rows[1] - 1, mask=rows[1] == 0)
    title = titles_of(model.candidate, model.titles.get(entities[1]), places)
    found = {columns[0]: keys[0], columns[1]: keys[1], **title, "score": scores, "cold": cold}
    notes = (
        *unknown_key_notes(model.query, table, entities[0]),
        *unknown_key_notes(model.candidate, table, entities[1]),
    )
    return with_notes(pa.table(found), notes)


def _similarities(model: Retriever, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
    """``[pairs]`` of catalogue rows."""
    query, candidate = model.query_vectors[queries], model.candidate_vectors[candidates]
    if model.model.match.similarity == "euclidean":
        return np.asarray(-np.square(query - candidate).sum(axis=1))
    return np.asarray((query * candidate).sum(axis=1))
