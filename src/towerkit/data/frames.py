"""Tables that are already in memory: pandas, Polars, DuckDB, Arrow, dicts of columns, lists of dicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from towerkit.core.errors import DataError
from towerkit.data.table import Table, check_names, plain_table, shown

GIVEN = "the given data frame"
"""What messages call a table that did not come from a file."""


def table_of(given: Any, name: str = GIVEN) -> Table:
    """Take a table from memory; an index of a data frame is dropped.

    Args:
        given: A pandas data frame, anything with ``__arrow_c_stream__`` (Polars, DuckDB, Arrow), a dict of columns,
            or a list of dicts.
        name: What to call it in messages.

    Raises:
        DataError: If it is none of these, or a column mixes types.
    """
    try:
        return Table(plain_table(_arrow_table(given, name), name), name)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: cannot be taken as a table: {error}.") from None


def _arrow_table(given: Any, name: str) -> pa.Table:
    if _is_pandas(given):
        return _from_columns({column: given.iloc[:, i] for i, column in enumerate(_pandas_names(given, name))}, name)
    if isinstance(given, pa.RecordBatch):
        return pa.Table.from_batches([given])
    if hasattr(given, "__arrow_c_stream__"):
        return pa.table(given)
    if isinstance(given, Mapping):
        return _from_columns({str(column): values for column, values in given.items()}, name)
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)) and given:
        return _from_rows(given, name)
    hint = "; call .collect() on it first" if type(given).__name__ == "LazyFrame" else ""
    raise DataError(
        f"A table is a path, a pandas, Polars, DuckDB or Arrow table, a dict of columns or a list of dicts; "
        f"received {type(given).__name__} {shown(given)}{hint}."
    )


def _is_pandas(given: Any) -> bool:
    """Whether this is a pandas data frame, without importing pandas for those who do not use it."""
    kind = type(given)
    return any(base.__name__ == "DataFrame" and base.__module__.split(".")[0] == "pandas" for base in kind.__mro__)


def _pandas_names(frame: Any, name: str) -> list[str]:
    names = [str(column) for column in frame.columns]
    check_names(names, name)
    return names


def _from_columns(columns: Mapping[str, Any], name: str) -> pa.Table:
    arrays = {column: _array(values, column, name) for column, values in columns.items()}
    lengths = {column: len(array) for column, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        first, length = next(iter(lengths.items()))
        other = next(column for column in lengths if lengths[column] != length)
        raise DataError(
            f"{name}: columns must have the same length, but '{first}' has {length:,} values and '{other}' has "
            f"{lengths[other]:,}; fill the shorter one with None."
        )
    return pa.table(arrays)


def _from_rows(rows: Sequence[Any], name: str) -> pa.Table:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"{name}, row {number}: expected a dict of column and value; received {shown(row)}.")
    columns = list(dict.fromkeys(str(column) for row in rows for column in row))
    return _from_columns({column: [row.get(column) for row in rows] for column in columns}, name)


def _array(values: Any, column: str, name: str) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise DataError(f"{name}: column '{column}' must be a list of values; received {shown(values)}.")
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    try:
        return pa.array(values, from_pandas=True)  # NaN stands for missing
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise _mixed(values, column, name, str(error)) from None


def column_of(values: Sequence[Any], column: str, name: str, start: int = 0) -> pa.Array:
    """Plain Python values as a column; None is missing.

    Args:
        values: The values of some rows.
        column: What messages call them.
        name: What messages call their table.
        start: Number of rows before these.

    Raises:
        DataError: With row and value, if they are of several types.
    """
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise _mixed(values, column, name, str(error), start) from None


def _mixed(values: Any, column: str, name: str, reason: str, start: int = 0) -> DataError:
    """Name the first value whose type differs from that of the first one."""
    first: Any = None
    for number, value in enumerate(values, start=start + 1):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        first = value if first is None else first
        if type(value) is not type(first):
            return DataError(
                f"{name}, row {number}: column '{column}' holds {type(first).__name__} values such as {shown(first)}, "
                f"but here {type(value).__name__} {shown(value)}. Make them one type, for example text: map(str, …)."
            )
    return DataError(f"{name}: column '{column}' cannot be read: {reason}.")
