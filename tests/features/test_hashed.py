"""Hashed columns and crosses.

Invariants:
- the hash is the same on every machine and in every version: some values are pinned;
- distinct texts do not collide in 64 bits, buckets fill evenly, and chunking does not matter;
- a cross depends on each part and their order; a missing part makes it missing;
- lists are refused.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.features import hashed
from towerkit.features.hashed import HashedSpec, text_hashes


def codes(columns: dict[str, list[object]], buckets: int = 1000) -> list[int]:
    spec = HashedSpec(columns=tuple(columns), buckets=buckets)
    rows = pa.table(columns)
    return [int(code) for code in spec.fit(rows).encode(rows)]  # type: ignore[union-attr]


def test_the_hash_is_pinned() -> None:
    found = text_hashes(pa.array(["", "a", "毛 wool"])).tolist()
    assert found == [10451216379200822465, 845687796204470260, 15694234278124610323]
    assert codes({"x": ["", "a", None]}) == [889, 414, 0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=30, unique=True))
def test_distinct_texts_do_not_collide(texts: list[str]) -> None:
    found = text_hashes(pa.array(texts))
    assert len(np.unique(found)) == len(texts)
    assert [int(text_hashes(pa.array([text]))[0]) for text in texts] == found.tolist()
    assert text_hashes(pa.array(["first", *texts])[1:]).tolist() == found.tolist()


def test_anagrams_and_zeros_do_not_collide() -> None:
    texts = ["ab", "ba", "a", "a\x00", "\x00a", "", "\x00", "\x00\x00"]
    assert len(np.unique(text_hashes(pa.array(texts)))) == len(texts)


def test_buckets_fill_evenly() -> None:
    counts = np.bincount(codes({"x": [f"user-{n}" for n in range(100_000)]}, 64), minlength=65)
    assert counts[0] == 0
    expected = 100_000 / 64
    assert (
        (counts[1:] - expected) ** 2 / expected
    ).sum() < 120  # chi-square with 63 degrees: above this once in 10,000


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array(["a", "", "bb" * 50, "ccc", "", "d" * 9, "e"])
    whole = text_hashes(texts)
    monkeypatch.setattr(hashed, "_CHUNK_BYTES", 4)
    assert text_hashes(texts).tolist() == whole.tolist()


def test_a_cross_is_its_parts_in_order() -> None:
    found = codes({"x": ["a", "a", "b", "b", "a", None, "a"], "y": ["a", "b", "a", "b", "a", "a", None]}, 10**6)
    assert found[0] == found[4]
    assert len(set(found[:4])) == 4
    assert found[5:] == [0, 0]
    assert 0 not in found[:5]
    assert codes({"x": ["ab"], "y": ["c"]}) != codes({"x": ["a"], "y": ["bc"]})


def test_lists_are_refused() -> None:
    with pytest.raises(DataError, match=r"Lists and records \(list<.*int64>\) cannot be read as texts"):
        codes({"x": [[1]]})
