"""Judgements: lines of query, document and grade, in the columns of TREC, BEIR and SMART.

| format | a line holds |
|---|---|
| ``trec`` | query, iteration, document, grade |
| ``beir`` | query, document, grade; the line ``query-id corpus-id score`` above them names the columns |
| ``smart`` | query, document and a code; or two columns of no meaning behind them, as in CISI, where every line is relevant |
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError
from towerkit.data.columns import typed
from towerkit.data.search.records import numbered_lines
from towerkit.data.search.spec import DOCUMENT, QUERY, RELEVANCE
from towerkit.data.table import Table, shown
from towerkit.data.text import TextFile

_COLUMNS = {
    ("trec", 4): (QUERY, "iteration", DOCUMENT, RELEVANCE),
    ("beir", 3): (QUERY, DOCUMENT, RELEVANCE),
    ("smart", 2): (QUERY, DOCUMENT),
    ("smart", 3): (QUERY, DOCUMENT, RELEVANCE),
    ("smart", 4): (QUERY, DOCUMENT, "category", "weight"),
}
_BEIR_HEADER = ["query-id", "corpus-id", "score"]


def read_qrels(file: TextFile, form: str) -> Table:
    """Read judgements; a line is taken apart at its blanks and tabs.

    Args:
        file: The text; blank lines count for nothing.
        form: ``trec``, ``beir`` or ``smart``.

    Returns:
        Columns ``query``, ``document`` (text), ``relevance`` (numbers where all are; 1 where the file has no grades).

    Raises:
        DataError: If a line has another number of columns, a pair stands twice, or nothing is judged; with line and value.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    pairs: dict[tuple[str, str], int] = {}
    for number, line in numbered_lines(file):
        values = line.split()
        if not values or (form == "beir" and not rows and values == _BEIR_HEADER):
            continue
        _check_width(file, form, number, line, values, len(rows[0]) if rows else None)
        pair = values[0], values[2 if form == "trec" else 1]
        if pairs.setdefault(pair, number) != number:
            raise DataError(
                f"{file.name}, line {number}: the query {shown(pair[0])} and the document {shown(pair[1])} are judged in "
                f"line {pairs[pair]} already. A pair has one judgement: remove one."
            )
        rows.append(values)
        lines.append(number)
    if not rows:
        raise DataError(f"{file.name}: holds no judgement. A line is {_expected(form)}.")
    names = _COLUMNS[form, len(rows[0])]
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    data = {QUERY: pa.array(columns[QUERY]), DOCUMENT: pa.array(columns[DOCUMENT]), RELEVANCE: _codes(columns)}
    return Table(pa.table(data), file.name, lines[0] if lines[-1] - lines[0] == len(lines) - 1 else 0)


def _codes(columns: dict[str, list[str]]) -> pa.ChunkedArray:
    if RELEVANCE not in columns:
        return pa.chunked_array([pa.array([1] * len(columns[QUERY]), pa.int64())])
    found = typed(pa.chunked_array([columns[RELEVANCE]]))
    return found if pa.types.is_integer(found.type) or pa.types.is_floating(found.type) else pc.cast(found, pa.string())


def _check_width(file: TextFile, form: str, number: int, line: str, values: list[str], before: int | None) -> None:
    if (form, len(values)) in _COLUMNS and before in (None, len(values)):
        return
    alike = "" if before in (None, len(values)) else f", and the lines above have {before}"
    raise DataError(
        f"{file.name}, line {number}: a judgement of format: {form} is {_expected(form)}; this line has {len(values)} "
        f"values{alike}: {shown(line)}. Correct the line, or set the format."
    )


def _expected(form: str) -> str:
    return " or ".join(" ".join(names) for (known, _), names in _COLUMNS.items() if known == form)
