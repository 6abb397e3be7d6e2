"""An encoded data set: arrays that a batch slices, and the catalogue of each entity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.data.batch import Batch, Columns, Pool, take
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.features.encoder import Encoder
from towerkit.features.vocabulary import Vocabulary


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
class Encoded:
    """Everything a training loop reads, as arrays; batches are slices of them."""

    encoder: Encoder
    tables: Mapping[str, Columns]
    """Entity -> encoded columns, row 0 the unknown row."""
    index: Mapping[str, NDArray[np.int64]]
    """Entity -> ``[examples]`` row in its table."""
    catalogues: Mapping[str, Catalogue]
    labels: Mapping[str, NDArray[np.int64]]
    """Task -> ``[examples]`` class code, -1 where unknown."""
    weights: NDArray[np.float32] | None

    def batch(self, rows: Rows, drawn: Mapping[str, NDArray[np.int64]] | None = None) -> Batch:
        """Some examples as tensors.

        Args:
            rows: ``[batch]`` row numbers of the example table.
            drawn: Candidate entity -> ``[batch, n]`` rows of candidates that the towers must encode too.

        Returns:
            The batch; each entity's columns hold each distinct row once, drawn candidates included.
        """
        columns: dict[str, Columns] = {}
        index: dict[str, Tensor] = {}
        pool: dict[str, Pool] = {}
        for entity, table in self.tables.items():
            own = self.index[entity][rows]
            extra = (drawn or {}).get(entity, np.empty((0,), np.int64))
            distinct, place = np.unique(np.concatenate([own, extra.ravel()]), return_inverse=True)
            columns[entity] = take(table, torch.from_numpy(distinct))
            index[entity] = torch.from_numpy(place[: len(own)])
            if extra.size:
                pool[entity] = Pool(torch.from_numpy(place[len(own) :].reshape(extra.shape)))
        labels = {task: torch.from_numpy(codes[rows]) for task, codes in self.labels.items()}
        return Batch(
            columns=columns,
            index=index,
            labels=labels,
            masks={task: codes >= 0 for task, codes in labels.items()},
            weights=None if self.weights is None else torch.from_numpy(self.weights[rows]),
            pool=pool,
        )


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
            tables[entity] = encoder.encode(entity, dataset.examples)
            index[entity] = np.arange(1, dataset.examples.data.num_rows + 1)
            continue
        catalogues[entity] = catalogue = catalogue_of(dataset, entity, learned)
        tables[entity] = encoder.encode(entity, catalogue.table)
        index[entity] = catalogue.rows(_whole_column(dataset, entity))
    labels = {task: label.encode(_whole_column(dataset, label.column)) for task, label in encoder.labels.items()}
    return Encoded(encoder, tables, index, catalogues, labels, example_weights(dataset))


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
    if dataset.roles.weight is None:
        return None
    values = dataset.examples.data.column(dataset.roles.weight).to_numpy()
    return np.nan_to_num(np.asarray(values, np.float32), nan=1.0)
