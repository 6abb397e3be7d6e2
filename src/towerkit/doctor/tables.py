"""Everything that is told about one table, whatever file or spec it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from towerkit.data.schema import Schema, infer_schema
from towerkit.data.table import Table, shown, values_of
from towerkit.doctor.moments import span_of
from towerkit.doctor.odd_values import OddValue, odd_values
from towerkit.doctor.pairs import pairs_of

_FEW = 0.05
"""A share of missing values below which a column is fine without a word."""


def describe(table: Table, roles: Mapping[str, str]) -> dict[str, Any]:
    """Rows, columns, pairs, time, odd values and notes of a table.

    Args:
        table: The rows.
        roles: Role -> column, given or guessed.
    """
    schema = infer_schema(table, {})
    odd = odd_values(table)
    return {
        "rows": table.data.num_rows,
        "bytes": table.data.nbytes,
        "columns": [vars(column) for column in schema.columns],
        "pairs": pairs_of(table, roles["query"], roles["candidate"])
        if {"query", "candidate"} <= roles.keys()
        else None,
        "time": _time(table, roles.get("time")),
        "odd_values": [asdict(each) for each in odd],
        "notes": [*_reader_notes(table, odd), *_notes(schema, table), *(each.text for each in odd)],
        "problems": [],
    }


def _reader_notes(table: Table, odd: list[OddValue]) -> list[str]:
    """What the reader noticed, without columns of which doctor says more."""
    told = tuple(f"'{each.column}' " for each in odd)
    return [note for note in table.notes if not told or not note.startswith(told)]


def _time(table: Table, column: str | None) -> dict[str, Any] | None:
    span = None if column is None else span_of(values_of(table.data, column))
    return None if span is None else {"column": column, **asdict(span)}


def _notes(schema: Schema, table: Table) -> list[str]:
    notes = []
    for column in schema.columns:
        if column.missing == 1.0:
            notes.append(f"'{column.name}' is empty in every row: leave it out")
        elif column.missing > _FEW:
            notes.append(
                f"'{column.name}' is missing in {column.missing:.1%} of the rows: towers have a place for missing values"
            )
        elif column.distinct == 1:
            notes.append(f"'{column.name}' holds one value only ({column.example}): it tells nothing")
    names = table.data.column_names
    if len(names) == 1:
        notes.append(
            f"'{names[0]}' is the only column: a ranking needs two, who and what, and a prediction a label beside what it reads; "
            "if there should be more, set separator: to what stands between values"
        )
    padded = [name for name in names if name != name.strip()]
    if padded:
        more = f" and {len(padded) - 1:,} more names" if padded[1:] else ""
        notes.append(
            f"the first line has blanks around {shown(padded[0])}{more}, which a spec must repeat; remove them there, and "
            "around values"
        )
    repeats = _repeated_rows(schema, table.data)
    if repeats:
        notes.append(f"{repeats:,} rows repeat an earlier row exactly")
    return notes


def _repeated_rows(schema: Schema, data: pa.Table) -> int:
    plain = [column.name for column in schema.columns if column.type not in ("list", "vector", "image", "sound")]
    if not plain:
        return 0
    return data.num_rows - data.select(plain).group_by(plain).aggregate([]).num_rows
