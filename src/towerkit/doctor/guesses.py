"""Guess what each column is for, from its name and its values, and say why."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.data.schema import ColumnInfo, infer_schema
from towerkit.data.split_specs import TimeSplit
from towerkit.data.table import Table, values_of
from towerkit.doctor.moments import span_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_QUERY = _words(
    "user uid customer client visitor session member reader reviewer listener viewer account person query u"
)
_CANDIDATE = _words(
    "item iid product movie film article sku document doc ad artist song track book place poi business listing video "
    "asin isbn game recipe hotel candidate i"
)
_KEY = _words("id ids key code uuid uid index idx no nr num number")
_NAME = _words("name login email hash")
_TIME = _words("time timestamp ts date datetime unix epoch")
_WEIGHT = ("weight", "weights")
_LABEL = _words(
    "label target rating stars score click clicked purchased bought converted conversion recommended liked class "
    "sentiment y"
)
_NEARLY_ALL = 0.9
_MANY_MISSING = 0.5
_MANY_CLASSES = 20
_FEW_MOMENTS = 10


@dataclass(frozen=True)
class Guess:
    """A column for a role, and why."""

    column: str
    reason: str


def words_of(name: str) -> list[str]:
    """The words of a column name, in lower case.

    Example:
        >>> words_of("MovieID"), words_of("user_id"), words_of("unixReviewTime")
        (['movie', 'id'], ['user', 'id'], ['unix', 'review', 'time'])
    """
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+", name)
    return [word.lower() for word in found]


def guess_roles(table: Table, *, has_names: bool = True) -> dict[str, Guess]:
    """Role -> column, for ``query``, ``candidate``, ``time`` and ``weight``, in this order.

    Args:
        table: The rows.
        has_names: Whether the column names are the file's own.
    """
    columns = infer_schema(table, {}).columns
    found: dict[str, Guess] = {}
    for role, words in (("query", _QUERY), ("candidate", _CANDIDATE)):
        named = [(column, _fit(column, words, table)) for column in columns]
        best = max(named, key=lambda pair: pair[1], default=None)
        if best is not None and best[1]:
            found[role] = Guess(best[0].name, "its name says so")
    if not has_names:
        repeating = [column for column in columns if _repeats(column, table) and column.distinct >= 10]
        repeating = repeating if repeating[:1] == list(columns[:1]) else []  # a log of events begins with who
        for role, column in zip(("query", "candidate"), repeating, strict=False):
            found[role] = Guess(column.name, f"a guess by place: {column.distinct:,} different values that repeat")
    taken = {guess.column for guess in found.values()}
    time = _guess_time([column for column in columns if column.name not in taken], table)
    if time is not None:
        found["time"] = time
    for column in columns:
        if column.name.lower().replace("_", " ").removeprefix("sample ") in _WEIGHT and _may_weigh(column, table):
            found.setdefault("weight", Guess(column.name, "its name says so, and no value is missing or below 0"))
    return found


def _fit(column: ColumnInfo, entity: frozenset[str], table: Table) -> int:
    """How well a column fits: 0 not at all, 2 for a key (``user``, ``userId``), 1 for a name (``user_name``)."""
    words = words_of(column.name)
    if not _repeats(column, table) or not words or column.type not in ("number", "category", "key", "text"):
        return 0
    rest = [word for word in words if word not in entity]
    if len(rest) == len(words) or any(word not in _KEY | _NAME for word in rest):
        return 0
    return 1 if any(word in _NAME for word in rest) else 2


def _repeats(column: ColumnInfo, table: Table) -> bool:
    kind = table.data.schema.field(column.name).type
    if column.missing > _MANY_MISSING or pa.types.is_floating(kind):
        return False
    return 1 < column.distinct < table.data.num_rows


def incomplete_time(table: Table) -> str | None:
    """A sentence about the column that would be the time, had it a value in every row."""
    columns = [column for column in infer_schema(table, {}).columns if 0 < column.missing < 1]
    guess = _guess_time([replace(column, missing=0.0) for column in columns], table)
    if guess is None:
        return None
    missing = table.data.column(guess.column).null_count
    way = (
        "set split: {kind: time, time_missing: drop}" if "time_missing" in TimeSplit.model_fields else "drop those rows"
    )
    return (
        f"'{guess.column}' would be the time ({guess.reason}), but {missing:,} of {table.data.num_rows:,} rows have none, "
        f"which a time split refuses: {way}, fill them, or leave the time out"
    )


def _guess_time(columns: list[ColumnInfo], table: Table) -> Guess | None:
    guesses = []
    for column in columns:
        words = set(words_of(column.name))
        is_key = bool(words) and words <= _QUERY | _CANDIDATE
        if column.missing or is_key or words & (_KEY - {"no", "num", "number"}) or column.distinct < 2:
            continue
        is_named = bool(words & _TIME)
        span = span_of(values_of(table.data, column.name)) if column.type in ("time", "number") else None
        if column.type == "time":
            is_coarse = column.distinct < min(_FEW_MOMENTS, table.data.num_rows // 3)  # the day of a folder, a month
            guesses.append((0 if is_coarse else 2 + is_named, Guess(column.name, "it holds dates or times")))
        elif span is not None and span.unit is not None:
            reason = f"its values, read as {span.unit} since 1970, run from {span.first} to {span.last}"
            guesses.append((1 + is_named, Guess(column.name, reason)))
        elif is_named and column.type == "number":
            guesses.append((1, Guess(column.name, "its name says so; the numbers are no dates that doctor knows")))
    return max(guesses, key=lambda pair: pair[0])[1] if guesses else None


def _may_weigh(column: ColumnInfo, table: Table) -> bool:
    if column.type != "number" or column.missing:
        return False
    low = pc.min(values_of(table.data, column.name).cast(pa.float64(), safe=False)).as_py()
    return low is not None and low >= 0


def guess_labels(table: Table, roles: dict[str, str]) -> list[dict[str, Any]]:
    """Columns that a head may predict, by name, with the kind of head that their values fit.

    A text with many values is left out.

    Args:
        table: The rows.
        roles: Role -> column; such a column is no label.
    """
    found = []
    for column in infer_schema(table, {}).columns:
        words = [word for word in words_of(column.name) if word != "is"]
        if column.name in roles.values() or not words or words[-1] not in _LABEL or column.distinct < 2:
            continue
        if column.type == "bool" or column.distinct == 2:
            kind = "binary"
        elif column.distinct > _MANY_CLASSES:
            if column.type != "number":
                continue
            kind = "regression"
        else:
            kind = "ordinal" if column.type == "number" else "multiclass"
        found.append({"column": column.name, "kind": kind, "distinct": column.distinct})
    return found


def guess_entity(table: Table, *, has_names: bool = True) -> Guess | None:
    """The key column of a table that has one row per thing: an id whose values (nearly) all differ.

    Args:
        table: The rows.
        has_names: Whether the column names are the file's own; else the first column may be the key.
    """
    for place, column in enumerate(infer_schema(table, {}).columns):
        words = words_of(column.name)
        is_named = bool(words) and set(words) <= _QUERY | _CANDIDATE | _KEY
        if not (is_named or (not has_names and place == 0)) or column.type in ("list", "vector"):
            continue
        values = values_of(table.data, column.name)
        distinct = pc.count_distinct(values).as_py()
        if pa.types.is_floating(values.type) or distinct < _NEARLY_ALL * len(values) or distinct < 2:
            continue
        return Guess(column.name, f"it looks like an entity table: '{column.name}' is its key, one row per value")
    return None
