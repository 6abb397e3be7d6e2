"""What may come into a metric of predictions: codes, labels, numbers, weights, probabilities; refused with row and value."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError, listed, nearest

ClassKind = Literal["binary", "multiclass", "ordinal"]
"""Kinds of tasks with one class per row."""
Kind = Literal["binary", "multiclass", "ordinal", "multilabel", "regression", "count"]
"""All kinds of tasks."""
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

_SUM_TOLERANCE = 1e-3  # wide enough for float16 probabilities, narrow enough to catch logits


def check_kind(kind: str, kinds: tuple[str, ...] = get_args(Kind)) -> None:
    if kind not in kinds:
        raise SpecError(f"Unknown kind of task '{kind}'{nearest(kind, kinds) or '.'} The kinds are {listed(kinds)}.")


def checked_thresholds(threshold: ArrayLike, shape: tuple[int, ...]) -> Floats:
    values = np.asarray(threshold, dtype=np.float64)
    try:
        spread = np.broadcast_to(values, shape)
    except ValueError:
        each = "one for each label, or one for each row and label" if len(shape) == 2 else "one for each row"
        raise ShapeError(f"threshold must be one number, {each} of {shape}; got {values.shape}.") from None
    bad = ~((values >= 0) & (values <= 1))  # nan fails too
    if bad.any():
        raise SpecError(f"threshold must be a probability in [0, 1], got {values[bad].ravel()[0]}.")
    return spread


def checked_codes(name: str, values: ArrayLike, num_classes: int | None = None, rows: int | None = None) -> Codes:
    codes = np.asarray(values)
    if codes.ndim != 1 or (rows is not None and len(codes) != rows):
        raise ShapeError(f"{name} must be [rows]{f' with {rows} rows' if rows is not None else ''}, got {codes.shape}.")
    if len(codes) == 0:
        raise DataError(f"A classification metric needs at least one row, got {name} without rows.")
    if codes.dtype != np.bool_ and not np.issubdtype(codes.dtype, np.integer):
        raise DataError(f"{name} must hold integer class codes, got {codes.dtype}; encode the labels first.")
    bad = (codes < 0) | (codes >= num_classes) if num_classes is not None else codes < 0
    if bad.any():
        row, range_ = int(bad.argmax()), f"0 to {num_classes - 1}" if num_classes is not None else "0 or more"
        raise DataError(
            f"{name} must hold class codes of {range_}, got {codes[row]} in row {row} ({bad.sum()} such rows)."
        )
    return codes.astype(np.int64)


def checked_weight(weight: ArrayLike | None, rows: int) -> Floats:
    if weight is None:
        return np.ones(rows)
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != (rows,):
        raise ShapeError(f"weight must be [rows] with {rows} rows, got {weights.shape}.")
    bad = ~(weights >= 0) | np.isinf(weights)  # nan fails the comparison
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"weight must be finite and zero or more, got {weights[row]} in row {row} ({bad.sum()} such rows)."
        )
    if not weights.any():
        raise DataError(f"weight must not be zero in all {rows} rows; give at least one row a positive weight.")
    return weights


def checked_probabilities(probabilities: ArrayLike) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2:
        raise ShapeError(f"probabilities must be [rows, classes], got {table.shape}; a binary task has 2 columns.")
    with np.errstate(invalid="ignore"):  # infinities that cancel are told below
        sums = table.sum(axis=1)
    bad = ~((table >= 0) & (table <= 1 + _SUM_TOLERANCE)).all(axis=1)  # nan fails the comparison
    bad |= ~(np.abs(sums - 1) <= _SUM_TOLERANCE)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"probabilities must lie in 0 to 1 and sum to 1 in each row, got {table[row].tolist()} in row {row} "
            f"(sum {sums[row]:.6g}; {bad.sum()} such rows); logits need a softmax or a sigmoid first."
        )
    return table


def checked_share(values: ArrayLike, rows: int) -> Floats:
    shares = np.asarray(values, dtype=np.float64)
    if shares.shape != (rows,):
        raise ShapeError(f"probabilities must be [rows] with {rows} rows, got {shares.shape}; give one per row.")
    refuse_bad_cells("probabilities", shares, ~((shares >= 0) & (shares <= 1)), "in 0 to 1")  # nan fails too
    return shares


def checked_label_table(truth: ArrayLike) -> NDArray[np.int8]:
    table = np.asarray(truth)
    if table.ndim != 2 or table.shape[1] < 1:
        raise ShapeError(f"truth must be [rows, labels] of a multilabel task, got {table.shape}.")
    if not len(table):
        raise DataError("A multilabel metric needs at least one row, got truth without rows.")
    if table.dtype != np.bool_ and not np.issubdtype(table.dtype, np.integer):
        raise DataError(f"truth must hold 0 or 1 for each label, got {table.dtype}; encode the labels first.")
    refuse_bad_cells("truth", table, (table != 0) & (table != 1), "0 or 1 for each label")
    return table.astype(np.int8)


def checked_label_probabilities(probabilities: ArrayLike, shape: tuple[int, ...]) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    if table.shape != shape:
        raise ShapeError(f"probabilities must be [rows, labels] as truth is, {shape}; got {table.shape}.")
    refuse_bad_cells(
        "probabilities", table, ~((table >= 0) & (table <= 1)), "in 0 to 1 for each label; logits need a sigmoid first"
    )
    return table


def checked_numbers(name: str, values: ArrayLike, rows: int | None = None) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1 or (rows is not None and len(numbers) != rows):
        raise ShapeError(
            f"{name} must be [rows]{f' with {rows} rows' if rows is not None else ''}, got {np.shape(values)}."
        )
    if not len(numbers):
        raise DataError(f"A regression metric needs at least one row, got {name} without rows.")
    refuse_bad_cells(name, numbers, ~np.isfinite(numbers), "finite")
    return numbers


def refuse_bad_cells(name: str, values: NDArray[Any], bad: NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        first = tuple(int(place) for place in np.argwhere(bad)[0])
        label = f", label {first[1]}" if len(first) == 2 else ""
        raise DataError(
            f"{name} must be {rule}; got {values[first]} in row {first[0]}{label} ({int(bad.sum()):,} such values)."
        )
