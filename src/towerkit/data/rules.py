"""One comparison written as text, such as ``rating >= 4``: which rows hold it. Read by a small grammar, never evaluated.

```text
rule    = column operator value            rating >= 4 · "Review Text" != 'none' · kind in ['cart', 'buy']
column  = a name without quotes and operators, or any name in double quotes
operator= >= > <= < == != in
value   = a number, true, false, a text in quotes; for "in" a list of these in brackets
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, SpecError
from towerkit.data.column_types import first_misfit
from towerkit.data.comparisons import COMPARE, kind_of
from towerkit.data.table import Table, require_columns, shown, values_of

_RULE = re.compile(
    r"""\s*(?:"(?P<quoted>[^"]+)"|(?P<bare>[^"'<>=!]+?))\s*"""
    r"""(?P<operator>>=|<=|==|!=|>|<|(?<=[\s"])in(?=[\s(\[]))\s*(?P<value>.*?)\s*""",
    re.DOTALL,
)
_ONE = r"""'[^']*'|"[^"]*"|[^\s,'"()\[\]<>=!]+"""
_LIST = re.compile(
    rf"""(?:\[\s*(?:{_ONE})(?:\s*,\s*(?:{_ONE}))*\s*,?\s*\]|\(\s*(?:{_ONE})(?:\s*,\s*(?:{_ONE}))*\s*,?\s*\))"""
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")

Value = int | float | bool | str
_KINDS = {"number": "numbers", "bool": "true and false", "text": "texts"}


@dataclass(frozen=True)
class Rule:
    """A column compared with a value, or with several for ``in``."""

    column: str
    operator: str
    values: tuple[Value, ...]
    text: str
    """As it was written, for messages and the protocol."""

    @property
    def kind(self) -> str:
        """``number``, ``bool`` or ``text``: what the column must hold."""
        return kind_of(self.values[0])

    def holds(self, table: Table) -> NDArray[np.bool_]:
        """Which rows hold it; a row without a value does not, whatever the comparison.

        Args:
            table: The rows.

        Returns:
            ``[rows]``.

        Raises:
            DataError: If the column is missing, or holds values of another type.
        """
        require_columns([self.column], table.data.column_names, f'{table.name}: the rule "{self.text}"')
        values = values_of(table.data, self.column)
        if values.null_count < len(values):
            self._check_type(table, values.type)
        if values.null_count == len(values):
            return np.zeros(len(values), bool)
        if self.operator == "in":
            found = np.logical_or.reduce([_mask(pc.equal(values, pa.scalar(value))) for value in self.values])
            return np.asarray(found)
        return _mask(COMPARE[self.operator](values, pa.scalar(self.values[0])))

    def _check_type(self, table: Table, found: pa.DataType) -> None:
        is_number = pa.types.is_integer(found) or pa.types.is_floating(found)
        held = "number" if is_number else "bool" if pa.types.is_boolean(found) else "text"
        if held == self.kind and (held != "text" or pa.types.is_string(found)):
            return
        values = table.data.column(self.column)
        row = (
            first_misfit("number", values) if self.kind == "number" else int(pc.index(values.is_valid(), True).as_py())
        )
        raise DataError(
            f"{table.where(row)}: the rule \"{self.text}\" compares the column '{self.column}' with {_KINDS[self.kind]}, "
            f"but it holds {shown(values[row].as_py())} ({found}). Correct the value, or write the rule for that type."
        )


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        SpecError: If it is not of the grammar above; says where and how to write it.

    Example:
        >>> parse_rule("rating >= 4").values
        (4,)
        >>> parse_rule("kind in ['cart', 'buy']").values
        ('cart', 'buy')
    """
    found = _RULE.fullmatch(text)
    if found is None:
        raise SpecError(f"a rule is a column, a comparison and a value, as in rating >= 4; received {shown(text)}.")
    column = found["quoted"] or found["bare"]
    operator, written = found["operator"], found["value"]
    values = _values(operator, written, text)
    kinds = {kind_of(value) for value in values}
    if len(kinds) > 1:
        raise SpecError(f"the values of a rule must be of one type; received {shown(written)} in {shown(text)}.")
    if kinds != {"number"} and operator not in ("==", "!=", "in"):
        raise SpecError(
            f"'{operator}' compares numbers, since texts have no order that everyone means ('10' comes before '9'); "
            f"received {shown(text)}. Use ==, != or in, or a number without quotes."
        )
    return Rule(column, operator, values, text.strip())


def _values(operator: str, written: str, text: str) -> tuple[Value, ...]:
    if operator == "in":
        if not _LIST.fullmatch(written):
            raise SpecError(f"'in' needs a list, as in kind in ['cart', 'buy']; received {shown(text)}.")
        return tuple(_value(one, text) for one in re.findall(_ONE, written[1:-1]))
    if not re.fullmatch(_ONE, written):
        raise SpecError(
            f"a rule compares a column with one number or one text in quotes; received {shown(written)} in {shown(text)}. "
            "Several rules cannot be joined; make a column that says it."
        )
    return (_value(written, text),)


def _value(written: str, text: str) -> Value:
    if written[0] in "'\"":
        return written[1:-1]
    if written in ("true", "false"):
        return written == "true"
    if not _NUMBER.fullmatch(written):
        raise SpecError(
            f"a value is a number, true, false, or a text in quotes; received {written} in {shown(text)}. "
            f"If it is a text, write '{written}'."
        )
    return int(written) if re.fullmatch(r"[+-]?\d{1,18}", written) else float(written)


def _mask(found: Any) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), bool)
