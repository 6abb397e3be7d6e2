"""What the formats of documents and queries have in common: records with an id, a title, a text, and other texts."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError
from towerkit.data.table import Table, shown
from towerkit.data.text import ChunkReader, TextFile

ID, TITLE, TEXT = "id", "title", "text"


@dataclass
class Record:
    """One document or query as it stood in a file."""

    id: str
    line: int
    """Where it begins, from 1."""
    fields: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        """Put a text below what the field holds already."""
        self.fields[name] = f"{self.fields[name]}\n{text}" if self.fields.get(name) else text


def table_of_records(records: Sequence[Record], name: str) -> Table:
    """A table of texts with a row per record: ``id``, ``title``, ``text``, then whatever else some record has.

    Args:
        records: In the order of the file.
        name: What messages call the file.

    Raises:
        DataError: If an id stands twice, or no record has any text.
    """
    seen: dict[str, int] = {}
    for record in records:
        before = seen.setdefault(record.id, record.line)
        if before != record.line:
            raise DataError(
                f"{name}, line {record.line}: the id {shown(record.id)} stands in line {before} already; ids must differ. "
                "Remove one of the two, or rename it."
            )
    if not any(record.fields.get(TEXT) or record.fields.get(TITLE) for record in records):
        raise DataError(f"{name}: none of its {len(records):,} records has a text or a title. Is this the right file?")
    names = dict.fromkeys([TITLE, TEXT, *(field for record in records for field in record.fields)])
    columns = {each: pa.array([record.fields.get(each) for record in records], pa.string()) for each in names}
    return Table(pa.table({ID: pa.array(list(seen), pa.string()), **columns}), name)


def keyed(table: Table, key: str, *, by_position: bool = False) -> Table:
    """A table of records under the name of its entity, its keys as text.

    Args:
        table: With the column ``id``.
        key: What the key column shall be called.
        by_position: The place in the file, from 1, is the key; the id stays as a column.
    """
    data = table.data
    keys = pa.array([str(place + 1) for place in range(data.num_rows)]) if by_position else texts_of(data.column(ID))
    others = {name: data.column(name) for name in data.column_names if by_position or name != ID}
    return replace(table, data=pa.table({key: keys, **{name: v for name, v in others.items() if name != key}}))


def texts_of(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Keys as text, so that ``7`` in one file and ``"7"`` in another are one key."""
    return pc.cast(values, pa.string())


def numbered_lines(file: TextFile) -> Iterator[tuple[int, str]]:
    """The lines of a text with their numbers from 1, without their line breaks.

    Raises:
        DataError: If the file is empty or no text.
    """
    file.head()
    reader = io.TextIOWrapper(io.BufferedReader(ChunkReader(file.chunks())), encoding="utf-8", newline=None)
    for number, line in enumerate(reader, start=1):
        yield number, line.rstrip("\n")
