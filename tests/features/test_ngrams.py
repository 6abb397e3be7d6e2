"""Hashed word n-grams.

Invariants:
- codes are a pure function of the text: the same in another process whose string hashes are salted otherwise;
- each distinct code once, ascending, within the buckets; n-grams do not cross from one column to the next;
- the same words in another column are other n-grams, unless the columns are read together; upper and lower case are the same;
- missing and empty texts give an empty bag, never NaN; weights are finite and positive;
- a huge text costs no more than its first ``MAX_CHARACTERS``; lone surrogates, emoji and null characters are fine;
- the codes are those of a plain loop over n-grams, so that a stored Run keeps its meaning;
- a row is encoded alike alone and among others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.core.random import random_bits
from towerkit.data.batch import Bag
from towerkit.features.base import State
from towerkit.features.ngrams import MAX_CHARACTERS, NgramsFeature, NgramsSpec, hashed_ngrams, word_hash

TEXTS = st.one_of(st.none(), st.text(max_size=40))
BIG = 2**31


def bag(feature: NgramsFeature, **columns: list[str | None]) -> Bag:
    found = feature.encode(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}))
    assert isinstance(found, Bag)
    return found


def codes(*parts: str | None, buckets: int = BIG, longest: int = 2) -> list[int]:
    return hashed_ngrams(parts, buckets, longest).tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60) | st.none(), min_size=1, max_size=3), st.integers(2, 10**6), st.integers(1, 4))
def test_codes_are_distinct_ascending_and_within_the_buckets(
    parts: list[str | None], buckets: int, longest: int
) -> None:
    found = hashed_ngrams(tuple(parts), buckets, longest)
    assert found.dtype == np.int64
    assert (np.diff(found) > 0).all()
    assert ((found >= 0) & (found < buckets)).all()


def plain_codes(parts: list[str | None], buckets: int, longest: int) -> list[int]:
    """One n-gram after the other: the hash of its words, each mixed into that of the words before."""
    found = set()
    for place, text in enumerate(parts):
        words = [word_hash(word) for word in re.findall(r"\w+|[!?]", (text or "").lower())]
        for length in range(1, longest + 1):
            for start in range(len(words) - length + 1):
                gram = np.array([words[start]], np.uint64)
                for number in range(1, length):
                    gram = random_bits(number + 1, gram ^ np.uint64(words[start + number] >> 1))
                found.add(int(random_bits(place, gram)[0]) % buckets)
    return sorted(found)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(" aAb!ß", max_size=12) | st.none(), min_size=1, max_size=3), st.integers(1, 4))
def test_the_codes_are_those_of_a_plain_loop(parts: list[str | None], longest: int) -> None:
    assert hashed_ngrams(tuple(parts), 10**6, longest).tolist() == plain_codes(parts, 10**6, longest)


def test_the_same_in_another_process() -> None:
    program = "from towerkit.features.ngrams import hashed_ngrams as h; print(h(('Soft wool, ÄRMEL 毛', 'x y'), 65536, 3).tolist())"
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    expected = codes("Soft wool, ÄRMEL 毛", "x y", buckets=65536, longest=3)
    assert run.stdout.strip() == str(expected)
    assert len(expected) == 4 + 3 + 2 + 2 + 1


def test_the_number_of_ngrams() -> None:
    assert len(codes("a b c", longest=1)) == 3
    assert len(codes("a b c", longest=2)) == 5
    assert len(codes("a b c", longest=5)) == 6
    assert len(codes("a b", "c")) == 4  # no "b c"
    assert codes("a b c", longest=1) != codes("a b d", longest=1)


def test_order_matters_for_pairs_and_not_for_words() -> None:
    assert codes("good not bad", longest=1) == codes("bad not good", longest=1)
    assert codes("good not bad") != codes("bad not good")


def test_columns_are_told_apart_and_cases_are_not() -> None:
    assert set(codes("wool", None)).isdisjoint(codes(None, "wool"))
    assert codes("SOFT Wool") == codes("soft wool")


def test_columns_read_together() -> None:
    apart, together = (
        NgramsSpec(columns=("a", "b"), buckets=BIG, longest=2, together=flag).restore(State({}))
        for flag in (False, True)
    )
    assert apart.name != together.name
    values = {"a": ["soft wool", None], "b": ["wool", "soft wool"]}
    first, second = bag(apart, **values), bag(together, **values)
    assert np.diff(first.offsets.numpy()).tolist() == [4, 3]
    assert np.diff(second.offsets.numpy()).tolist() == [3, 3]  # the second wool is the first one
    assert (
        second.take(second.offsets.new_tensor([0])).codes.tolist()
        == second.take(second.offsets.new_tensor([1])).codes.tolist()
    )
    one = bag(NgramsSpec(columns=("q",), buckets=BIG, longest=2).restore(State({})), q=["soft wool"])
    assert one.codes.tolist() == second.codes.tolist()[:3]  # and a single column has the same words


@pytest.mark.parametrize("text", ["\ud800 lone", "naïve 🙂 e\u0301", "a\x00b", "İstanbul ẞ", "x" * 5_000])
def test_odd_texts(text: str) -> None:
    assert codes(text) == codes(text)
    assert len(codes(text)) >= 1


def test_a_huge_text_is_cut() -> None:
    text = "wool soft " * 300_000
    assert codes(text) == codes(text[:MAX_CHARACTERS])
    assert codes("x " * (MAX_CHARACTERS // 2) + "tail") == codes("x " * (MAX_CHARACTERS // 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_a_row_alone_and_among_others(rows: list[tuple[str | None, str | None]]) -> None:
    feature = NgramsSpec(columns=("a", "b"), buckets=1000).restore(State({}))
    together = bag(feature, a=[a for a, _ in rows], b=[b for _, b in rows])
    assert len(together) == len(rows)
    for row, (a, b) in enumerate(rows):
        alone = bag(feature, a=[a], b=[b])
        span = slice(int(together.offsets[row]), int(together.offsets[row + 1]))
        assert together.codes[span].tolist() == alone.codes.tolist()
        assert together.weights[span].tolist() == alone.weights.tolist()
    assert bool((together.weights > 0).all() and together.weights.isfinite().all())


def test_no_text_is_an_empty_bag() -> None:
    feature = NgramsSpec(columns=("a",)).restore(State({}))
    found = bag(feature, a=[None, "", "...", "word"])
    assert found.is_empty.tolist() == [True, True, True, False]
    assert len(bag(feature, a=[])) == 0


def test_numbers_are_read_as_words() -> None:
    feature = NgramsSpec(columns=("a",), buckets=BIG).restore(State({}))
    number = feature.encode(pa.table({"a": [42]}))
    assert isinstance(number, Bag)
    assert number.codes.tolist() == codes("42")


def test_a_missing_column_is_refused_when_it_is_fitted() -> None:
    with pytest.raises(DataError, match=r"The column 'body' is missing; the table has \['title'\]"):
        NgramsSpec(columns=("title", "body")).fit(pa.table({"title": ["x"]}))
