"""Answers in words.

Pinned: a class by its name with its probabilities, the positive one alone where there are two; several labels as a list in the
order of the classes, those at the threshold included, with a probability each; a number as it is; no row has columns too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.evaluation.answers import answer_columns
from towerkit.features.label_scale import Scale
from towerkit.features.labels import Labels

BINARY = Labels("y", "binary", ("no", "yes"))
CLASSES = Labels("y", "ordinal", ("1", "2", "3"))
SETS = Labels("y", "multilabel", ("a", "b", "c"))
NUMBER = Labels("y", "regression", (), scale=Scale(5.0, 2.0))


@pytest.mark.parametrize(
    ("labels", "found", "answer"),
    [
        (BINARY, [[0.5, 0.5], [0.75, 0.25]], {"t": ["yes", "no"], "t=yes": [0.5, 0.25]}),
        (CLASSES, [[0.25, 0.5, 0.25]], {"t": ["2"], "t=1": [0.25], "t=2": [0.5], "t=3": [0.25]}),
        (
            SETS,
            [[0.75, 0.25, 0.5], [0.0, 0.25, 0.125], [1.0, 1.0, 1.0]],
            {
                "t": [["a", "c"], [], ["a", "b", "c"]],
                "t=a": [0.75, 0.0, 1.0],
                "t=b": [0.25, 0.25, 1.0],
                "t=c": [0.5, 0.125, 1.0],
            },
        ),
        (NUMBER, [[12.5], [-3.0]], {"t": [12.5, -3.0]}),
    ],
)
def test_answers_in_words(labels: Labels, found: Any, answer: dict[str, Any]) -> None:
    assert pa.table(answer_columns("t", labels, np.array(found))).to_pydict() == answer


@pytest.mark.parametrize("labels", [BINARY, CLASSES, SETS, NUMBER], ids=lambda labels: labels.kind)
def test_no_row_has_columns_of_the_same_types(labels: Labels) -> None:
    some, none = (
        pa.table(answer_columns("t", labels, np.full((rows, labels.num_outputs), 0.5))).schema for rows in (2, 0)
    )
    assert some == none
