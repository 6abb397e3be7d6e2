"""What is to be known about an answer, carried by the table itself: as the metadata of its schema."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pyarrow as pa

_NOTES, _SPACE = b"towerkit.notes", b"towerkit.space"


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


def with_space(table: pa.Table, space: str | None) -> pa.Table:
    """The table with the embedding-space id of its vectors; without an id it stays as it is."""
    if space is None:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _SPACE: space.encode()})


def space_of(vectors: pa.Table) -> str | None:
    """The embedding-space id of a table of vectors: those of two tables may be compared where it is the same.

    Args:
        vectors: What :meth:`towerkit.run.Run.embed` gave, or what was read from the Parquet or Arrow file of it.

    Returns:
        The ``space`` of the Run that made them; None for a table that has none.

    Example:
        >>> space_of(with_space(pa.table({"vector": [[0.5, 1.0]]}), "1f0c"))
        '1f0c'
    """
    stored = (vectors.schema.metadata or {}).get(_SPACE)
    return None if stored is None else stored.decode()
