"""BEIR's documents and queries: JSON lines with ``_id``, ``title`` and ``text``."""

from __future__ import annotations

import pyarrow as pa

from towerkit.data.json_lines import read_json_lines
from towerkit.data.search.records import ID, TEXT, TITLE
from towerkit.data.table import Table, require_columns
from towerkit.data.text import TextFile


def read_beir(file: TextFile) -> Table:
    """Read documents or queries: ``id``, ``title`` (missing for queries), ``text``, and what the metadata hold.

    Raises:
        DataError: If a line is no such object, with line and value.
    """
    table = read_json_lines(file)
    require_columns(["_id", TEXT], table.data.column_names, table.name)
    columns = {ID if name == "_id" else name: table.data.column(name) for name in table.data.column_names}
    columns.setdefault(TITLE, pa.chunked_array([pa.nulls(table.data.num_rows, pa.string())]))
    return Table(pa.table(columns), table.name, table.first_row, table.notes)
