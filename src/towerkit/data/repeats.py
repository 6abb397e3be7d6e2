"""Held-out rows that training has word for word: they tell whether a model remembers, not whether it has learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.splits import Rows


def repeated_rows(data: pa.Table, columns: Sequence[str], learned: Rows, held_out: Rows) -> int:
    """How many held-out rows equal some training row in every one of some columns; missing values equal each other.

    Args:
        data: The example rows.
        columns: Names of the columns to compare.
        learned: Row numbers that were learned from.
        held_out: Row numbers that were not.

    Example:
        >>> data = pa.table({"a": [1, 1, 2, None, None], "b": ["x", "x", "x", "y", "y"]})
        >>> repeated_rows(data, ["a", "b"], np.array([0, 3]), np.array([1, 2, 4]))
        2
    """
    rows = pa.array(np.concatenate([learned, held_out]))
    is_held = np.repeat([False, True], [len(learned), len(held_out)])
    keys = {f"key {place}": _comparable(data.column(name).take(rows)) for place, name in enumerate(columns)}
    counted = pa.table({**keys, "held": pa.array(is_held.astype(np.int64)), "learned": pa.array(~is_held)})
    groups = counted.group_by(list(keys)).aggregate([("held", "sum"), ("learned", "any")])
    both = groups.filter(groups.column("learned_any"))
    return int(pc.sum(both.column("held_sum")).as_py() or 0)


def _comparable(values: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    """Lists cannot be grouped by; their text can."""
    return pa.array([repr(value) for value in values.to_pylist()]) if pa.types.is_nested(values.type) else values
