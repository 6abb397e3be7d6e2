"""A model that ranks, as it is served: what it learned, and the candidates that came since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.data.alike import read_alike, source_like
from towerkit.data.table import Table, values_of
from towerkit.index.ranker import Ranker
from towerkit.index.vectors import VectorRanker
from towerkit.models.answer import Retriever
from towerkit.recommend import Choice, choice_of
from towerkit.run import Run
from towerkit.serving.growth import grown, whole_row
from towerkit.serving.problems import Problem
from towerkit.storage.hashes import content_hash
from towerkit.trained import RankingModel, ranker_of

_CONDITIONS_KEPT = 128
_OF_ALL_QUERIES = ("query_rows", "query_keys", "query_likeness")
_OF_ALL_CANDIDATES = (*_OF_ALL_QUERIES, "candidate_rows", "keys", "titles", "ranker", "likeness")


@dataclass(frozen=True, eq=False)
class Live:
    """Never changed: new candidates make another one."""

    run: Run
    model: RankingModel
    changed: Mapping[str, str] = field(default_factory=dict)
    """Key of each candidate that came or changed since -> a hash of its row."""
    removed: frozenset[str] = frozenset()
    """Keys of candidates that are answers no more."""

    @cached_property
    def changes(self) -> str:
        """Eight digits that stand for what became of the candidates; empty where nothing did."""
        if not (self.changed or self.removed):
            return ""
        return content_hash({"changed": dict(self.changed), "removed": sorted(self.removed)})[:8]

    @cached_property
    def offered(self) -> NDArray[np.bool_] | None:
        """``[candidates]`` which may be answers at all; None where all of them may."""
        if not self.removed:
            return None
        rows = np.array([self.candidate_rows[key] for key in self.removed])
        mask = np.ones(len(self.keys), bool)
        mask[rows - 1] = False
        return mask

    @property
    def num_offered(self) -> int:
        """How many candidates may be answers."""
        return len(self.model.candidate.keys) - len(self.removed)

    @cached_property
    def query_rows(self) -> Mapping[str, int]:
        """Key, as a text -> row of the query catalogue, from 1."""
        return _rows(self.model.query.keys)

    @cached_property
    def query_keys(self) -> list[str]:
        """The queries' keys, as texts, from 0."""
        return list(self.query_rows)

    @cached_property
    def candidate_rows(self) -> Mapping[str, int]:
        """Key, as a text -> row of the candidate catalogue, from 1."""
        return _rows(self.model.candidate.keys)

    @cached_property
    def keys(self) -> list[Any]:
        """The candidates' keys, from 0."""
        found: list[Any] = self.model.candidate.keys.to_pylist()
        return [key.hex() if isinstance(key, bytes) else key for key in found]

    @cached_property
    def titles(self) -> list[Any] | None:
        """The candidates' titles, from 0; None where they have none."""
        title = self.model.titles.get(self.model.candidate_entity)
        table = self.model.candidate.table.data
        return None if title is None or title not in table.column_names else table.column(title).to_pylist()

    @cached_property
    def ranker(self) -> Ranker:
        """Ranks the candidates exactly. The seam where an index may stand in."""
        return ranker_of(self.model)

    @cached_property
    def likeness(self) -> VectorRanker:
        """Ranks candidates by the likeness of their vectors."""
        model = self.retriever("likeness is measured by vectors")
        return VectorRanker(model.candidate_vectors[:1], model.candidate_vectors[1:], _measure(model))

    @cached_property
    def query_likeness(self) -> VectorRanker:
        """Ranks queries by the likeness of their vectors."""
        model = self.retriever("likeness is measured by vectors")
        return VectorRanker(model.query_vectors[:1], model.query_vectors[1:], _measure(model))

    def retriever(self, why: str) -> Retriever:
        """The model, if its sides have vectors.

        Args:
            why: Vectors are needed.

        Raises:
            Problem: If it has none.
        """
        if isinstance(self.model, Retriever):
            return self.model
        raise Problem(422, f"This is a {self.run.kind}, which has no vectors, and {why}.", "", "Ask a two_tower.")

    def rows_of_candidates(self, keys: Sequence[Any], what: str) -> NDArray[np.int64]:
        """Rows of the candidate catalogue, from 1, of keys that must be known.

        Args:
            keys: As they were given.
            what: Who names them.

        Raises:
            Problem: Naming the first one that is unknown.
        """
        rows = [self.candidate_rows.get(str(key), 0) for key in keys]
        if 0 in rows:
            unknown = repr(keys[rows.index(0)])
            known = f"{what} names candidates that are known, which are {len(self.candidate_rows):,}"
            raise Problem(422, known, unknown, "Leave it out, or tell of it with /v1/items.")
        return np.array(rows, np.int64)

    def choice(self, allow: Sequence[Any] | None, deny: Sequence[Any] | None, where: str | None) -> Choice:
        """Which candidates may be answers; what a condition keeps is worked out once.

        Args:
            allow: Only these keys.
            deny: None of these.
            where: A condition.

        Raises:
            DataError: If a condition does not fit the columns.
            SpecError: If it is none.
            Problem: If no key of a list is known.
        """
        choice = self._condition(where) if where is not None else Choice(allowed=self.offered)
        masks = [] if choice.allowed is None else [choice.allowed]
        reasons = [*choice.reasons]
        for name, keys in (("allow", allow), ("deny", deny)):
            if keys is None:
                continue
            named = np.zeros(len(self.keys) + 1, bool)
            named[[self.candidate_rows.get(str(key), 0) for key in keys]] = True
            masks.append(named[1:] if name == "allow" else ~named[1:])
            reasons.append(f"{name} {'keeps' if name == 'allow' else 'takes away'} {int(named[1:].sum()):,}")
        allowed = None if not masks else masks[0] if len(masks) == 1 else np.logical_and.reduce(masks)
        return replace(choice, allowed=allowed, reasons=tuple(reasons))

    @cached_property
    def _condition(self) -> Any:
        return lru_cache(_CONDITIONS_KEPT)(self._held)

    def _held(self, where: str) -> Choice:
        choice = choice_of(self.model.candidate, where=where)
        if self.offered is None or choice.allowed is None:
            return choice
        return replace(choice, allowed=choice.allowed & self.offered)

    def holds(self, where: str) -> NDArray[np.bool_]:
        """``[candidates]`` which of them hold a condition."""
        allowed: NDArray[np.bool_] = self._condition(where).allowed
        return allowed

    def column(self, name: str) -> pa.Array:
        """``[candidates]`` a column of theirs.

        Raises:
            Problem: If there is none of that name.
        """
        table = self.model.candidate.table.data
        if name not in table.column_names:
            known = f"The candidates have the columns {', '.join(table.column_names[:20])}"
            raise Problem(422, known, name, "Name one of these.")
        return values_of(table, name)

    @cached_property
    def _in_stock(self) -> Any:
        return lru_cache(8)(self._stock)

    def in_stock(self, column: str) -> NDArray[np.bool_]:
        """``[candidates]`` where a column is true or above 0.

        Raises:
            Problem: If there is no such column, or it holds neither.
        """
        found: NDArray[np.bool_] = self._in_stock(column)
        return found

    def _stock(self, column: str) -> NDArray[np.bool_]:
        values = self.column(column)
        if not (
            pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        ):
            raise Problem(422, "A column of stock holds true and false, or numbers.", f"{column}: {values.type}", "")
        above = values if pa.types.is_boolean(values.type) else pc.greater(values, 0)
        mask = np.asarray(pc.fill_null(above, False).to_numpy(zero_copy_only=False), bool)
        return mask if self.offered is None else mask & self.offered

    def with_items(self, rows: Sequence[Mapping[str, Any]]) -> Live:
        """The same with new candidates, and new values of known ones, embedded by what their rows say.

        Args:
            rows: Each with a key. A known one keeps the columns that its row leaves out; a new one needs all that the model reads.

        Raises:
            Problem: If a row has no key, lacks a column, or has one that the catalogue does not have.
            DataError: If a value is of another kind.
        """
        model = self.retriever("new candidates are embedded")
        whole = [whole_row(model, self.candidate_rows, row) for row in rows]
        by_key = {str(row.get(model.candidate.key)): row for row in whole}
        other, hashes = grown(model, self.candidate_rows, by_key)
        live = Live(self.run, other, {**self.changed, **hashes}, self.removed - by_key.keys())
        vars(live).update(self._known(_OF_ALL_QUERIES))
        return live

    def _known(self, names: Sequence[str]) -> dict[str, Any]:
        """What was worked out so far, of some of it."""
        return {name: value for name, value in vars(self).items() if name in names}

    def without(self, keys: Iterable[str]) -> Live:
        """The same with some candidates that are answers no more; what is known of them stays.

        Args:
            keys: As texts; unknown ones change nothing.
        """
        other = replace(self, removed=self.removed | (set(keys) & self.candidate_rows.keys()))
        vars(other).update(self._known(_OF_ALL_CANDIDATES))  # they are the same for it
        return other


def table_of_rows(run: Run, rows: Sequence[Mapping[str, Any]], entity: str | None) -> Table:
    """Raw rows of a request as a table, as the model reads tables.

    Args:
        run: Whose data they are like.
        rows: Columns and values.
        entity: Whose rows; None for examples.

    Raises:
        DataError: If a column mixes types.
    """
    return replace(
        read_alike([dict(row) for row in rows], source_like(run.spec.get("data"), entity)), name="the request"
    )


def _rows(keys: pa.Array) -> dict[str, int]:
    texts = (key.hex() if isinstance(key, bytes) else str(key) for key in keys.to_pylist())
    return {text: row for row, text in enumerate(texts, start=1)}


def _measure(model: Retriever) -> Any:
    return "euclidean" if model.model.match.similarity == "euclidean" else "cosine"
