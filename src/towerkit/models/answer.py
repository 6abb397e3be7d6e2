"""Trained models that answer raw rows: everything they need travels with them, the training data does not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from towerkit.data.batch import Batch, Column, Columns, take
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import require_columns, values_of
from towerkit.features.columns import IdSpec
from towerkit.features.encoded import Catalogue
from towerkit.features.encoder import Encoder
from towerkit.features.history import Events, Histories, given_events
from towerkit.features.labels import Labels
from towerkit.heads.decision import UNTOUCHED, Decision
from towerkit.models.ranker import RANKING, RankerSpec
from towerkit.models.side import Side
from towerkit.models.tower_model import TowerModel, TowerModelSpec
from towerkit.models.two_tower import TwoTower, TwoTowerSpec

_CHUNK = 4096
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class TaskPredictor:
    """A trained tower model with its encoder: raw example rows to probabilities."""

    spec: TowerModelSpec | RankerSpec
    encoder: Encoder
    model: TowerModel
    entities: Mapping[str, Catalogue]
    """The entity tables that towers read beside the example rows."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """Task -> how its logits become an answer; a task that is not named is left as it is."""

    @property
    def tasks(self) -> Mapping[str, Labels]:
        """Task -> its classes."""
        return self.encoder.labels

    @cached_property
    def _entity_columns(self) -> dict[str, Columns]:
        return {name: self.encoder.encode(name, catalogue.table) for name, catalogue in self.entities.items()}

    @torch.no_grad()
    def predict(self, table: Table, without: Collection[str] = ()) -> dict[str, NDArray[np.float64]]:
        """Probabilities of every task, or its numbers, for raw rows; unseen ids and missing values have answers too.

        Args:
            table: Rows with the columns that the towers read; labels are not needed. A model that learned to do without a tower
                (``absent``) takes rows that have none of its columns.
            without: Towers to leave out, as if all their columns were missing.

        Returns:
            Task -> ``[rows, classes]``; of a regression ``[rows, 1]`` in the label's own unit.

        Raises:
            DataError: If a column is missing or holds a value of another kind.
            SpecError: If a tower cannot be left out.
        """
        self.model.eval()
        found: dict[str, list[NDArray[np.float64]]] = {task: [] for task in self.tasks}
        for batch in self._batches(table, without):
            for task, logits in self.model(batch, without).items():
                if task not in self.tasks:  # the score of a ranker; see scores
                    continue
                scaled = logits.double() / self.decisions.get(task, UNTOUCHED).temperature
                found[task].append(self.model.head(task).probabilities(scaled).numpy())
        empty = {task: np.empty((0, labels.num_outputs)) for task, labels in self.tasks.items()}
        return {task: np.concatenate(parts) if parts else empty[task] for task, parts in found.items()}

    @torch.no_grad()
    def scores(self, table: Table) -> NDArray[np.float32]:
        """``[rows]`` the scores that a ranker gives the pairs of raw rows; see :meth:`predict`."""
        self.model.eval()
        parts = [self.model(batch)[RANKING][:, 0].numpy() for batch in self._batches(table)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    @torch.no_grad()
    def states(self, table: Table) -> NDArray[np.float32]:
        """``[rows, dim]`` what the backbone makes of raw rows, and the heads read; see :meth:`predict`.

        Of a backbone that makes a state for each task they stand side by side, in the order of the tasks.
        """
        self.model.eval()
        parts = [self.model.state(batch).numpy() for batch in self._batches(table)]
        return np.concatenate([np.empty((0, self.model.backbone.out_dim), np.float32), *parts])

    @torch.no_grad()
    def parts(self, table: Table) -> dict[str, Tensor]:
        """Tower name -> ``[rows, dim_i]`` what each tower says of raw rows; see :meth:`predict`."""
        self.model.eval()
        found: dict[str, list[Tensor]] = {name: [] for name in self.model.towers}
        for batch in self._batches(table):
            for name, entity in self.model.entities.items():
                own = self.model.part(name, batch.columns[entity])
                found[name].append(own[batch.index[entity]])
        return {name: torch.cat(parts) for name, parts in found.items()}

    @torch.no_grad()
    def unknown_parts(self, table: Table) -> dict[str, Tensor]:
        """Tower name -> ``[dim_i]`` what it says of a row that nothing is known of: its learned vector, where it has one.

        Args:
            table: Any raw rows; it names the columns.
        """
        self.model.eval()
        rows = replace(table, data=table.data.slice(0, 0))
        nobody = dict(self._entity_columns)
        if EXAMPLE in self.encoder.features:
            nobody[EXAMPLE] = self.encoder.encode(EXAMPLE, self._completed(rows))
        first = torch.zeros(1, dtype=torch.int64)
        absent, found = self.model.absent, {}
        for name, entity in self.model.entities.items():
            found[name] = (
                absent.vector(name) if absent is not None else self.model.part(name, take(nobody[entity], first))[0]
            )
        return found

    @torch.no_grad()
    def answers(self, parts: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
        """What :meth:`predict` gives for rows whose towers have spoken.

        Args:
            parts: Tower name -> ``[rows, dim_i]``, of all towers.
        """
        self.model.eval()
        found: dict[str, NDArray[np.float64]] = {}
        state = self.model.backbone(parts)
        for task in self.tasks:
            logits = self.model.heads[task](self.model.backbone.of_task(state, task))
            scaled = logits.double() / self.decisions.get(task, UNTOUCHED).temperature
            found[task] = self.model.head(task).probabilities(scaled).numpy()
        return found

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the example rows that the towers read as keys: of entity tables, and of id towers."""
        ids = [each.spec.column for each in self.encoder.features.get(EXAMPLE, ()) if isinstance(each.spec, IdSpec)]
        return tuple(dict.fromkeys([*self.entities, *ids]))

    def cold(self, table: Table) -> NDArray[np.bool_] | None:
        """``[rows]`` whether a key of the row is unknown or missing; None where the towers read no key.

        Args:
            table: Raw rows, with the key columns.
        """
        if not self.key_columns:
            return None
        table = self._completed(table)
        known = np.ones(table.data.num_rows, bool)
        for name, catalogue in self.entities.items():
            known &= catalogue.rows(values_of(table.data, name)) > 0
        for fitted in self.encoder.features.get(EXAMPLE, ()):
            if isinstance(fitted.spec, IdSpec):
                codes = fitted.feature.encode(table.data)
                assert isinstance(codes, torch.Tensor)
                known &= codes.numpy() > 0
        return ~known

    def _completed(self, table: Table, without: Collection[str] = ()) -> Table:
        """The rows with nulls for the columns of absent towers: those left out, and those of which there is no column at all."""
        if self.model.absent is None:
            return table
        have = set(table.data.column_names)
        empty: set[str] = set()
        needed: set[str] = set()
        for name, entity in self.model.entities.items():
            columns = set(self.model.absent.columns(name)) if entity == EXAMPLE else {entity}
            (empty if name in without or not columns & have else needed).update(columns - have)
        data = table.data
        for column in sorted(empty - needed):
            data = data.append_column(column, pa.nulls(data.num_rows))
        return replace(table, data=data)

    def _batches(self, table: Table, without: Collection[str] = ()) -> Iterator[Batch]:
        """Raw rows as the model reads them, some at a time."""
        table = self._completed(table, without)
        tables = dict(self._entity_columns)
        require_columns(self.entities, table.data.column_names, table.name)
        index = {
            name: torch.from_numpy(self.entities[name].rows(values_of(table.data, name))) for name in self.entities
        }
        num_rows = table.data.num_rows
        if EXAMPLE in self.encoder.features:
            tables[EXAMPLE] = self.encoder.encode(EXAMPLE, table)
            index[EXAMPLE] = torch.arange(1, num_rows + 1)
        for start in range(0, num_rows, _CHUNK):
            own = {name: rows[start : start + _CHUNK] for name, rows in index.items()}
            distinct = {name: torch.unique(rows, return_inverse=True) for name, rows in own.items()}
            yield Batch(
                columns={name: take(tables[name], rows) for name, (rows, _) in distinct.items()},
                index={name: place for name, (_, place) in distinct.items()},
            )


