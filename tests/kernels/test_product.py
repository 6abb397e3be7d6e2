"""The product behind scores.

Pinned: it is the product to float32 rounding; with rows in multiples of 16 a score's bits depend neither on the number of rows, nor
on the other candidates, nor on how the candidates lie in memory, nor on the number of threads; sides may be parts and transposes of
other arrays, as those of gradients are; without the faster library, and for empty sides, it is PyTorch's own.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from towerkit.kernels.product import product


def sides(dim: int, queries: int = 96, candidates: int = 1008) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(dim)
    return torch.randn(queries, dim, generator=draw), torch.randn(candidates, dim, generator=draw)


@pytest.mark.parametrize("dim", [1, 3, 64, 100, 257, 512, 1024])
def test_bits_depend_on_neither_rows_nor_candidates_nor_layout_nor_threads(dim: int) -> None:
    query, candidate = sides(dim)
    whole = product(query, candidate)
    wanted = query.double() @ candidate.double().T
    assert (whole - wanted).abs().max() <= 4e-7 * dim**0.5 * query.norm(dim=1).max() * candidate.norm(dim=1).max()
    some = torch.randperm(len(candidate), generator=torch.Generator().manual_seed(0))[:80]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for rows in (16, 32, 80, 96):
                for layout in (candidate, candidate.T.contiguous().T):
                    assert torch.equal(product(query[:rows], layout), whole[:rows])
                assert torch.equal(product(query[:rows], candidate[some]), whole[:rows, some])
    finally:
        torch.set_num_threads(before)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.booleans(), st.booleans())
def test_sides_may_be_parts_and_transposes(rows: int, inner: int, columns: int, turned: bool, other: bool) -> None:
    draw = torch.Generator().manual_seed(rows * inner + columns)
    whole = torch.randn(inner + 3, rows, generator=draw).T if turned else torch.randn(rows, inner + 3, generator=draw)
    right = torch.randn(inner, columns, generator=draw).T if other else torch.randn(columns, inner, generator=draw)
    left = whole[:, 1 : 1 + inner]
    torch.testing.assert_close(product(left, right), (left.double() @ right.double().T).float(), rtol=1e-5, atol=1e-5)


def test_without_the_faster_library_and_for_empty_sides_it_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    query, candidate = sides(8)
    for empty in (product(query[:0], candidate), product(query, candidate[:0]).T):
        assert empty.shape[0] == 0
    assert product(query[:, :0], candidate[:, :0]).abs().max() == 0
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert torch.equal(product(query, candidate), query @ candidate.T)
