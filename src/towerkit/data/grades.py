"""Graded relevance: how well a candidate answers a query, as a judge said; 0 where it does not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, listed, nearest
from towerkit.data.table import Table, require_columns, shown, values_of


def grades_of(table: Table, column: str, codes: Mapping[str, float] | None = None) -> NDArray[np.float64]:
    """The grade of each row.

    Args:
        table: The rows.
        column: Holds the grades, or codes of them.
        codes: Value of the column, as text -> its grade; None where the column holds the grades themselves.

    Returns:
        ``[rows]`` finite and 0 or more.

    Raises:
        DataError: If the column or a grade is missing, a code is not listed, or a grade is negative or no number.

    Example:
        >>> table = Table(pa.table({"grade": ["a", "b"]}), "qrels")
        >>> grades_of(table, "grade", {"a": 2, "b": 0}).tolist()
        [2.0, 0.0]
    """
    require_columns([column], table.data.column_names, table.name)
    values = values_of(table.data, column)
    if codes is not None:
        return _of_codes(table, column, values, codes)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        row = next((row for row, value in enumerate(values.to_pylist()) if not _is_number(value)), 0)
        raise _bad(table, column, row, values[row].as_py(), "a grade is a number, 0 or more")
    grades = np.asarray(pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    bad = np.flatnonzero(~(np.isfinite(grades) & (grades >= 0)))
    if len(bad):
        row = int(bad[0])
        rule = f"a grade is a number, 0 or more ({len(bad):,} such rows)"
        raise _bad(table, column, row, values[row].as_py(), rule)
    return grades


def _of_codes(table: Table, column: str, values: pa.Array, codes: Mapping[str, float]) -> NDArray[np.float64]:
    if pa.types.is_nested(values.type):
        raise _bad(table, column, 0, values[0].as_py(), "a code is one value")
    texts = values.cast(pa.string())
    place = pc.fill_null(pc.index_in(texts, value_set=pa.array(codes, pa.string()), skip_nulls=True), -1)
    places = np.asarray(place.to_numpy(zero_copy_only=False), np.int64)
    unlisted = np.flatnonzero(places < 0)
    if len(unlisted):
        row = int(unlisted[0])
        code = texts[row].as_py()
        raise DataError(
            f"{table.where(row)}: the column '{column}' holds {shown(code)}, which has no grade ({len(unlisted):,} such "
            f"rows){nearest(code, codes) or '.'} Listed are {listed(codes)}. List it in grades (0 for not relevant)."
        )
    return np.array([*codes.values()], np.float64)[places]


def _is_number(value: object) -> bool:
    try:
        return np.isfinite(float(value)) and float(value) >= 0  # type: ignore[arg-type]  # what float cannot take raises
    except (TypeError, ValueError):
        return False


def _bad(table: Table, column: str, row: int, value: object, rule: str) -> DataError:
    return DataError(
        f"{table.where(row)}: the relevance column '{column}' holds {shown(value)}, but {rule}. Correct it, or say in "
        'grades what each value stands for, for example {"-1": 0}.'
    )
