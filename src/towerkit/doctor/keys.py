"""Keys that an entity table may hold only once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from towerkit.data.table import Table, shown, values_of

_SHOWN = 3


def repeated_keys(table: Table, key: str) -> str | None:
    """The first rows that repeat an earlier key, in a sentence; None when every key stands once.

    Args:
        table: The entity table.
        key: Its key column.
    """
    values = values_of(table.data, key)
    if pa.types.is_nested(values.type):
        return None
    codes = values.dictionary_encode().indices.fill_null(-1).to_numpy()
    _, first = np.unique(codes, return_index=True)
    is_first = codes < 0  # a missing key is told by its own message
    is_first[first] = True
    again = np.flatnonzero(~is_first)
    if not len(again):
        return None
    rows = "; ".join(f"{table.where(int(row))}: {shown(values[int(row)].as_py())}" for row in again[:_SHOWN])
    more = f" ({len(again):,} such rows)" if len(again) > _SHOWN else ""
    return f"the key column '{key}' of an entity table holds each key once, but {rows}{more} stood before; remove them"
