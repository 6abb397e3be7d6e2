"""What a task predicts: the classes of a label column, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, listed, nearest
from towerkit.features.base import as_text

TaskKind = Literal["binary", "multiclass", "ordinal"]
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Labels:
    """Classes of one label column; a label's code is its place in ``classes``."""

    column: str
    kind: TaskKind
    classes: tuple[str, ...]
    """As texts. Numbers stand in numeric order; the second class of a binary task is the positive one, whatever its name."""
    frequencies: tuple[float, ...] = ()
    """Share of each class among the training labels."""

    @classmethod
    def fit(cls, column: str, kind: TaskKind, values: pa.Array, positive: str | None = None) -> Labels:
        """Find the classes among the labels of the training rows.

        Args:
            column: The label column.
            kind: Of the task.
            values: ``[rows]`` labels; null where missing.
            positive: The positive class of a binary task; the second in order when not given.

        Raises:
            DataError: If there is no label, one class only, more than the kind of task allows, or no class is called
                ``positive``.
        """
        if pa.types.is_nested(values.type):
            raise DataError(
                f"The label column '{column}' holds lists or records ({values.type}); a label is one text, number or "
                "yes-or-no per row. Make a column of each label."
            )
        known = pc.unique(values.drop_null())
        if pa.types.is_floating(known.type):
            known = pc.unique(pc.add(known.filter(pc.invert(pc.is_nan(known))), 0.0))  # 0.0 and -0.0 are one class
        classes = _in_order(known)
        if not classes:
            raise DataError(f"The label column '{column}' has no value in the training rows; a task needs labels.")
        if len(classes) == 1:
            raise DataError(
                f"The label column '{column}' holds one class only ('{classes[0]}') in the {len(values):,} training rows; "
                "there is nothing to learn. Choose another column, or more rows."
            )
        if kind == "binary" and len(classes) > 2:
            raise DataError(
                f"The label column '{column}' holds {len(classes):,} classes ({', '.join(classes[:5])}…), "
                "but its head is binary; use kind: multiclass, or ordinal if the classes have an order."
            )
        if len(classes) > _MOST_CLASSES:
            raise DataError(
                f"The label column '{column}' holds {len(classes):,} classes, more than {_MOST_CLASSES:,}; "
                "is it an id? Choose another column."
            )
        found = cls(column, kind, classes if positive is None else _positive_last(classes, positive, column))
        codes = found.encode(values)
        counts = np.bincount(codes[codes >= 0], minlength=len(classes))
        return replace(found, frequencies=tuple((counts / counts.sum()).tolist()))

    def encode(self, values: pa.Array) -> NDArray[np.int64]:
        """``[rows]`` class codes; -1 where the label is missing or was never seen in training."""
        found = pc.index_in(
            as_text(_as_classes(values)), value_set=pa.array(self.classes, pa.string()), skip_nulls=True
        )
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "column": self.column,
            "kind": self.kind,
            "classes": list(self.classes),
            "frequencies": list(self.frequencies),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Labels:
        """The inverse of :meth:`as_dict`."""
        return cls(data["column"], data["kind"], tuple(data["classes"]), tuple(data["frequencies"]))


def _as_classes(values: pa.Array) -> pa.Array:
    return pc.cast(values, pa.int8()) if pa.types.is_boolean(values.type) else values


def _positive_last(classes: tuple[str, ...], positive: str, column: str) -> tuple[str, ...]:
    spelled = {"true": "1", "false": "0"}.get(positive, positive)  # as a column of booleans has it
    name = positive if positive in classes else spelled
    if name not in classes:
        raise DataError(
            f"The label column '{column}' holds the classes {listed(classes)}, and 'positive' names '{positive}'"
            f"{nearest(positive, classes) or '.'} Write it as in the data, in quotes if it looks like a number or yes or no."
        )
    return (*(other for other in classes if other != name), name)


def _in_order(known: pa.Array) -> tuple[str, ...]:
    known = _as_classes(known)
    if pa.types.is_string(known.type):
        texts = sorted(text for text in known.to_pylist() if text != "")
        try:
            return tuple(sorted(texts, key=float))
        except ValueError:
            return tuple(texts)
    return tuple(as_text(known.take(pc.sort_indices(known))).to_pylist())
