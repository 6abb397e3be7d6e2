"""Vocabularies.

Invariants:
- the value at place ``i`` has code ``i + 1``; unknown and missing values have code 0;
- values stand in order of first appearance, each once, rare ones and nulls left out;
- a value finds its code whatever type the request wrote it in; what cannot be written in the type is unknown.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.features.vocabulary import Vocabulary, same_type

VALUES = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "ä", "007", "7"])), max_size=30)


@settings(max_examples=60, deadline=None)
@given(VALUES, VALUES, st.integers(1, 4))
def test_codes_by_first_appearance(fitted: list[str | None], asked: list[str | None], min_count: int) -> None:
    vocabulary = Vocabulary.fit(pa.array(fitted, pa.string()), min_count=min_count)
    counts = Counter(value for value in fitted if value is not None)
    known = [value for value in counts if counts[value] >= min_count]
    assert vocabulary.values.to_pylist() == known
    assert len(vocabulary) == len(known) + 1
    expected = [known.index(value) + 1 if value in known else 0 for value in asked]
    codes = vocabulary.encode(pa.array(asked, pa.string()))
    assert codes.dtype == np.int64
    assert codes.tolist() == expected


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (pa.array([30, 10, 99]), [2, 1, 0]),
        (pa.array([30, 10], pa.int8()), [2, 1]),
        (pa.array([30.0, 10.5, None]), [2, 0, 0]),
        (pa.array(["30", "ten", "10.5", ""]), [2, 0, 0, 0]),
        (pa.array([None, None]), [0, 0]),
        (pa.array([[10], [30]]), [0, 0]),
        (pa.array(["10", "30"]).dictionary_encode(), [1, 2]),
        (pa.array([10**18, 30]), [0, 2]),
    ],
)
def test_a_request_may_write_keys_in_another_type(values: Any, codes: list[int]) -> None:
    assert Vocabulary(pa.array([10, 30], pa.int32())).encode(values).tolist() == codes


def test_numbers_are_found_in_a_vocabulary_of_text() -> None:
    vocabulary = Vocabulary(pa.array(["7", "007", "7.5", "true"]))
    assert vocabulary.encode(pa.array([7, 8])).tolist() == [1, 0]
    assert vocabulary.encode(pa.array([7.5, 7.0])).tolist() == [3, 1]
    assert vocabulary.encode(pa.array([True])).tolist() == [4]


def test_what_cannot_be_written_becomes_missing() -> None:
    assert same_type(pa.array([1.0, 1.5, 300.0]), pa.int8()).to_pylist() == [1, None, None]
    same = pa.array([1, 2])
    assert same_type(same, pa.int64()) is same