@dataclass(frozen=True, eq=False)
class Retriever:
    """A trained two-tower with its catalogues: keys or raw rows to vectors."""

    spec: TwoTowerSpec
    encoder: Encoder
    model: TwoTower
    query: Catalogue
    candidate: Catalogue
    seen: csr_array
    """``[queries, candidates]`` pairs that the model was trained on, by place in the catalogues."""
    queries_average_candidates: bool
    """The query ids moved by aggregation, so the mean of some candidates is a query vector."""
    titles: Mapping[str, str | None]
    """Entity -> the column shown to people."""
    events: Events | None = None
    """What each query met, where a tower of the query side reads histories; candidates by their id codes."""
    aligned_to: str | None = None
    """The embedding-space id of the Run whose candidates these are, where the query side was brought into its space."""

    @property
    def query_entity(self) -> str:
        """The name of the query entity."""
        return self.model.query_entity

    @property
    def candidate_entity(self) -> str:
        """The name of the candidate entity."""
        return self.model.candidate_entity

    @property
    def reads_history(self) -> bool:
        """Whether a tower of the query side reads histories."""
        return self.events is not None

    @property
    def takes_history(self) -> bool:
        """Whether a query can be given by what it met."""
        return self.reads_history or self.queries_average_candidates

    @cached_property
    def candidate_codes(self) -> NDArray[np.int64]:
        """``[candidates + 1]`` the id code of each row of the candidate catalogue; 0 where no training row had it."""
        ids = next(
            each.feature for each in self.encoder.features[self.model.candidate_entity] if isinstance(each.spec, IdSpec)
        )
        codes = ids.encode(self.candidate.table.data)
        assert isinstance(codes, torch.Tensor)
        return np.concatenate([[0], codes.numpy()])

    @cached_property
    def query_vectors(self) -> NDArray[np.float32]:
        """``[queries + 1, dim]`` as the match sees them; row 0 is a query that nothing is known of."""
        return self.vectors_of(self.model.query, self.model.query_entity, self.query.table)

    @cached_property
    def candidate_vectors(self) -> NDArray[np.float32]:
        """``[candidates + 1, dim]`` as the match sees them; row 0 is a candidate that nothing is known of."""
        return self.vectors_of(self.model.candidate, self.model.candidate_entity, self.candidate.table)

    @torch.no_grad()
    def vectors_of(
        self, side: Side, entity: str, table: Table, given: Sequence[NDArray[np.int64]] | None = None
    ) -> NDArray[np.float32]:
        """Vectors of raw rows of one side, as the match sees them.

        Args:
            side: The query or the candidate side of the model.
            entity: Its entity.
            table: Raw rows; a key that training never saw counts as unknown.
            given: ``[rows]`` the rows of the candidate catalogue, from 1 and oldest first, that each query met, in place of
                what is stored under its key; for a model that takes histories. Where query ids moved by aggregation, the id
                part of a row that met something is the mean of those candidates' vectors.

        Returns:
            ``[rows + 1, dim]``; row 0 is the unknown row.
        """
        self.model.eval()
        columns = self.encoder.encode(entity, table)
        events, met = self._met(side, table)
        if given is not None:
            events, met = self._given(given), np.arange(table.data.num_rows + 1)
        vectors = []
        for rows in torch.arange(table.data.num_rows + 1).split(_CHUNK):
            own = take(columns, rows) | bags(side, events, met[rows.numpy()])
            parts = side.parts(own)
            if given is not None and self.queries_average_candidates:
                means, is_mean = self._means([given[row - 1] if row else _NOTHING for row in rows.tolist()])
                for name, tower in side.id_towers().items():
                    parts[name] = torch.where(is_mean[:, None], tower.around(means, own), parts[name])
            vectors.append(self.model.match.prepare(side.merge(parts)))
        return torch.cat(vectors).numpy()

    @torch.no_grad()
    def parts_of(self, side: Side, entity: str, table: Table) -> dict[str, Tensor]:
        """What each tower of a side says of raw rows.

        Args:
            side: The query or the candidate side of the model.
            entity: Its entity.
            table: Raw rows; a key that training never saw counts as unknown.

        Returns:
            Tower name -> ``[rows + 1, dim_i]``; row 0 is the unknown row.
        """
        self.model.eval()
        columns = self.encoder.encode(entity, table)
        events, met = self._met(side, table)
        chunks = [
            side.parts(take(columns, rows) | bags(side, events, met[rows.numpy()]))
            for rows in torch.arange(table.data.num_rows + 1).split(_CHUNK)
        ]
        return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _given(self, given: Sequence[NDArray[np.int64]]) -> Events | None:
        """The events that histories of rows of the candidate catalogue are; None where no tower reads them."""
        return given_events([self.candidate_codes[places] for places in given]) if self.reads_history else None

    def _means(self, met: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """``[rows, dim]`` the mean vector of the candidates of each row, and ``[rows]`` whether it has any."""
        counts = np.array([len(places) for places in met], np.int64)
        means = np.zeros((len(met), self.candidate_vectors.shape[1]))
        np.add.at(means, np.repeat(np.arange(len(met)), counts), self.candidate_vectors[np.concatenate(met)])
        means /= np.maximum(counts, 1)[:, None]
        return torch.from_numpy(means.astype(np.float32)), torch.from_numpy(counts > 0)

    def _met(self, side: Side, table: Table) -> tuple[Events | None, NDArray[np.int64]]:
        """The stored events, and which query's are those of each row; row 0 is nobody."""
        if self.events is None or side is not self.model.query:
            return None, np.zeros(table.data.num_rows + 1, np.int64)
        return self.events, np.concatenate([[0], self.query.rows(values_of(table.data, self.query.key))])

    def vector_of_history(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vector of a new query after some events, as the match sees it: of the query itself nothing else is known.

        Args:
            places: ``[events]`` rows of the candidate catalogue, from 1, oldest first.
        """
        fields = self.query.table.data.schema
        unknown = replace(self.query.table, data=pa.table({each.name: pa.nulls(1, each.type) for each in fields}))
        return self.vectors_of(self.model.query, self.model.query_entity, unknown, [places])[1]


def bags(side: Side, events: Events | None, queries: NDArray[np.int64]) -> dict[str, Column]:
    """The histories that the towers of a side read.

    Args:
        side: Of a two-tower.
        events: What queries met; None where no tower asks.
        queries: ``[rows]`` rows of the events.
    """
    return {} if events is None else {reach.name: events.bag(reach, queries) for reach in side.reaches()}


def retriever_of(
    spec: TwoTowerSpec,
    encoder: Encoder,
    model: TwoTower,
    catalogues: Mapping[str, Catalogue],
    seen: csr_array,
    *,
    queries_average_candidates: bool,
    titles: Mapping[str, str | None],
    histories: Histories | None = None,
) -> Retriever:
    """A retriever over the keys that were known before the test part.

    Args:
        spec: The model's spec.
        encoder: The fitted encoder.
        model: The trained module.
        catalogues: Entity -> all its keys.
        seen: ``[query rows, candidate rows]`` trained pairs, the unknown row 0 included.
        queries_average_candidates: Whether the update moved the query ids by aggregation.
        titles: Entity -> the column shown to people.
        histories: What the queries met, where the query side reads it.
    """
    query = known_part(catalogues[model.query_entity])
    candidate = known_part(catalogues[model.candidate_entity])
    return Retriever(
        spec,
        encoder,
        model,
        query,
        candidate,
        known_pairs(seen, query, candidate),
        queries_average_candidates=queries_average_candidates,
        titles=dict(titles),
        events=None if histories is None else histories.events.last(longest(model.query), query.num_known),
    )


def longest(side: Side) -> int:
    """How many events of a query its towers may read."""
    return max((reach.length for reach in side.reaches()), default=0)


def known_part(catalogue: Catalogue) -> Catalogue:
    """The catalogue without the keys that only test rows have.

    The known rows are copied: a slice would take the bytes behind it along into the file that it is saved to.
    """
    known = pa.array(np.arange(catalogue.num_known))
    table = replace(catalogue.table, data=catalogue.table.data.take(known).combine_chunks())
    return Catalogue(catalogue.key, catalogue.keys.take(known), catalogue.num_known, table)


def known_pairs(seen: csr_array, query: Catalogue, candidate: Catalogue) -> csr_array:
    """``[queries, candidates]`` trained pairs by place in two catalogues, without the unknown rows, each row in order.

    Args:
        seen: ``[query rows, candidate rows]`` the unknown row 0 included.
        query: The known queries.
        candidate: The known candidates.
    """
    starts = seen.indptr[1 : query.num_known + 2]
    columns, values = (each[starts[0] : starts[-1]] for each in (seen.indices, seen.data))
    is_known = not len(columns) or (columns.min() > 0 and columns.max() <= candidate.num_known)
    if is_known and seen.has_sorted_indices:  # mostly so: then without the copies that a slice of either axis makes
        shape = query.num_known, candidate.num_known
        return csr_array((values, columns - 1, starts - starts[0]), shape=shape)
    found = csr_array(seen[1 : query.num_known + 1, 1 : candidate.num_known + 1])
    found.sort_indices()
    return found
