"""Questions to a model that ranks, made ready: known keys, raw rows, or a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, RunError
from towerkit.data.readers import Table
from towerkit.data.table import values_of
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.features.encoded import Catalogue
from towerkit.index.hits import Hits
from towerkit.models.answer import Retriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.recommend.choice import lists_of, row_lists
from towerkit.recommend.keys import (
    did_you_mean,
    known_places,
    typed_keys,
    unknown_key_notes,
    with_stored_columns,
)
from towerkit.trained import RankingModel, ranker_of, ranker_of_rows

Lists = Sequence[NDArray[np.int64] | None]


class Ranks(Protocol):
    """Ranks the candidates of a catalogue: a ranker, or an index of them."""

    num_candidates: int

    def rank(
        self,
        queries: NDArray[np.int64],
        k: int,
        *,
        exclude: csr_array | None = None,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Hits:
        """See :meth:`towerkit.index.ranker.Ranker.rank`."""


@dataclass(frozen=True)
class Asked:
    """Queries that a ranker can rank, of whatever model, and what is known of each."""

    ranker: Ranks
    rows: NDArray[np.int64]
    """``[queries]`` the ranker's row of each."""
    keys: pa.Array
    """``[queries]`` what to call them in the answer."""
    cold: NDArray[np.bool_]
    """``[queries]`` whether nothing is known of it."""
    seen: csr_array
    """``[queries, candidates]`` what each of them had."""
    allow: Lists | None = None
    """``[queries]`` rows of the candidate catalogue, from 1: the only ones that may be its answers."""
    deny: csr_array | None = None
    """``[queries, candidates]`` what may not be its answers."""
    notes: tuple[str, ...] = ()


def by_keys(model: RankingModel, keys: Sequence[Any]) -> Asked:
    """Ask for query keys; an unknown one gets the answer for nobody in particular, marked cold."""
    typed = typed_keys(model.query, keys)
    rows = model.query.rows(typed)
    shown = typed if typed.null_count == 0 else pa.array([str(key) for key in keys])
    notes = tuple(
        f"'{keys[place]}' is not among the {len(model.query.keys):,} known queries{did_you_mean(model.query, keys[place])} "
        "The answer is the one for a stranger."
        for place in np.flatnonzero(rows == 0)[:1].tolist()
    )
    return Asked(ranker_of(model), rows, shown, rows == 0, seen_by(model, rows), notes=notes)


def by_place(model: RankingModel, start: int, stop: int) -> Asked:
    """Ask for a stretch of the known queries, in the order of the catalogue.

    Args:
        model: Any that ranks.
        start: The place of the first one, from 0.
        stop: The place after the last one.
    """
    rows = np.arange(start, stop) + 1
    keys = model.query.keys.slice(start, stop - start)
    return Asked(ranker_of(model), rows, keys, np.zeros(len(rows), bool), seen_by(model, rows))


def by_rows(model: RankingModel, table: Table) -> Asked:
    """Ask for raw query rows; a row may leave its key out, or have one that training never saw.

    A model that takes histories (a query tower reads them, or the update averages candidates) takes them from a list column
    ``history`` of candidate keys, oldest first; a row where it is missing has what is stored under its key. The list columns
    ``allow`` and ``deny`` are candidates that may, or may not, be the answers to a row.

    Raises:
        DataError: If a column is missing, holds values of another kind, or one of the three holds no lists.
    """
    if not isinstance(model, Retriever):
        return _by_scored_rows(model, table)
    side, entity = model.model.query, model.query_entity
    table = keyed(model.query, entity, table)
    notes = unknown_key_notes(model.query, table)
    table = with_stored_columns(model.query, model.encoder.columns(entity), table)
    keys = values_of(table.data, model.query.key)
    rows = model.query.rows(keys)
    vectors = model.vectors_of(side, entity, table)[1:]
    seen, is_cold = seen_by(model, rows), rows == 0
    history = row_lists(model.candidate, table, "history") if model.takes_history else None
    if history is not None:
        places, is_given = lists_of(history), np.array([met is not None for met in history], bool)
        vectors = np.where(is_given[:, None], model.vectors_of(side, entity, table, places)[1:], vectors)
        seen = csr_array(seen + _pairs(places, len(model.candidate.keys)))
        is_cold &= np.array([not len(met) for met in places], bool)
    deny = row_lists(model.candidate, table, "deny")
    return Asked(
        ranker_of(model).with_queries(vectors),
        np.arange(len(vectors)),
        keys,
        is_cold,
        seen,
        allow=row_lists(model.candidate, table, "allow"),
        deny=None if deny is None else _pairs(lists_of(deny), len(model.candidate.keys)),
        notes=notes,
    )


