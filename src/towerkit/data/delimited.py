"""Text tables: rows are lines, values are split by a separator, and every fault is told with its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from towerkit.core.errors import DataError, listed
from towerkit.data.columns import typed
from towerkit.data.faults import find_fault
from towerkit.data.layout import Layout, find_layout
from towerkit.data.oddities import text_notes
from towerkit.data.table import Table, check_names, require_columns
from towerkit.data.text import ChunkReader, TextFile, replaced

_STAND_IN = "\x1f"
"""Takes the place of a separator of several characters, which the parser does not know: ASCII's unit separator."""
_BLOCK_BYTES, _LARGE_BLOCK_BYTES = 4 << 20, 1 << 29
_ROW_NUMBERS = "\x00row numbers"


def read_delimited(
    file: TextFile,
    *,
    separator: str | None = None,
    header: bool = True,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    quoted: bool | None = None,
    decimal: str = ".",
) -> Table:
    """Read a text table; values are typed by :mod:`towerkit.data.columns`.

    Args:
        file: The text.
        separator: What stands between values, one or more characters; found from the file when not given.
        header: Whether the first line names the columns.
        names: Column names for a file without a header.
        columns: Read only these.
        quoted: Whether ``"`` encloses values that hold the separator or a line break. When not given: yes, but with a
            tab or several characters as separator only if the file shows it, for such files rarely quote.
        decimal: What stands before the decimal places of a number, ``.`` or ``,``.

    Raises:
        DataError: With the line, and the column and value where they are known.
    """
    head = file.head()
    layout = find_layout(head, file, separator=separator, header=header, names=names)
    if columns is not None:
        require_columns(columns, layout.names, file.name)
    table = _Parse(file, layout, columns, decimal).table(quoted)
    if table.num_rows == 0:
        raise DataError(f"{file.name}: has a header but no rows ({listed(layout.names)}); give a file with rows.")
    table = _without_row_numbers(table, file.name)
    if columns is not None:
        table = table.select(list(dict.fromkeys(columns)))
    found = Table(table, file.name, layout.first_row)
    return replace(found, notes=text_notes(found, decimal))


@dataclass(frozen=True)
class _Parse:
    file: TextFile
    layout: Layout
    columns: Sequence[str] | None
    decimal: str

    def table(self, quoted: bool | None) -> pa.Table:
        separator = self.layout.separator
        if quoted is not None or (self.layout.splits_by_byte and separator != "\t"):
            return self._typed(self._text(quoted is not False))
        try:
            plain = self._text(False)
        except DataError as error:
            try:
                return self._typed(self._text(True))
            except DataError:
                raise error from None
        return self._typed(self._text(True) if _shows_quotes(plain) else plain)

    def _text(self, quoted: bool) -> pa.Table:
        """Parse to columns of text."""
        quotes: list[int] = []
        try:
            table = self._arrow(quoted, _BLOCK_BYTES, quotes)
        except pa.ArrowInvalid as error:
            table = self._second_try(quoted, quotes, str(error))
        if quoted and sum(quotes) % 2:
            self._refuse(quoted)
        return table

    def _second_try(self, quoted: bool, quotes: list[int], reason: str) -> pa.Table:
        """Parse again in large blocks if a row was longer than a block; find the fault otherwise."""
        if "Empty CSV" in reason:
            return pa.table({name: pa.array([], pa.string()) for name in self.layout.names})
        try:
            if "straddling" in reason:
                return self._arrow(quoted, _LARGE_BLOCK_BYTES, quotes)
        except pa.ArrowInvalid as error:
            reason = str(error)
        self._refuse(quoted)
        raise DataError(f"{self.file.name}: cannot be split into rows: {reason}.")

    def _arrow(self, quoted: bool, block_size: int, quotes: list[int]) -> pa.Table:
        names = [name or _ROW_NUMBERS for name in self.layout.names]
        quotes.clear()
        return pyarrow.csv.read_csv(
            ChunkReader(_counted(self._body(), quotes)),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=block_size),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self._delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                include_columns=None if self.columns is None else list(dict.fromkeys(self.columns)),
                null_values=[""],
                strings_can_be_null=True,
                check_utf8=False,  # the chunks were checked, with the position of the fault
            ),
        )

    @property
    def _delimiter(self) -> str:
        return self.layout.separator if self.layout.splits_by_byte else _STAND_IN

    def _body(self) -> Iterator[bytes]:
        """The text below the header, with a separator of one character."""
        chunks = self.file.chunks()
        body = chain([next(chunks, b"")[self.layout.header_bytes :]], chunks)
        if self.layout.splits_by_byte:
            return body
        return replaced(body, self.layout.separator.encode(), _STAND_IN.encode(), self.file.name)

    def _refuse(self, quoted: bool) -> None:
        fault = find_fault(ChunkReader(self._body()), self.layout, self._delimiter, quoted=quoted, name=self.file.name)
        if fault is not None:
            raise fault from None

    def _typed(self, table: pa.Table) -> pa.Table:
        if not self.layout.splits_by_byte:  # a quoted value may hold the separator itself
            restored = (pc.replace_substring(c, _STAND_IN, self.layout.separator) for c in table.columns)
            table = pa.table(list(restored), names=table.column_names)
        return pa.table([typed(column, self.decimal) for column in table.columns], names=table.column_names)


def _counted(chunks: Iterator[bytes], quotes: list[int]) -> Iterator[bytes]:
    for chunk in chunks:
        quotes.append(chunk.count(b'"'))
        yield chunk


def _shows_quotes(table: pa.Table) -> bool:
    """Whether some value opens with a quote, and each one that does also closes with one."""
    found = False
    for column in table.columns:
        opened = column.filter(pc.starts_with(column, '"'))
        if not pc.all(pc.match_substring_regex(opened, r'(?s)^".*"$'), min_count=0).as_py():
            return False
        found = found or len(opened) > 0
    return found


def _without_row_numbers(table: pa.Table, name: str) -> pa.Table:
    """Leave out a first column without a name if it only counts the rows, as a data frame's index does when saved."""
    if _ROW_NUMBERS not in table.column_names:
        return table
    numbers = table.column(_ROW_NUMBERS)
    if (
        not pa.types.is_integer(numbers.type)
        or numbers.null_count
        or pc.any(pc.not_equal(pc.pairwise_diff(numbers.combine_chunks(), 1).slice(1), 1)).as_py()
    ):
        check_names(["", *table.column_names[1:]], f"{name}, line 1")
    return table.drop_columns([_ROW_NUMBERS])
