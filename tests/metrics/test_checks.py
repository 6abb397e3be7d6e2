"""What may come into a metric of predictions.

Pinned here: good values come back in the type that the formulas need, at the very edges of what is allowed; each refusal is of its
own class, and tells the rule, the first bad place, the value there and how many there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from towerkit.core.errors import DataError, ShapeError, SpecError, TowerkitError
from towerkit.metrics.checks import (
    check_kind,
    checked_codes,
    checked_label_probabilities,
    checked_label_table,
    checked_numbers,
    checked_probabilities,
    checked_share,
    checked_thresholds,
    checked_weight,
)


def test_good_values_come_back_as_the_formulas_need_them() -> None:
    codes = checked_codes("truth", np.array([0, 2, 1], np.int8), 3, rows=3)
    assert codes.dtype == np.int64 and codes.tolist() == [0, 2, 1]
    assert checked_codes("truth", [True, False]).tolist() == [1, 0]
    assert checked_weight(None, 2).tolist() == [1.0, 1.0]
    assert checked_weight([0, 2], 2).tolist() == [0.0, 2.0]
    assert checked_probabilities([[0, 1], [0.5, 0.5]]).dtype == np.float64
    assert checked_share([0, 1], 2).tolist() == [0.0, 1.0]
    table = checked_label_table([[True], [False]])
    assert table.dtype == np.int8 and table.tolist() == [[1], [0]]
    assert checked_label_probabilities([[0, 1]], (1, 2)).tolist() == [[0.0, 1.0]]
    assert (
        checked_numbers("truth", [[1], [2]], rows=2).tolist() == checked_numbers("truth", [1, 2]).tolist() == [1.0, 2.0]
    )
    check_kind("ordinal")


def test_sums_of_probabilities_may_round_by_a_thousandth_and_no_more() -> None:
    for off in (-0.0009, 0.0009):
        assert checked_probabilities([[0.5, 0.5 + off]]).shape == (1, 2)
        assert checked_probabilities([[1.0 + max(off, 0.0), 0.0]]).shape == (1, 2)
        with pytest.raises(DataError, match=rf"\(sum {1 + 2 * off:.6g}; 1 such rows\)"):
            checked_probabilities([[0.5, 0.5 + 2 * off]])


def test_one_probability_may_round_beyond_1_as_far_as_their_sum() -> None:
    assert checked_probabilities([[1.001, 0.0]]).tolist() == [[1.001, 0.0]]
    assert checked_probabilities([[1.0005, 0.0]]).tolist() == [[1.0005, 0.0]]
    with pytest.raises(DataError, match=r"got \[1\.0015, -0\.001\] in row 0"):
        checked_probabilities([[1.0015, -0.001]])
    with pytest.raises(DataError, match=r"got \[1\.0015, 0\.0\] in row 0"):
        checked_probabilities([[1.0015, 0.0]])


def test_a_threshold_is_spread_over_rows_and_labels() -> None:
    assert checked_thresholds(0.25, (3,)).tolist() == [0.25] * 3
    assert checked_thresholds([0.0, 1.0], (2, 2)).tolist() == [[0.0, 1.0]] * 2
    assert checked_thresholds([[0.1], [0.2]], (2, 1)).tolist() == [[0.1], [0.2]]


Call = Callable[[], Any]
REFUSED: list[tuple[type[TowerkitError], Call, str]] = [
    (SpecError, lambda: check_kind("binray"), "Unknown kind of task 'binray'; did you mean 'binary'? The kinds are 'binary',"),
    (SpecError, lambda: check_kind("x", ("a", "b")), "Unknown kind of task 'x'. The kinds are 'a', 'b'."),
    (
        ShapeError,
        lambda: checked_thresholds([0.1, 0.2], (3,)),
        "threshold must be one number, one for each row of (3,); got (2,).",
    ),
    (
        ShapeError,
        lambda: checked_thresholds([0.1, 0.2], (2, 3)),
        "threshold must be one number, one for each label, or one for each row and label of (2, 3); got (2,).",
    ),
    (SpecError, lambda: checked_thresholds([0.5, -0.25], (2,)), "a probability in [0, 1], got -0.25."),
    (SpecError, lambda: checked_thresholds(math.nan, (2,)), "a probability in [0, 1], got nan."),
    (SpecError, lambda: checked_thresholds([[0.5, 1.25]], (1, 2)), "a probability in [0, 1], got 1.25."),
    (ShapeError, lambda: checked_codes("truth", [[0]]), "truth must be [rows], got (1, 1)."),
    (ShapeError, lambda: checked_codes("truth", [0], rows=2), "truth must be [rows] with 2 rows, got (1,)."),
    (ShapeError, lambda: checked_codes("truth", [[0]], rows=1), "truth must be [rows] with 1 rows, got (1, 1)."),
    (DataError, lambda: checked_codes("truth", []), "at least one row, got truth without rows."),
    (DataError, lambda: checked_codes("truth", [0.0]), "truth must hold integer class codes, got float64; encode"),
    (
        DataError,
        lambda: checked_codes("truth", [0, 3, 1, 4], 3),
        "class codes of 0 to 2, got 3 in row 1 (2 such rows).",
    ),
    (DataError, lambda: checked_codes("truth", [0, -1]), "class codes of 0 or more, got -1 in row 1 (1 such rows)."),
    (ShapeError, lambda: checked_weight([[1.0]], 1), "weight must be [rows] with 1 rows, got (1, 1)."),
    (
        DataError,
        lambda: checked_weight([1, -0.5, math.inf, math.nan], 4),
        "finite and zero or more, got -0.5 in row 1 (3 such rows).",
    ),
    (DataError, lambda: checked_weight([0, 0], 2), "weight must not be zero in all 2 rows"),
    (ShapeError, lambda: checked_probabilities([0.5]), "probabilities must be [rows, classes], got (1,); a binary"),
    (
        DataError,
        lambda: checked_probabilities([[1.0, 0.0], [1.5, -0.5], [0.5, 0.25]]),
        "sum to 1 in each row, got [1.5, -0.5] in row 1 (sum 1; 2 such rows); logits need",
    ),
    (DataError, lambda: checked_probabilities([[0.9, 0.6, -0.5]]), "got [0.9, 0.6, -0.5] in row 0 (sum 1; 1 such"),
    (ShapeError, lambda: checked_share([0.5], 2), "probabilities must be [rows] with 2 rows, got (1,); give one"),
    (
        DataError,
        lambda: checked_share([0.5, -0.5, 2.0], 3),
        "probabilities must be in 0 to 1; got -0.5 in row 1 (2 such values).",
    ),
    (ShapeError, lambda: checked_label_table([0, 1]), "truth must be [rows, labels] of a multilabel task, got (2,)."),
    (ShapeError, lambda: checked_label_table(np.zeros((2, 0), int)), "of a multilabel task, got (2, 0)."),
    (DataError, lambda: checked_label_table(np.zeros((0, 2), int)), "at least one row, got truth without rows."),
    (DataError, lambda: checked_label_table([[0.0]]), "truth must hold 0 or 1 for each label, got float64; encode"),
    (
        DataError,
        lambda: checked_label_table([[0, 1], [1, -1], [2, 0]]),
        "truth must be 0 or 1 for each label; got -1 in row 1, label 1 (2 such values).",
    ),
    (
        ShapeError,
        lambda: checked_label_probabilities([[0.5]], (1, 2)),
        "probabilities must be [rows, labels] as truth is, (1, 2); got (1, 1).",
    ),
    (
        DataError,
        lambda: checked_label_probabilities([[0.5, 1.5]], (1, 2)),
        "in 0 to 1 for each label; logits need a sigmoid first; got 1.5 in row 0, label 1 (1 such values).",
    ),
    (ShapeError, lambda: checked_numbers("truth", [[1.0, 2.0]]), "truth must be [rows], got (1, 2)."),
    (ShapeError, lambda: checked_numbers("p", [1.0], rows=2), "p must be [rows] with 2 rows, got (1,)."),
    (ShapeError, lambda: checked_numbers("p", np.zeros((1, 1, 1)), rows=1), "p must be [rows] with 1 rows, got (1, 1, 1)."),
    (DataError, lambda: checked_numbers("truth", []), "at least one row, got truth without rows."),
    (
        DataError,
        lambda: checked_numbers("truth", [1.0, math.inf, *[math.nan] * 1_000]),
        "truth must be finite; got inf in row 1 (1,001 such values).",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "message"), REFUSED)
def test_a_refusal_tells_rule_place_and_value(kind: type[TowerkitError], call: Call, message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()