def _by_scored_rows(model: PairScorer | RankFusion, table: Table) -> Asked:
    if "history" in table.data.column_names and "history" not in model.query_columns:
        raise DataError(
            f"{table.name}: has a column 'history'; this Run {_no_history(model)} Rename or remove the column."
        )
    table = keyed(model.query, model.query_entity, table)
    notes = unknown_key_notes(model.query, table)
    table = with_stored_columns(model.query, model.query_columns, table)
    keys = values_of(table.data, model.query.key)
    rows = model.query.rows(keys)
    deny = row_lists(model.candidate, table, "deny")
    return Asked(
        ranker_of_rows(model, table),
        np.arange(len(rows)),
        keys,
        rows == 0,
        seen_by(model, rows),
        allow=row_lists(model.candidate, table, "allow"),
        deny=None if deny is None else _pairs(lists_of(deny), len(model.candidate.keys)),
        notes=notes,
    )


def _no_history(model: PairScorer | RankFusion) -> str:
    if isinstance(model, RankFusion):
        return "is a late_fusion of rankers, and a history is no query for all of its members."
    return "is a ranker, and its towers read no histories."


def by_history(model: RankingModel, history: Sequence[Any]) -> Asked:
    """Ask for a new query after some events.

    Raises:
        RunError: If the model neither reads histories nor has queries that are averages of candidates.
        DataError: If a key of the history is not in the catalogue.
    """
    if not isinstance(model, Retriever):
        who = "members read" if isinstance(model, RankFusion) else "towers read"
        raise RunError(f"This Run {_no_history(model)} Ask with the key of a query, or with --rows and what its {who}.")
    if not model.takes_history:
        raise RunError(
            "The queries of this Run learn by gradient, so a history is no query for it. Train it with "
            "update: {kind: one_backprop} or a query tower {kind: history}, or ask with --rows and the query's features."
        )
    places = known_places(model.candidate, history)
    return Asked(
        ranker_of(model).with_queries(model.vector_of_history(places)[None]),
        np.zeros(1, np.int64),
        pa.array(["(history)"]),
        np.array([False]),
        _pairs([places], len(model.candidate.keys)),
    )


def seen_by(model: RankingModel, rows: NDArray[np.int64]) -> csr_array:
    """``[rows, candidates]`` what each query row had in training; nothing for unknown ones."""
    known = csr_array(model.seen[np.maximum(rows, 1) - 1])
    counts = np.where(rows > 0, np.diff(known.indptr), 0)
    entries = np.repeat(rows > 0, np.diff(known.indptr))
    starts = np.concatenate([[0], np.cumsum(counts)])
    return csr_array((known.data[entries], known.indices[entries], starts), shape=known.shape)


def keyed(catalogue: Catalogue, entity: str, table: Table) -> Table:
    """Raw rows with a key column, empty where they have none: a newcomer has no key yet.

    Args:
        catalogue: It names the key column.
        entity: The entity's name, which the column may also have, as it does in the examples.
        table: Raw rows.
    """
    if catalogue.key in table.data.column_names:
        return table
    known = entity in table.data.column_names
    keys = values_of(table.data, entity) if known else pa.nulls(table.data.num_rows, catalogue.keys.type)
    return replace(table, data=table.data.append_column(catalogue.key, keys))


def _pairs(places: Sequence[NDArray[np.int64]], num_candidates: int) -> csr_array:
    """``[rows, candidates]`` with an entry for each candidate that a row lists."""
    owner = np.repeat(np.arange(len(places)), [len(met) for met in places])
    columns = np.concatenate([np.empty(0, np.int64), *places]) - 1
    return csr_array((np.ones(len(columns), np.float32), (owner, columns)), shape=(len(places), num_candidates))
