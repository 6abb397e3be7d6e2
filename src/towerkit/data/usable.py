"""Which example rows count at all, and what each weighs, by what stands in the row itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.spec import parse
from towerkit.data.grades import grades_of
from towerkit.data.rules import parse_rule
from towerkit.data.spec import ExamplesSpec
from towerkit.data.table import Table, values_of


@dataclass(frozen=True)
class Usable:
    """What the rows say about themselves."""

    mask: NDArray[np.bool_]
    """``[rows]`` true where the row counts."""
    weights: NDArray[np.float64] | None
    """``[rows]`` weight times the weight of the event; None where the data gives neither."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason -> number of rows."""
    grades: NDArray[np.float64] | None = None
    """``[rows]`` how well the candidate answers the query; None where the data does not say."""


def usable_rows(spec: ExamplesSpec, tables: list[Table]) -> Usable:
    """Look at the example table and those given apart, one by one, so that messages name the right file.

    Args:
        spec: The columns of weight, event and relevance, and the rule of positives.
        tables: The example table, then those given apart, which may lack weights, events and grades: their rows have 1.

    Returns:
        The rows of all tables together, in that order.

    Raises:
        DataError: If an event has no weight, a grade is none, a value does not fit the rule, or no example row is left.
    """
    sizes = [table.data.num_rows for table in tables]
    mask, left_out = np.ones(sum(sizes), bool), {}
    weights = None if spec.weight is None else np.concatenate([_weights(table, spec.weight) for table in tables])
    if spec.event is not None:
        column = spec.event.column
        given = [
            spec.event.weigh(table) if not place or column in table.data.column_names else np.ones(sizes[place])
            for place, table in enumerate(tables)
        ]
        events = np.concatenate(given)
        weights = events if weights is None else weights * events
        mask &= events > 0
        left_out["events"] = int((events == 0).sum())
        _require_rows(mask[: sizes[0]], tables[0], "event.weights")
    if spec.positive is not None:
        rule = parse_rule(spec.positive)
        holds = np.concatenate([rule.holds(table) for table in tables])
        left_out["not_positive"] = int((mask & ~holds).sum())
        mask &= holds
        _require_rows(mask[: sizes[0]], tables[0], f'the rule positive: "{rule.text}"')
    grades = None
    if spec.relevance is not None:
        grades = np.concatenate([_grades(spec, table, given_apart=place > 0) for place, table in enumerate(tables)])
        left_out["not_relevant"] = int((mask & (grades == 0)).sum())
        mask &= grades > 0
        _require_rows(mask[: sizes[0]], tables[0], f"the grade 0 in the column '{spec.relevance}'")
    return Usable(mask, weights, {reason: count for reason, count in left_out.items() if count}, grades)


def _grades(spec: ExamplesSpec, table: Table, *, given_apart: bool) -> NDArray[np.float64]:
    assert spec.relevance is not None
    if given_apart and spec.relevance not in table.data.column_names:
        return np.ones(table.data.num_rows)
    return grades_of(table, spec.relevance, spec.grades)


@dataclass(frozen=True)
class Measured:
    """New rows that are pairs, and what was said of them."""

    table: Table
    left_out: dict[str, int]
    """Reason -> number of rows."""
    grades: NDArray[np.float64] | None
    """``[rows]``; None where the training's data had no grades."""


def rows_to_measure(table: Table, split: Mapping[str, Any]) -> Measured:
    """Of new rows those that are pairs by the rules a model was trained and measured with.

    Args:
        table: The rows; without the column of events all of them count as events, without that of grades all have 1.
        split: How the parts were made, as the protocol of the training says.

    Raises:
        DataError: If the column of the rule of positives is missing, a grade is none, or no row is left.
    """
    rules: dict[str, Any] = {"path": table.name, "positive": split.get("positive")}
    events = split.get("events")
    for column, kinds in events.items() if isinstance(events, Mapping) else ():
        if column in table.data.column_names:
            rules["event"] = {"column": column, "weights": dict.fromkeys(kinds, 1.0), "others": "drop"}
    if split.get("relevance") in table.data.column_names:
        rules |= {"relevance": split["relevance"], "grades": split.get("grades")}
    usable = usable_rows(parse(ExamplesSpec, rules, "the Run's protocol"), [table])
    if usable.mask.all():
        return Measured(table, {}, usable.grades)
    kept = replace(table, data=table.data.filter(pa.array(usable.mask)), first_row=0)
    return Measured(kept, usable.left_out, None if usable.grades is None else usable.grades[usable.mask])


def _require_rows(mask: NDArray[np.bool_], table: Table, rule: str) -> None:
    if not mask.any():
        raise DataError(f"{table.name}: {rule} leaves none of its {len(mask):,} rows. Loosen it, or remove it.")


def _weights(table: Table, column: str) -> NDArray[np.float64]:
    if column not in table.data.column_names:
        return np.ones(table.data.num_rows)
    values = pc.cast(values_of(table.data, column), pa.float64()).to_numpy(zero_copy_only=False)
    return np.nan_to_num(np.asarray(values, np.float64), nan=1.0)
