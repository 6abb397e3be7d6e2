"""An encoded data set: arrays that a batch slices, and the catalogue of each entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from towerkit.core.keeping import Same, kept
from towerkit.data.batch import Batch, Block, Columns, take
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.features.encoder import Encoder, named
from towerkit.features.history import Histories
from towerkit.features.labels import Truth, is_known
from towerkit.features.vocabulary import Vocabulary

_MARKS_PER_ROW = 16
"""A look at so many marks takes less time than to sort one row."""


@dataclass(frozen=True)
class Catalogue:
    """The rows of an entity in a fixed order; row 0 is the unknown one, row ``r`` has ``keys[r - 1]``."""

    key: str
    """The name of the key column."""
    keys: pa.Array
    num_known: int
    """Keys known before the cut-off: those of its table and of the rows learned from. The rest are cold."""
    table: Table
    """``[keys]`` raw columns; empty where the entity's table has no such key."""

    def rows(self, keys: pa.Array) -> NDArray[np.int64]:
        """The row of each key; 0 where the key is not in the catalogue."""
        return Vocabulary(self.keys).encode(keys)


@dataclass(frozen=True)
class Drawn:
    """Candidates that one sort of negatives brings into a batch, by catalogue row; see :class:`Block`."""

    rows: NDArray[np.int64] | None = None
    """``[batch, n]`` for each positive its own, or ``[n]`` shared by all."""
    vectors: Tensor | None = None
    """``[n, dim]`` in place of rows."""
    collision: NDArray[np.bool_] | None = None
    """``[batch, n]``."""
    log_q: NDArray[np.float32] | None = None
    """``[n]`` or ``[batch, n]``."""
    keep: int | None = None

    def block(self, place: Tensor | None) -> Block:
        """The block of a batch, given where the rows stand in it."""
        collision, log_q = (
            None if array is None else torch.from_numpy(array) for array in (self.collision, self.log_q)
        )
        return Block(place, self.vectors, collision, log_q, self.keep)


class Index(Protocol):
    """For each example a row of an entity's table: an array, or what reads one from a disk."""

    def __getitem__(self, examples: Rows, /) -> NDArray[np.int64]:
        """The rows of some examples."""


@dataclass(frozen=True)
class Encoded:
    """Everything a training loop reads, as arrays; batches are slices of them."""

    encoder: Encoder
    tables: Mapping[str, Columns]
    """Entity -> encoded columns, row 0 the unknown row."""
    index: Mapping[str, Index]
    """Entity -> ``[examples]`` row in its table."""
    catalogues: Mapping[str, Catalogue]
    labels: Mapping[str, Truth]
    """Task -> its labels of all examples."""
    weights: NDArray[np.float32] | None
    histories: Mapping[str, Histories] = field(default_factory=dict)
    """Query entity -> what its rows met, where a tower reads histories."""
    dated: Mapping[str, Columns] = field(default_factory=dict)
    """Query entity -> ``[examples]`` columns of its rows at the time of each example, in place of those at the cut-off."""
    pairs: csr_array | None = None
    """``[query rows, candidate rows]`` the distinct pairs of all examples, where these are a log that lies on disk."""

    def columns(self, entity: str, rows: Tensor) -> Columns:
        """What is known of some rows of an entity at the cut-off: their columns, and all that they met.

        Args:
            entity: Whose rows.
            rows: ``[rows]`` row numbers; 0 is the unknown one.
        """
        own = take(self.tables[entity], rows)
        return {**own, **self.histories[entity].of_queries(rows.numpy())} if entity in self.histories else own

    def pointed_to(self, entity: str, rows: Rows) -> Columns:
        """The columns of the rows of an entity that some examples point to, each once; see :func:`training_rows`."""
        return take(self.tables[entity], torch.from_numpy(np.unique(self.index[entity][rows])))

    def batch(self, rows: Rows, drawn: Mapping[str, Sequence[Drawn]] | None = None) -> Batch:
        """Some examples as tensors.

        Args:
            rows: ``[batch]`` row numbers of the example table.
            drawn: Candidate entity -> candidates that the towers must encode too.

        Returns:
            The batch; each entity's columns hold each distinct row once, drawn candidates included. Queries with a history
            stand once for each example, for each one's history ends elsewhere.
        """
        columns: dict[str, Columns] = {}
        index: dict[str, Tensor] = {}
        pool: dict[str, tuple[Block, ...]] = {}
        places: dict[str, Tensor] = {}
        for entity, table in self.tables.items():
            if entity in self.histories or entity in self.dated:
                places[entity] = torch.from_numpy(self.index[entity][rows])
                examples = take(table, places[entity])
                columns[entity] = {**examples, **self._of_examples(entity, rows)}
                index[entity] = torch.arange(len(rows))
                continue
            own, extra = self.index[entity][rows], (drawn or {}).get(entity, ())
            distinct, place, others = _distinct(own, [each.rows for each in extra])
            places[entity] = torch.from_numpy(distinct)
            columns[entity] = take(table, places[entity])
            index[entity] = torch.from_numpy(place)
            if extra:
                pool[entity] = tuple(each.block(where) for each, where in zip(extra, others, strict=True))
        labels = {task: truth[rows] for task, truth in self.labels.items()}
        return Batch(
            columns=columns,
            index=index,
            labels={task: torch.from_numpy(truth) for task, truth in labels.items()},
            masks={task: torch.from_numpy(is_known(truth)) for task, truth in labels.items()},
            weights=None if self.weights is None else torch.from_numpy(self.weights[rows]),
            pool=pool,
            rows=places,
        )

    def _of_examples(self, entity: str, rows: Rows) -> Columns:
        """What is known of the entity of some examples at their own times."""
        met = self.histories[entity].of_examples(rows) if entity in self.histories else {}
        return {**met, **take(self.dated.get(entity, {}), torch.from_numpy(rows))}


