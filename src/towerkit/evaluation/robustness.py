"""Robustness: how the figures fall as one group of columns is lost, or mixed up, in more and more rows.

A curve per group: the same rows are measured again with the group's columns taken away (blank) from a share of them, or exchanged
among that share (permuted: the values are real ones, of another row, which is harder than nothing). The rows that lose a
group are drawn in one order, so those at a quarter are among those at a half, and two models lose the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from towerkit.core.errors import SpecError
from towerkit.core.random import generator
from towerkit.data.splits import Rows
from towerkit.data.table import Table, require_columns
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.intervals import Interval

Loss = Literal["blank", "permute"]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the rows that lose a group."""


@dataclass(frozen=True)
class Curve:
    """The figures of one group's loss."""

    columns: tuple[str, ...]
    loss: Loss
    shares: tuple[float, ...]
    metrics: tuple[Mapping[str, Interval], ...]
    """At each share."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        each = zip(self.shares, self.metrics, strict=True)
        told = [{"share": share, "metrics": {name: one.as_dict() for name, one in m.items()}} for share, m in each]
        return {"columns": list(self.columns), "loss": self.loss, "curve": told}


def robustness(
    measure: Callable[[Table], Evaluation],
    table: Table,
    groups: Mapping[str, Sequence[str]],
    *,
    shares: Sequence[float] = SHARES,
    loss: Loss = "blank",
    seed: int = 0,
) -> dict[str, Curve]:
    """Measure a model again and again while it loses one group of columns at a time.

    Args:
        measure: Raw rows to figures.
        table: Rows that the model has not learned from.
        groups: Name -> columns that are lost together.
        shares: Of the rows, each from 0 to 1.
        loss: ``blank`` leaves nothing, ``permute`` the values of another row.
        seed: Draws which rows lose the group, and whose values they get.

    Raises:
        SpecError: If a share is none.
        DataError: If a column is missing.
    """
    wrong = [share for share in shares if not 0.0 <= share <= 1.0]
    if wrong:
        raise SpecError(f"A share of rows lies in 0 to 1; received {wrong[0]}.")
    whole = measure(table).metrics if 0.0 in shares else {}
    found = {}
    for name, columns in groups.items():
        require_columns(columns, table.data.column_names, table.name)
        each = [measure(damaged(table, columns, share, loss, seed)).metrics if share else whole for share in shares]
        found[name] = Curve(tuple(columns), loss, tuple(shares), tuple(each))
    return found


def damaged(table: Table, columns: Sequence[str], share: float, loss: Loss, seed: int = 0) -> Table:
    """Rows of which a share has lost some columns.

    Args:
        table: The rows.
        columns: Lost together: exchanged values are those of one other row.
        share: Of the rows, rounded to whole ones.
        loss: As of :func:`robustness`.
        seed: Draws the rows.

    Example:
        >>> rows = Table(pa.table({"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}), "rows")
        >>> damaged(rows, ["a"], 1.0, "blank").data.to_pydict()
        {'a': [None, None, None, None], 'b': [5, 6, 7, 8]}
    """
    order = generator(seed, "robustness").permutation(table.data.num_rows)
    lost = np.sort(order[: round(share * len(order))])
    if loss == "permute":
        source = np.arange(len(order))
        source[lost] = generator(seed, "robustness", "values").permutation(lost)
    data = table.data
    for name in columns:
        place, values = data.column_names.index(name), data.column(name).combine_chunks()
        changed = values.take(pa.array(source)) if loss == "permute" else values.take(_without(lost, len(order)))
        data = data.set_column(place, data.schema.field(name).with_nullable(True), changed)
    return replace(table, data=data)


def _without(lost: Rows, num_rows: int) -> pa.Array:
    """Row numbers, null where the row is lost; taking a null gives a null."""
    gone = np.zeros(num_rows, bool)
    gone[lost] = True
    return pa.array(np.arange(num_rows), mask=gone)
