"""One comparison of a column with values, with Arrow: what a condition is made of (see :mod:`towerkit.data.where`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.table import Table, shown, values_of
from towerkit.data.times import parse_times

Value = int | float | bool | str | None
_Held = Literal["number", "bool", "text", "time", "list", "other"]
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
"""How a condition writes a comparison -> the comparison of a column with a value; null where the column has none."""
_NAMES = {"number": "numbers", "bool": "true and false", "text": "texts", "time": "times", "list": "lists"}
_MOST_SHOWN = 100
_MOST_COMPARED = 10_000


def at_place(message: str, text: str, place: int) -> str:
    """A message about a condition, and below it the condition with a mark under the place.

    Example:
        >>> print(at_place("received =", "price = 3", 6))
        where, character 7: received =.
          price = 3
                ^
    """
    start = max(0, place - _MOST_SHOWN // 2)
    line = "".join(" " if character.isspace() else character for character in text[start : start + _MOST_SHOWN])
    return f"where, character {place + 1}: {message}.\n  {line}\n  {' ' * (place - start)}^"


@dataclass(frozen=True)
class Comparison:
    """A column compared with a value, or with several for ``in``; ``has`` asks whether it holds a part."""

    column: str
    operator: str
    values: tuple[Value, ...]
    text: str
    """The whole condition, for messages."""
    place: int
    """Where the column stands in it."""

    def __post_init__(self) -> None:
        kinds = {kind_of(value) for value in self.values}
        if len(kinds) > 1:
            self._refuse("the values of a list must be of one type: texts, numbers, or true and false")
        if kinds == {"null"} and self.operator not in ("==", "!="):
            self._refuse(f"null stands for no value and is compared with == or != only; received {self.operator}")

        if kinds == {"bool"} and self.operator in ("<", "<=", ">", ">="):
            self._refuse(f"true and false have no order; received {self.operator}")

    def holds(self, table: Table) -> pa.Array:
        """``[rows]`` whether each row holds it; null where the column has no value.

        Raises:
            DataError: If the column is missing or holds values of another type.
        """
        if self.column not in table.data.column_names:
            known = table.data.column_names
            hint = nearest(self.column, known) or "."
            message = f"there is no column '{self.column}'{hint} The columns are {listed(known, limit=30)}"
            raise DataError(at_place(message, self.text, self.place))
        values = values_of(table.data, self.column)
        if self.values == (None,):
            return pc.is_null(values) if self.operator == "==" else pc.is_valid(values)
        if values.null_count == len(values):
            return pa.nulls(len(values), pa.bool_())
        if self.operator == "has":
            return self._has(values)
        values, wanted = self._comparable(values)
        if self.operator == "in":
            found = pc.is_in(values, value_set=wanted)
            return pc.if_else(pc.is_valid(values), found, pa.scalar(None, pa.bool_()))
        return COMPARE[self.operator](values, wanted[0])

    def notes(self, table: Table) -> list[str]:
        """The texts that ``==`` and ``in`` name and the column never holds, with the nearest that it does."""
        values = values_of(table.data, self.column)
        if self.operator not in ("==", "in") or not pa.types.is_string(values.type):
            return []
        held = pc.unique(values.drop_null())
        unheard = [value for value in self.values if isinstance(value, str) and pc.index(held, value).as_py() < 0]
        known = held.slice(0, _MOST_COMPARED).to_pylist() if unheard else []
        return [f"where: no row has {shown(one)} in '{self.column}'{nearest(one, known) or '.'}" for one in unheard]

    def _comparable(self, values: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The column and the values that it is compared with, in one type."""
        kind, held = kind_of(self.values[0]), _held(values.type)
        ordered = self.operator not in ("==", "!=", "in")
        if kind == "text" and (held == "time" or (held == "text" and ordered)):
            return self._times(values, held)
        if kind != held:
            self._misfit(values, held)
        is_whole = pa.types.is_integer(values.type)
        with contextlib.suppress(pa.ArrowInvalid, OverflowError):  # a number beyond the type of the column
            if not (is_whole and any(isinstance(value, float) for value in self.values)):
                return values, pa.array(self.values, values.type)  # 0.1 is the nearest number that the column can hold
        return values.cast(pa.float64(), safe=False), pa.array(self.values, pa.float64())

    def _times(self, values: pa.Array, held: _Held) -> tuple[pa.Array, pa.Array]:
        wanted = parse_times(pa.array(self.values, pa.string()))
        times = parse_times(values) if held == "text" else _without_zone(values)
        if times is None or (wanted is None and held == "text"):
            raise DataError(
                at_place(
                    f"the column '{self.column}' holds texts such as {_example(values)}, which have no order that everyone "
                    f"means ('10' comes before '9'); use ==, != or in, or compare a column of numbers or times",
                    self.text,
                    self.place,
                )
            )
        if wanted is None:
            self._misfit(values, held)
        return times, wanted

    def _has(self, values: pa.Array) -> pa.Array:
        """Whether a text holds a part, or a list an element."""
        (wanted,), held = self.values, _held(values.type)
        if held == "text" and isinstance(wanted, str):
            return pc.match_substring(values, wanted)
        if held != "list" or _held(values.type.value_type) != kind_of(wanted):
            self._misfit(values, held)
        matches = pc.fill_null(pc.equal(pc.list_flatten(values), pa.scalar(wanted)), False)
        found = np.zeros(len(values), bool)
        found[pc.list_parent_indices(values).filter(matches).to_numpy()] = True
        return pc.if_else(pc.is_valid(values), pa.array(found), pa.scalar(None, pa.bool_()))

    def _misfit(self, values: pa.Array, held: _Held) -> None:
        names = _NAMES.get(held, f"{values.type}")
        wanted = shown(self.values[0]) if not isinstance(self.values[0], bool) else str(self.values[0]).lower()
        advice = {
            "text": f"Write '{self.values[0]}' in quotes",
            "time": "Write a time as '2024-05-31' or '2024-05-31T10:00:00'",
            "list": f"Ask for an element with VALUE in {self.column}",
        }.get(held, f"Compare with {names}" if held in _NAMES else "Compare another column")
        message = f"the column '{self.column}' holds {names} such as {_example(values)}, and is compared with {wanted}"
        raise DataError(at_place(f"{message}. {advice}", self.text, self.place))

    def _refuse(self, message: str) -> None:
        raise SpecError(at_place(message, self.text, self.place))


def kind_of(value: Value) -> str:
    """``number``, ``bool``, ``text`` or ``null``: what a column must hold to be compared with it."""
    if value is None:
        return "null"
    return "text" if isinstance(value, str) else "bool" if isinstance(value, bool) else "number"


def _held(kind: pa.DataType) -> _Held:
    """What a column of this type holds."""
    is_type = pa.types
    if is_type.is_integer(kind) or is_type.is_floating(kind):
        return "number"
    if is_type.is_boolean(kind):
        return "bool"
    if is_type.is_string(kind):
        return "text"
    if is_type.is_timestamp(kind) or is_type.is_date(kind):
        return "time"
    return "list" if is_type.is_list(kind) or is_type.is_fixed_size_list(kind) else "other"


def _without_zone(values: pa.Array) -> pa.Array:
    """Times in UTC, as :func:`~towerkit.data.times.parse_times` gives them."""
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        values = values.cast(pa.timestamp("us", "UTC"), safe=False)
    return values.cast(pa.timestamp("us"), safe=False)


def _example(values: pa.Array) -> str:
    first = values.drop_null()[0].as_py()
    return f"'{first}'" if _held(values.type) == "time" else shown(first)
