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
from towerkit.features.label_scale import Scale, Transform, label_numbers
from towerkit.features.label_sets import SetForm

TaskKind = Literal["binary", "multiclass", "ordinal", "multilabel", "regression", "count"]
_MOST_CLASSES = 1000

Truth = NDArray[Any]
"""Labels as numbers: class codes ``[rows]``, -1 where unknown; of a multilabel task zeros and ones ``[rows, labels]``, a row of
-1 where unknown; of a regression or a count the numbers themselves ``[rows]``, NaN where unknown."""


@dataclass(frozen=True)
class Labels:
    """What one label column can say: its classes, where a label's code is its place among them, or a number."""

    column: str
    kind: TaskKind
    classes: tuple[str, ...]
    """As texts; none for a number. Numbers stand in numeric order; the second class of a binary task is the positive one,
    whatever its name."""
    frequencies: tuple[float, ...] = ()
    """Share of each class among the training labels; of a multilabel task they are shares of the rows."""
    form: SetForm | None = None
    """How several labels of a row are written; of a multilabel task."""
    scale: Scale | None = None
    """The unit that a number is learned in; of a regression or a count."""

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

    @classmethod
    def fit_sets(cls, column: str, values: pa.Array, form: SetForm, min_count: int = 1) -> Labels:
        """Find the labels of which a training row may have several.

        Args:
            column: The label column.
            values: ``[rows]`` lists, or texts with a separator.
            form: How they are written.
            min_count: Labels of fewer rows are left out.

        Raises:
            DataError: If there is no label, nothing to learn, too many labels, or another separator between them.
        """
        form.check(values, column)
        rows, members = form.members(values, column)
        names, counts = _names_and_counts(rows, members)
        classes = _in_order(names.filter(pa.array(counts >= min_count)))
        if len(classes) > _MOST_CLASSES:
            raise DataError(
                f"The label column '{column}' holds {len(classes):,} labels, more than {_MOST_CLASSES:,}. Raise min_count in its "
                "head to leave rare ones out, or check its separator."
            )
        if not classes:
            few = f" in at least min_count: {min_count} rows" if len(names) else ""
            raise DataError(f"The label column '{column}' has no label{few} in the training rows; a task needs labels.")
        truth = form.encode(values, classes, column)
        known = truth[truth[:, 0] >= 0]
        if (known == known[0]).all():
            raise DataError(
                f"Every row with a value in the label column '{column}' has the same labels ({listed(classes)}) in the "
                f"{len(values):,} training rows; there is nothing to learn. If an empty value says that a row has none of "
                "them, set missing: none in its head."
            )
        return cls(column, "multilabel", classes, tuple(known.mean(axis=0, dtype=np.float64).tolist()), form)

    @classmethod
    def fit_numbers(cls, column: str, values: pa.Array, transform: Transform = "none") -> Labels:
        """Find the unit of a regression; see :meth:`Scale.fit`."""
        return cls(column, "regression", (), scale=Scale.fit(column, values, transform))

    @classmethod
    def fit_counts(cls, column: str, values: pa.Array) -> Labels:
        """Find the mean of a count; see :meth:`Scale.fit`."""
        return cls(column, "count", (), scale=Scale.fit(column, values, "count"))

    @property
    def is_number(self) -> bool:
        """Whether an answer is one number, and not a class."""
        return self.kind in ("regression", "count")

    @property
    def num_outputs(self) -> int:
        """Columns of an answer: one per class, or the one number."""
        return 1 if self.is_number else len(self.classes)

    def encode(self, values: pa.Array) -> Truth:
        """The labels as numbers, see :data:`Truth`; a class that was never seen in training is unknown.

        Raises:
            DataError: If the value of a regression or a count is no such number; names column, row and value.
        """
        if self.scale is not None:
            return label_numbers(self.column, values, self.scale.transform)
        if self.form is not None:
            return self.form.encode(values, self.classes, self.column)
        found = pc.index_in(
            as_text(_as_classes(values)), value_set=pa.array(self.classes, pa.string()), skip_nulls=True
        )
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64)

    def num_unknown(self, values: pa.Array) -> int:
        """Rows of a multilabel column with a label that no training row had; their known labels count all the same."""
        return 0 if self.form is None else self.form.num_unknown(values, self.classes, self.column)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found: dict[str, Any] = {
            "column": self.column,
            "kind": self.kind,
            "classes": list(self.classes),
            "frequencies": list(self.frequencies),
        }
        found |= {} if self.form is None else {"form": self.form.as_dict()}
        return found | ({} if self.scale is None else {"scale": self.scale.as_dict()})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Labels:
        """The inverse of :meth:`as_dict`."""
        form = SetForm(**data["form"]) if "form" in data else None
        scale = Scale.from_dict(data["scale"]) if "scale" in data else None
        return cls(data["column"], data["kind"], tuple(data["classes"]), tuple(data["frequencies"]), form, scale)


def is_known(truth: Truth) -> NDArray[np.bool_]:
    """``[rows]`` whether the row has a label.

    Example:
        >>> is_known(np.array([[0, 1], [-1, -1]])).tolist(), is_known(np.array([0.5, np.nan])).tolist()
        ([True, False], [True, False])
    """
    first = truth[:, 0] if truth.ndim == 2 else truth
    return np.asarray(first >= 0 if truth.dtype.kind == "i" else ~np.isnan(first))


def _names_and_counts(rows: NDArray[np.int64], members: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """The distinct labels, and in how many rows each stands."""
    coded = pc.dictionary_encode(members)
    codes = np.asarray(coded.indices.to_numpy(zero_copy_only=False), np.int64)
    once = np.unique(rows * max(len(coded.dictionary), 1) + codes)
    counts = np.bincount(once % max(len(coded.dictionary), 1), minlength=len(coded.dictionary))
    return coded.dictionary, counts


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
