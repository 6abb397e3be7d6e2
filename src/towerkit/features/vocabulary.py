"""Values and their codes; code 0 is everything the vocabulary does not know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Distinct values in a fixed order; the value at place ``i`` has code ``i + 1``.

    Example:
        >>> import pyarrow as pa
        >>> Vocabulary(pa.array(["red", "blue"])).encode(pa.array(["blue", "green", None]))
        array([2, 0, 0])
    """

    values: pa.Array
    begun_with: int | None = None
    """How many values it had when it was first fitted, where more came later; None where all are of that time."""

    @property
    def first_size(self) -> int:
        """The number of values when it was first fitted: what a width was chosen by, which growing must not change."""
        return len(self.values) if self.begun_with is None else self.begun_with

    def __len__(self) -> int:
        return len(self.values) + 1

    @classmethod
    def fit(cls, values: pa.Array, *, min_count: int = 1) -> Vocabulary:
        """The distinct non-null values in order of first appearance, rare ones left out."""
        counts = pc.value_counts(values)
        kept = counts.field("values").filter(pc.greater_equal(counts.field("counts"), min_count))
        return cls(kept.drop_null())

    def encode(self, values: pa.Array) -> NDArray[np.int64]:
        """``[rows]`` codes; unknown and missing values are 0."""
        found = pc.index_in(same_type(values, self.values.type), value_set=self.values, skip_nulls=True)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64) + 1


def same_type(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Values in the wanted type; what cannot be written in it becomes null, hence unknown.

    Example:
        >>> import pyarrow as pa
        >>> same_type(pa.array(["7", "seven"]), pa.int64()).to_pylist()
        [7, None]
    """
    if values.type == wanted:
        return values
    try:
        return pc.cast(values, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([_cast_one(value, wanted) for value in values], wanted)


def _cast_one(value: pa.Scalar, wanted: pa.DataType) -> object:
    try:
        return value.cast(wanted).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
