"""Precomputed vectors, such as embeddings of another model: a column of lists, or one number per column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.errors import DataError
from towerkit.data.batch import Column
from towerkit.data.table import shown, values_of
from towerkit.features.base import Feature, FeatureSpec, State
from towerkit.features.columns import numbers
from towerkit.features.multi_hot import is_list

VectorScale: TypeAlias = Literal["none", "unit", "standard"]
_CLIP = 10.0
_LARGEST = 1e18
"""A larger number's square leaves float32."""


@dataclass(frozen=True)
class VectorFeature(Feature):
    """``[rows, width + 1]`` float32: the vector (zeros where missing) and 1 where it is missing."""

    name: str
    columns: tuple[str, ...]
    width: int
    scale: VectorScale
    mean: NDArray[np.float32]
    """``[width]`` of the training rows; zeros unless ``scale`` is ``standard``."""
    deviation: NDArray[np.float32]
    """``[width]``; ones unless ``scale`` is ``standard``."""

    def encode(self, table: pa.Table) -> Column:
        """Scaled vectors beside their missing flags."""
        values, missing = vectors_of(table, self.columns, self.width)
        if self.scale == "unit":
            length = np.linalg.norm(values, axis=1, keepdims=True)
            values = np.divide(values, length, out=values, where=length > 0.0)
        elif self.scale == "standard":
            values = np.clip((values - self.mean) / self.deviation, -_CLIP, _CLIP)
        values = np.where(missing[:, None], np.float32(0.0), values)
        return torch.from_numpy(np.concatenate([values, missing[:, None]], axis=1).astype(np.float32))

    def state(self) -> State:
        """The width, and what the vectors are standardised by."""
        known = {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()} if self.scale == "standard" else {}
        return State({"width": self.width, **known})

    def sample(self) -> Mapping[str, Any]:
        """A made-up vector of the right width."""
        made = [round(0.5 * np.cos(1.0 + place), 3) for place in range(self.width)]
        return {self.columns[0]: made} if len(self.columns) == 1 else dict(zip(self.columns, made, strict=True))


class VectorSpec(FeatureSpec):
    """One column of lists of numbers, or several columns of numbers; the width is that of the training rows."""

    kind: Literal["vector"] = "vector"
    columns: tuple[str, ...] = Field(min_length=1)
    scale: VectorScale = "none"

    def column_names(self) -> tuple[str, ...]:
        """The columns."""
        return self.columns

    def fit(self, table: pa.Table) -> VectorFeature:
        """Take the width from the first vector; with ``standard`` mean and deviation of each place of the vectors.

        Raises:
            DataError: If no training row has a vector, or the vectors cannot be used.
        """
        values, missing = vectors_of(table, self.columns)
        known = values[~missing].astype(np.float64)
        if not len(known):
            raise DataError(
                f"The columns {list(self.columns)} hold no vector in any of the {table.num_rows:,} training rows, so their "
                "width is not known. Fill them, or remove the tower."
            )
        state: dict[str, Any] = {"width": values.shape[1]}
        if self.scale == "standard":
            deviation = np.where(np.ptp(known, axis=0) > 0.0, known.std(axis=0), 1.0)
            state |= {"mean": known.mean(axis=0).tolist(), "deviation": np.maximum(deviation, 1e-12).tolist()}
        return self.restore(State(state))

    def restore(self, state: State) -> VectorFeature:
        """Rebuild from width, mean and deviation."""
        width = state.values["width"]
        if type(width) is not int or width < 1:
            raise ValueError(f"the width of stored vectors is {shown(width)}")
        usual = {"mean": np.zeros(width), "deviation": np.ones(width)}
        mean, deviation = (np.asarray(state.values.get(name, usual[name]), np.float32) for name in usual)
        if mean.shape != (width,) or deviation.shape != (width,) or not np.all(deviation > 0.0):
            raise ValueError("the stored mean and deviation of vectors do not fit their width")
        return VectorFeature(f"vector:{self.scale}:{self.columns!r}", self.columns, width, self.scale, mean, deviation)


def vectors_of(
    table: pa.Table, columns: tuple[str, ...], width: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The vectors of all rows, and which rows have none.

    Args:
        table: Raw rows.
        columns: One column of lists, or several of numbers (a row has no vector where all of them are missing).
        width: Of each vector; that of the first one when not given.

    Returns:
        ``[rows, width]``, zeros where missing, and ``[rows]``.

    Raises:
        DataError: If a vector has another width or lacks a number, or a number is not finite; names column, row and value.
    """
    values = values_of(table, columns[0])
    lists = len(columns) == 1 and (is_list(values.type) or values.null_count == len(values))
    found = _from_list(values, columns[0], width) if lists else _from_columns(table, columns)
    if width is not None and found[0].shape[1] != width:
        raise DataError(f"The columns {list(columns)} give vectors of {found[0].shape[1]} numbers, and not of {width}.")
    return found


def _from_list(values: pa.Array, name: str, width: int | None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if missing.all():
        return np.zeros((len(values), width or 0), np.float32), missing
    lengths = pc.list_value_length(values.drop_null()).to_numpy(zero_copy_only=False)
    wanted = int(lengths[0]) if width is None else width
    odd = np.flatnonzero(lengths != wanted)
    rows = np.flatnonzero(~missing)
    if len(odd) or not wanted:
        row = int(rows[odd[0]]) if len(odd) else int(rows[0])
        raise DataError(
            f"The column '{name}' must hold vectors of one width, {wanted} numbers; row {row + 1} has "
            f"{len(values[row])}: {shown(values[row].as_py())}. Correct the row, or leave it empty for missing."
        )
    flat = values.drop_null().flatten()
    if pa.types.is_nested(flat.type) or not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        raise DataError(f"The column '{name}' must hold lists of numbers; it holds {values.type}. Write numbers.")
    given = pc.cast(flat, pa.float64(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, wanted)  # null: NaN
    bad = np.argwhere(~(np.abs(given) <= _LARGEST))
    if len(bad):
        place, number = bad[0]
        value = flat[int(place * wanted + number)].as_py()
        raise DataError(
            f"The column '{name}' must hold vectors of finite numbers up to {_LARGEST:g}; row {rows[place] + 1} has {value} at "
            f"place {number + 1} of {wanted}. Correct it, or leave the whole vector empty for missing."
        )
    found = np.zeros((len(values), wanted), np.float32)
    found[~missing] = given
    return found, missing


def _from_columns(table: pa.Table, columns: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    given = np.stack([numbers(values_of(table, name), name) for name in columns], axis=1)  # [rows, width]
    empty = np.isnan(given)
    some = np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1))
    if len(some):
        row = int(some[0])
        lacks = columns[int(np.argmax(empty[row]))]
        raise DataError(
            f"A vector over {len(columns)} columns has all of its numbers or none; row {row + 1} has no number in '{lacks}'. "
            "Fill it, or leave all of them empty for missing. A table tower reads single columns."
        )
    large = np.argwhere(np.abs(given) > _LARGEST)
    if len(large):
        row, place = large[0]
        raise DataError(
            f"The column '{columns[place]}' of a vector must hold numbers up to {_LARGEST:g}; row {row + 1} has "
            f"{given[row, place]}. Correct it."
        )
    return np.nan_to_num(given, nan=0.0).astype(np.float32), np.asarray(empty.all(axis=1), np.bool_)
