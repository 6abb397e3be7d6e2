"""Recommendations of a trained two-tower: for known keys, raw rows, a history, a new candidate, or given pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, RunError, listed, nearest
from towerkit.data.readers import Table
from towerkit.data.table import values_of
from towerkit.experiment import ranker_of
from towerkit.features.encoded import Catalogue
from towerkit.features.vocabulary import same_type
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever

Vectors = NDArray[np.float32]


def for_keys(model: Retriever, keys: Sequence[Any], k: int, *, exclude_seen: bool) -> pa.Table:
    """The best candidates of query keys; an unknown key gets the answer for nobody in particular, marked cold."""
    typed = typed_keys(model.query, keys)
    rows = model.query.rows(typed)
    ranker = ranker_of(model)
    hits = ranker.rank(rows, _places(ranker, k), exclude=_seen(model, rows) if exclude_seen else None)
    shown = typed if typed.null_count == 0 else pa.array([str(key) for key in keys])
    return _table(model, hits.rows, hits.scores, shown, rows == 0)


def for_rows(model: Retriever, table: Table, k: int, *, exclude_seen: bool) -> pa.Table:
    """The best candidates of raw query rows; a row may leave its key out, or have one that training never saw.

    A model that takes histories (a query tower reads them, or the update averages candidates) takes them from a list column
    ``history`` of candidate keys, oldest first; a row where it is missing has what is stored under its key.

    Raises:
        DataError: If the column ``history`` holds no lists.
    """
    table = _keyed(model.query, table)
    keys = values_of(table.data, model.query.key)
    rows = model.query.rows(keys)
    side, entity = model.model.query, model.model.query_entity
    vectors = model.vectors_of(side, entity, table)[1:]
    seen, is_cold = _seen(model, rows), rows == 0
    if model.takes_history and HISTORY in table.data.column_names:
        places, is_given = _given_histories(model, table)
        vectors = np.where(is_given[:, None], model.vectors_of(side, entity, table, places)[1:], vectors)
        seen = csr_array(seen + _had(places, len(model.candidate.keys)))
        is_cold &= np.array([not len(met) for met in places], bool)
    ranker = ranker_of(model).with_queries(vectors)
    hits = ranker.rank(np.arange(len(vectors)), _places(ranker, k), exclude=seen if exclude_seen else None)
    return _table(model, hits.rows, hits.scores, keys, is_cold)


HISTORY = "history"
"""The list column of raw query rows with what each of them met."""


def _given_histories(model: Retriever, table: Table) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
    """The rows of the candidate catalogue that each query row met, unknown ones left out; and which rows say so."""
    values = values_of(table.data, HISTORY)
    kind = values.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_null(kind)):
        raise DataError(
            f"{table.where(0)}: the column '{HISTORY}' holds {kind} such as {values[0].as_py()!r}; what a query met is a list "
            "of candidate keys, as Parquet, Arrow or JSON lines have it. Give lists, or rename the column."
        )
    lists: list[list[Any] | None] = values.to_pylist()
    met = [key for keys in lists for key in keys or ()]
    places = model.candidate.rows(typed_keys(model.candidate, met))
    counts = np.array([len(keys or ()) for keys in lists], np.int64)
    each = np.split(places, np.cumsum(counts)[:-1]) if len(counts) else []
    return [found[found > 0] for found in each], np.array([keys is not None for keys in lists], bool)


def _had(places: list[NDArray[np.int64]], num_candidates: int) -> csr_array:
    """``[rows, candidates]`` what each row met."""
    owner = np.repeat(np.arange(len(places)), [len(met) for met in places])
    columns = np.concatenate([np.empty(0, np.int64), *places]) - 1
    return csr_array((np.ones(len(columns), np.float32), (owner, columns)), shape=(len(places), num_candidates))


def for_history(model: Retriever, history: Sequence[Any], k: int, *, exclude_seen: bool) -> pa.Table:
    """The best candidates of a new query after some events.

    Raises:
        RunError: If the model neither reads histories nor has queries that are averages of candidates.
        DataError: If a key of the history is not in the catalogue.
    """
    if not model.takes_history:
        raise RunError(
            "The queries of this Run learn by gradient, so a history is no query for it. Train it with "
            "update: {kind: one_backprop} or a query tower {kind: history}, or ask with --rows and the query's features."
        )
    places = known_places(model.candidate, history)
    ranker = ranker_of(model).with_queries(model.vector_of_history(places)[None])
    allowed = np.ones(len(model.candidate.keys), bool)
    if exclude_seen:
        allowed[places - 1] = False
    hits = ranker.rank(np.zeros(1, np.int64), _places(ranker, k), allowed=allowed)
    return _table(model, hits.rows, hits.scores, pa.array(["(history)"]), np.array([False]))


def queries_for_rows(model: Retriever, table: Table, k: int) -> pa.Table:
    """The queries that raw candidate rows fit best, from the rows alone: who would want this new item?"""
    table = _keyed(model.candidate, table)
    vectors = model.vectors_of(model.model.candidate, model.model.candidate_entity, table)[1:]
    ranker = VectorRanker(vectors, model.query_vectors[1:], model.model.match.similarity)
    hits = ranker.rank(np.arange(len(vectors)), _places(ranker, k))
    keep, owner = _kept(hits.rows)
    return pa.table(
        {
            key_column(model.model.candidate_entity, _QUERIES): values_of(table.data, model.candidate.key).take(
                pa.array(owner)
            ),
            "rank": _ranks(hits.rows)[keep],
            key_column(model.model.query_entity, _QUERIES): model.query.keys.take(pa.array(hits.rows.ravel()[keep])),
            "score": hits.scores.ravel()[keep],
        }
    )


def pair_scores(model: Retriever, table: Table) -> pa.Table:
    """The score of each given pair of keys, and whether one of the two is cold.

    Raises:
        DataError: If the query or the candidate column is missing.
    """
    entities = model.model.query_entity, model.model.candidate_entity
    for name in entities:
        if name not in table.data.column_names:
            raise DataError(
                f"{table.name}: lacks the column '{name}'{nearest(name, table.data.column_names) or '.'} "
                f"A pair needs '{entities[0]}' and '{entities[1]}'; the columns are {listed(table.data.column_names)}."
            )
    keys = values_of(table.data, entities[0]), values_of(table.data, entities[1])
    rows = model.query.rows(keys[0]), model.candidate.rows(keys[1])
    query, candidate = model.query_vectors[rows[0]], model.candidate_vectors[rows[1]]
    if model.model.match.similarity == "euclidean":
        scores = -np.square(query - candidate).sum(axis=1)
    else:
        scores = (query * candidate).sum(axis=1)
    cold = (rows[0] == 0) | (rows[1] == 0)
    columns = [key_column(name, _PAIRS) for name in entities]
    return pa.table({columns[0]: keys[0], columns[1]: keys[1], "score": scores, "cold": cold})


_ANSWERS, _QUERIES, _PAIRS = ("query", "rank", "title", "score", "cold"), ("rank", "score"), ("score", "cold")
"""The columns of our own in the answers to a query, to a new candidate, and to given pairs."""


def key_column(entity: str, ours: Sequence[str]) -> str:
    """What the keys of an entity are called in an answer: as in the data, unless a column of ours has that name.

    Example:
        >>> key_column("item", ["rank"]), key_column("rank", ["rank"])
        ('item', 'rank_key')
    """
    return f"{entity}_key" if entity in ours else entity


def typed_keys(catalogue: Catalogue, keys: Sequence[Any]) -> pa.Array:
    """Keys in the type of a catalogue, so that the text ``7`` of a command line finds the number 7."""
    if pa.types.is_binary(catalogue.keys.type):  # str(b"7") would be "b'7'"
        return pa.array([key if isinstance(key, bytes) else str(key).encode() for key in keys], pa.binary())
    return same_type(pa.array([str(key) for key in keys]), catalogue.keys.type)


def known_places(catalogue: Catalogue, keys: Sequence[Any]) -> NDArray[np.int64]:
    """``[keys]`` rows of keys that must be in the catalogue.

    Raises:
        DataError: Naming the first one that is not, with the nearest that is.
    """
    places = catalogue.rows(typed_keys(catalogue, keys))
    if not len(places):
        raise DataError("A history needs at least one key of a candidate.")
    if (places == 0).any():
        unknown = keys[int(np.flatnonzero(places == 0)[0])]
        known = [str(key) for key in catalogue.keys.slice(0, 10_000).to_pylist()]
        raise DataError(
            f"The history names '{unknown}', which is not among the {len(catalogue.keys):,} known candidates"
            f"{nearest(unknown, known) or '.'} Leave it out, or train with it."
        )
    return places


def _places(ranker: VectorRanker, k: int) -> int:
    """No more places than there are answers: an absurd ``k`` would fill the memory with empty ones."""
    return min(k, ranker.num_candidates)


def _seen(model: Retriever, rows: NDArray[np.int64]) -> csr_array:
    """``[rows, candidates]`` what each query row had in training; nothing for unknown ones."""
    known = csr_array(model.seen[np.maximum(rows, 1) - 1])
    counts = np.where(rows > 0, np.diff(known.indptr), 0)
    entries = np.repeat(rows > 0, np.diff(known.indptr))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return csr_array((known.data[entries], known.indices[entries], starts), shape=known.shape)


def _keyed(catalogue: Catalogue, table: Table) -> Table:
    """Raw rows with a key column, empty where they have none: a newcomer has no key yet."""
    if catalogue.key in table.data.column_names:
        return table
    nothing = pa.nulls(table.data.num_rows, catalogue.keys.type)
    return Table(table.data.append_column(catalogue.key, nothing), table.name, table.first_row)


def _table(
    model: Retriever, rows: NDArray[np.int64], scores: Vectors, keys: pa.Array, cold: NDArray[np.bool_]
) -> pa.Table:
    keep, owner = _kept(rows)
    places = pa.array(rows.ravel()[keep])
    found: dict[str, Any] = {
        "query": keys.take(pa.array(owner)),
        "rank": _ranks(rows)[keep],
        key_column(model.model.candidate_entity, _ANSWERS): model.candidate.keys.take(places),
    }
    title = model.titles.get(model.model.candidate_entity)
    if title is not None:
        found["title"] = values_of(model.candidate.table.data, title).take(places)
    return pa.table(found | {"score": scores.ravel()[keep], "cold": cold[owner]})


def _kept(rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which places of ``[queries, k]`` hold an answer, flat, and the query of each that does."""
    keep = rows.ravel() >= 0
    return keep, np.repeat(np.arange(len(rows)), rows.shape[1])[keep]


def _ranks(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.tile(np.arange(1, rows.shape[1] + 1), len(rows))
