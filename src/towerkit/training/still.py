"""Frozen towers: a row has the same vector in every step, so that it is computed once, before the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from towerkit.core.keeping import kept
from towerkit.data.batch import Bag, Column, Columns, take
from towerkit.features.base import FeatureSpec
from towerkit.features.encoded import Encoded
from towerkit.towers import IdTower, Tower, TowerSpec

_ROWS = 1024
"""Encoded at a time."""


def with_vectors(
    encoded: Encoded,
    frozen: Mapping[str, Tower],
    reads: Mapping[str, tuple[str, list[FeatureSpec]]],
    specs: Mapping[str, TowerSpec],
) -> Encoded:
    """The arrays with a column of vectors for each frozen tower, which takes them from there.

    A tower whose rows change with the example, by a history or by what was known at its time, computes as ever; so does one that
    only looks its vectors up. While something keeps (:mod:`towerkit.core.keeping`), as a search does, the vectors of the same
    weights and rows are computed once for all trainings.

    Args:
        encoded: What the towers read.
        frozen: By name, as they stay.
        reads: Tower -> its entity and what it reads of it.
        specs: Tower -> its spec.
    """
    tables = dict(encoded.tables)
    for name, tower in frozen.items():
        entity, features = reads[name]
        columns = [encoded.encoder.feature(entity, each).name for each in features]
        if _looks_up(tower) or any(column in encoded.dated.get(entity, {}) for column in columns):
            continue
        table = encoded.tables[entity]
        own = {column: table[column] for column in columns}
        key = "vectors", specs[name].model_dump_json(), _digest(tower, own)
        tower.computed = f"vectors of {name}"
        tables[entity] = {**tables[entity], tower.computed: kept(key, partial(_vectors, tower, own))}
    return replace(encoded, tables=tables)


def _looks_up(tower: Tower) -> bool:
    return tower.reach is not None or isinstance(tower, IdTower) or type(tower).start_step is not Tower.start_step


@torch.no_grad()
def _vectors(tower: Tower, columns: Columns) -> Tensor:
    """``[rows, out_dim]`` as the tower gives them when it is served."""
    tower.eval()
    rows = torch.arange(len(next(iter(columns.values()))))
    return torch.cat([tower(take(columns, some)).float() for some in rows.split(_ROWS)])


def _digest(tower: Tower, columns: Columns) -> bytes:
    """Of the weights, and of what they are applied to."""
    found = hashlib.sha256()
    for weight in tower.state_dict().values():
        found.update(_bytes(weight))
    for column in columns.values():
        for piece in _pieces(column):
            found.update(_bytes(piece))
    return found.digest()


def _bytes(values: Tensor) -> memoryview:
    return np.ascontiguousarray(values.detach().cpu().numpy()).reshape(-1).view(np.uint8).data


def _pieces(column: Column) -> Iterator[Tensor]:
    if isinstance(column, Tensor):
        yield column
    elif isinstance(column, Bag):
        yield from (column.codes, column.offsets, column.weights)
    else:
        yield column.places
        for rows in torch.nonzero(~column.is_empty)[:, 0].split(_ROWS):
            yield column.read(rows)
