"""Values that do not fit their column, each with its row: the one word among numbers that made all of them names.

A column is judged by its majority. Nothing here stops a training (a postal code may hold a letter), so doctor tells
it as a note; but a column of numbers that is read as names is the most frequent silent loss.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.columns import MISSING, looks_typed
from towerkit.data.readers import SourceSpec
from towerkit.data.table import Table, shown, values_of
from towerkit.data.times import ISO_TIME, parse_times

_MOST = 0.5
_MEND_COMMA = "set decimal: ',' in the spec" if "decimal" in SourceSpec.model_fields else "write them with a point"
_KEY_LIKE = r"^[+-]?[0-9]+$"
_DECIMAL_COMMA = r"^[+-]?[0-9]+([. ][0-9]{3})*,[0-9]+$"
_THOUSANDS = r"^[+-]?[0-9]{1,3}(,[0-9]{3})+$"
_POINT_AND_THOUSANDS = r"^[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]+$"
_LOCAL_DATE = (
    r"^[0-9]{1,2}[./-][0-9]{1,2}[./-]([0-9]{4}|[0-9]{2})([ T].*)?$|^[0-9]{4}[./][0-9]{1,2}[./][0-9]{1,2}([ T].*)?$"
)
_EXACT = 2.0**53
"""Whole numbers beyond it have no 64-bit floating-point number of their own."""


@dataclass(frozen=True)
class OddValue:
    """The first value of a column that does not fit, and how many there are."""

    column: str
    row: int
    """From 0."""
    where: str
    value: str
    count: int
    text: str
    """All of it in a sentence, with what to do."""


def odd_values(table: Table) -> list[OddValue]:
    """Look at every column of text and at every column of decimal numbers."""
    found = []
    for name in table.data.column_names:
        values = values_of(table.data, name)
        if pa.types.is_string(values.type) and values.null_count < len(values):
            odd = _Text(table, name, values).look()
        elif pa.types.is_floating(values.type):
            odd = _infinite(table, name, values) or _rounded(table, name, values)
        else:
            odd = None
        if odd is not None:
            found.append(odd)
    return found


@dataclass(frozen=True)
class _Text:
    table: Table
    name: str
    values: pa.Array

    def look(self) -> OddValue | None:
        present = pc.and_(self.values.is_valid(), pc.invert(pc.is_in(self.values, value_set=pa.array(MISSING))))
        total = pc.sum(present).as_py() or 0
        if not total or not self._is_worth_it(present):
            return self._blanks()
        return self._numbers(present, total) or self._dates(present, total) or self._blanks()

    def _is_worth_it(self, present: pa.Array) -> bool:
        """Most columns of text show by a few values that they hold neither numbers nor dates."""
        sample = self.values.filter(present).slice(0, 1000)
        return bool(pc.mean(pc.match_substring_regex(sample, r"^[+-]?[0-9.,]").cast(pa.float64())).as_py() >= _MOST / 2)

    def _numbers(self, present: pa.Array, total: int) -> OddValue | None:
        plain = pc.or_(looks_typed(self.values, "number"), self._match(_KEY_LIKE))
        comma = self._match(_DECIMAL_COMMA)
        num_comma, num_plain = self._count(comma, present), self._count(plain, present)
        if num_comma and num_comma + num_plain >= 0.9 * total:
            ambiguous = self._count(self._match(_THOUSANDS), present) == num_comma
            meant = "a decimal comma or commas between thousands" if ambiguous else "a decimal comma"
            return self._odd(
                pc.and_(comma, present),
                f"numbers are written with {meant}, so the column is read as names; {_MEND_COMMA}",
            )
        thousands = pc.and_(self._match(_POINT_AND_THOUSANDS), present)
        if self._count(thousands, present) and self._count(thousands, present) + num_plain >= 0.9 * total:
            return self._odd(
                thousands,
                "numbers are written with commas between thousands, so the column is read as names; write 1400.50",
            )
        if _MOST * total <= num_plain < total:
            return self._odd(
                pc.and_(present, pc.invert(plain)),
                f"{num_plain:,} of {total:,} values are numbers, and this is none, so the column is read as names; correct "
                "or empty such values if numbers are meant",
            )
        return None

    def _dates(self, present: pa.Array, total: int) -> OddValue | None:
        iso = self._match(ISO_TIME)
        num_iso = self._count(iso, present)
        local = pc.and_(self._match(_LOCAL_DATE), present)
        num_local = self._count(local, present)
        if num_iso and num_local and num_iso + num_local >= 0.9 * total:
            return self._odd(
                local,
                f"dates are written in several forms ({num_iso:,} like 2024-05-31), so the column is read as names; write all "
                "of them like 2024-05-31",
            )
        if _MOST * total <= num_iso < total:
            return self._odd(
                pc.and_(present, pc.invert(iso)),
                f"{num_iso:,} of {total:,} values are dates, and this is none, so the column is read as names; write it "
                "like 2024-05-31 or 2024-05-31T10:00:00",
            )
        if num_iso == total and parse_times(self.values.filter(present)) is None:
            return self._odd(self._impossible(present), "is written like a date, but there is no such day or hour")
        if num_local >= 0.9 * total:
            return self._odd(local, "dates in this form are read as names, not as times; write 2024-05-31")
        return None

    def _impossible(self, present: pa.Array) -> pa.Array:
        bad = [text for text in self.values.filter(present).unique().to_pylist() if not _is_moment(text)]
        return pc.is_in(self.values, value_set=pa.array(bad, pa.string()))

    def _blanks(self) -> OddValue | None:
        """Names that differ only in the blanks around them: two things to a model, one to a reader."""
        padded = self._match(r"^\s|\s$")
        if not pc.any(padded).as_py():
            return None
        trimmed = pc.utf8_trim_whitespace(self.values.filter(padded))
        known = pc.is_in(trimmed, value_set=self.values.filter(pc.invert(padded)))
        if not pc.any(known).as_py():
            return None
        twins = pc.and_(
            padded, pc.is_in(pc.utf8_trim_whitespace(self.values), value_set=trimmed.filter(known).unique())
        )
        return self._odd(twins, "stands in other rows without the blanks around it, and counts as another name here")

    def _match(self, pattern: str) -> pa.Array:
        return pc.fill_null(pc.match_substring_regex(self.values, pattern), False)

    def _count(self, mask: pa.Array, present: pa.Array) -> int:
        return int(pc.sum(pc.and_(pc.fill_null(mask, False), present)).as_py() or 0)

    def _odd(self, mask: pa.Array, why: str) -> OddValue | None:
        return _odd(self.table, self.name, self.values, pc.fill_null(mask, False), why)


def _odd(table: Table, name: str, values: pa.Array, mask: pa.Array, why: str) -> OddValue | None:
    row, count = pc.index(mask, True).as_py(), int(pc.sum(mask).as_py() or 0)
    if row < 0:
        return None
    value = shown(values[row].as_py())
    more = f" ({count:,} such values)" if count > 1 else ""
    where = table.where(row)
    return OddValue(name, row, where, value, count, f"{where}: '{name}' holds {value}{more}: {why}")


def _infinite(table: Table, name: str, values: pa.Array) -> OddValue | None:
    mask = pc.fill_null(pc.is_inf(values), False)
    return _odd(table, name, values, mask, "an infinite number is refused where a tower reads the column")


def _rounded(table: Table, name: str, values: pa.Array) -> OddValue | None:
    """Whole numbers that floating point has rounded: long keys, as a spreadsheet writes them."""
    mask = pc.fill_null(pc.and_(pc.greater(pc.abs(values), _EXACT), pc.is_finite(values)), False)
    return _odd(
        table,
        name,
        values,
        mask,
        "a number so large is rounded, and two different keys may have become one, as where a spreadsheet writes long ids "
        "like 5.70306E+17; if these are keys, export the column as text",
    )


def _is_moment(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
