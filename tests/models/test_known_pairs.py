"""The trained pairs of a model that answers (`towerkit.models.answer.known_pairs`).

Invariant: they are the pairs of known queries and candidates, in order, whether unknown ones were trained too or not, and
whether the pairs stood in order or not; the pairs that were given stay as they are.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from towerkit.models.answer import known_pairs


@given(st.data())
@pytest.mark.parametrize("unknown", [False, True])
def test_known_pairs(unknown: bool, data: st.DataObject) -> None:
    queries, candidates = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
    shape = queries + 1 + data.draw(st.integers(0, 2)), candidates + 1 + data.draw(st.integers(0, 2)) * unknown
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    whole = draw.random(shape) < 0.5
    whole[:, 0] &= unknown
    seen = csr_array(whole)
    if data.draw(st.booleans()):  # not in order
        for start, end in zip(seen.indptr, seen.indptr[1:], strict=False):
            seen.indices[start:end] = seen.indices[start:end][::-1].copy()
        seen.has_sorted_indices = False
    before = seen.indices.copy()
    catalogues: list[Any] = [SimpleNamespace(num_known=count) for count in (queries, candidates)]
    found = known_pairs(seen, *catalogues)
    assert found.shape == (queries, candidates) and found.has_sorted_indices
    np.testing.assert_array_equal(found.toarray(), whole[1 : queries + 1, 1 : candidates + 1])
    np.testing.assert_array_equal(seen.indices, before)
