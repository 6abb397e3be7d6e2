"""What a person should know about an answer, carried by the table itself: as the metadata of its schema."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pyarrow as pa

_NOTES = b"towerkit.notes"


def with_notes(table: pa.Table, notes: Iterable[str]) -> pa.Table:
    """The table with notes; without any it stays as it is."""
    told = [*notes_of(table), *notes]
    if not told:
        return table
    text = json.dumps(list(dict.fromkeys(told)), ensure_ascii=False)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _NOTES: text.encode()})


def notes_of(answer: pa.Table) -> list[str]:
    """Why an answer is as it is: fewer rows than asked for, keys that are unknown.

    Args:
        answer: What :meth:`towerkit.run.Run.recommend` and its like gave, or what was read from the Parquet file of it.

    Example:
        >>> notes_of(pa.table({"query": ["u1"]}))
        []
    """
    metadata = answer.schema.metadata or {}
    return [str(note) for note in json.loads(metadata[_NOTES])] if _NOTES in metadata else []