def _distinct(
    own: NDArray[np.int64], extra: Sequence[NDArray[np.int64] | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Tensor | None]]:
    """The distinct rows in ascending order, and where the own and the extra ones stand among them."""
    given = [own, *(rows.ravel() for rows in extra if rows is not None)]
    distinct, place = _sorted_out(np.concatenate(given))
    pieces = iter(np.split(place, np.cumsum([len(rows) for rows in given])[:-1]))
    first = next(pieces)
    others = [None if rows is None else torch.from_numpy(next(pieces).reshape(rows.shape)) for rows in extra]
    return distinct, first, others


def encode(encoder: Encoder, dataset: Dataset, learned: Rows | None = None) -> Encoded:
    """Encode every table that the encoder has features for.

    Args:
        encoder: The fitted encoder.
        dataset: The raw tables.
        learned: Rows that the model learns from, as in :func:`catalogue_of`.
    """
    tables: dict[str, Columns] = {}
    index: dict[str, NDArray[np.int64]] = {}
    catalogues: dict[str, Catalogue] = {}
    for entity in encoder.features:
        if entity == EXAMPLE:
            tables[entity] = encoder.encode(entity, dataset.examples, kept=True)
            index[entity] = np.arange(1, dataset.examples.data.num_rows + 1)
            continue
        catalogues[entity] = catalogue = _kept_catalogue(dataset, entity, learned)
        tables[entity] = encoder.encode(entity, catalogue.table, kept=True)
        index[entity] = catalogue.rows(_whole_column(dataset, entity))
    labels = {
        task: named(dataset.examples.name, label.encode, _whole_column(dataset, label.column))
        for task, label in encoder.labels.items()
    }
    return Encoded(encoder, tables, index, catalogues, labels, example_weights(dataset))


def _kept_catalogue(dataset: Dataset, entity: str, learned: Rows | None) -> Catalogue:
    """The same one where it was made for the same rows of the same data set before, so that what is encoded of it is kept, too."""
    key = "catalogue", entity, Same(dataset), None if learned is None else learned.tobytes()
    return kept(key, lambda: catalogue_of(dataset, entity, learned))


def catalogue_of(dataset: Dataset, entity: str, learned: Rows | None = None) -> Catalogue:
    """All keys of an entity: those of its table, then of the rows learned from, then of all other rows (the cold ones).

    Args:
        dataset: The raw tables.
        entity: Whose keys.
        learned: Rows that the model learns from; training and validation when not given.
    """
    if learned is None:
        learned = np.concatenate([dataset.parts.train, dataset.parts.validation])
    seen = Vocabulary.fit(dataset.labelled(entity, learned)).values
    everywhere = Vocabulary.fit(_whole_column(dataset, entity)).values
    source = dataset.entities.get(entity)
    own = seen if source is None else source.table.data.column(source.key).combine_chunks()
    keys = Vocabulary.fit(_chained(own, seen)).values
    num_known = len(keys)
    keys = Vocabulary.fit(_chained(keys, everywhere)).values
    if source is None:
        return Catalogue(entity, keys, num_known, Table(pa.table({entity: keys}), dataset.examples.name, 0))
    added = pa.table({source.key: keys[len(own) :]})
    columns = pa.concat_tables([source.table.data, added], promote_options="permissive")
    return Catalogue(source.key, keys, num_known, replace(source.table, data=columns))


def _chained(first: pa.Array, second: pa.Array) -> pa.Array:
    if first.type != second.type:
        second = second.cast(first.type)
    return pa.concat_arrays([first, second])


def _whole_column(dataset: Dataset, column: str) -> pa.Array:
    return dataset.labelled(column, np.arange(dataset.examples.data.num_rows))


def example_weights(dataset: Dataset) -> NDArray[np.float32] | None:
    """``[examples]`` weights, 1 where a test row has none; None where the data gives no weights."""
    return None if dataset.weights is None else dataset.weights.astype(np.float32)


def _sorted_out(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows in ascending order and where each stands among them: by marks, unless a table is much longer."""
    width = int(rows.max(initial=-1)) + 1
    if width > _MARKS_PER_ROW * len(rows):
        distinct, place = np.unique(rows, return_inverse=True)
        return distinct, place
    marks, places = np.zeros(width, bool), np.empty(width, np.int64)
    marks[rows] = True
    distinct = np.flatnonzero(marks)
    places[distinct] = np.arange(len(distinct))
    return distinct, places[rows]
