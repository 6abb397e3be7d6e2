"""Batches and their ragged columns.

Invariants:
- ``Bag.take`` gives the bags of any rows, repeated and empty ones included, as a plain loop does;
- ``joined`` puts one column behind another, and taking from it is taking from either;
- ``take`` slices every column, and the original keeps its values;
- ``spread`` gives the values and the gradient of plain indexing, and with two threads always the same bits.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.data.batch import Bag, Batch, dense, joined, spread, take

ROWS = st.lists(st.lists(st.tuples(st.integers(0, 99), st.sampled_from([0.5, 1.0, 2.0])), max_size=4), max_size=6)


def bag_of(rows: list[list[tuple[int, float]]]) -> Bag:
    entries = [entry for row in rows for entry in row]
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row))
    codes = torch.tensor([code for code, _ in entries], dtype=torch.int64)
    return Bag(codes, torch.tensor(offsets), torch.tensor([weight for _, weight in entries], dtype=torch.float32))


def rows_of(bag: Bag) -> list[list[tuple[int, float]]]:
    ends = bag.offsets.tolist()
    spans = [slice(start, end) for start, end in pairwise(ends)]
    return [list(zip(bag.codes[span].tolist(), bag.weights[span].tolist(), strict=True)) for span in spans]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.data())
def test_bags_of_any_rows(rows: list[list[tuple[int, float]]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    taken = bag_of(rows).take(torch.tensor(wanted, dtype=torch.int64))
    assert rows_of(taken) == [rows[row] for row in wanted]
    assert len(taken) == len(wanted)
    assert taken.is_empty.tolist() == [not rows[row] for row in wanted]


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_one_bag_column_behind_another(
    first: list[list[tuple[int, float]]], second: list[list[tuple[int, float]]]
) -> None:
    both = joined(bag_of(first), bag_of(second))
    assert isinstance(both, Bag)
    assert rows_of(both) == first + second


def test_one_tensor_column_behind_another() -> None:
    both = joined(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
    assert isinstance(both, torch.Tensor)
    assert both.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_taking_rows_of_all_columns() -> None:
    columns = {"id": torch.tensor([5, 6, 7]), "text": bag_of([[(1, 1.0)], [], [(2, 1.0), (3, 0.5)]])}
    taken = take(columns, torch.tensor([2, 0, 2]))
    assert dense(taken, "id").tolist() == [7, 5, 7]
    text = taken["text"]
    assert isinstance(text, Bag)
    assert rows_of(text) == [[(2, 1.0), (3, 0.5)], [(1, 1.0)], [(2, 1.0), (3, 0.5)]]
    dense(taken, "id")[0] = 0
    assert dense(columns, "id").tolist() == [5, 6, 7]


def test_a_ragged_column_is_not_dense() -> None:
    with pytest.raises(AssertionError, match="the column 'text' is ragged"):
        dense({"text": bag_of([[]])}, "text")


def test_a_batch_counts_its_examples_not_its_distinct_rows() -> None:
    batch = Batch(columns={"user": {"id": torch.tensor([4])}}, index={"user": torch.tensor([0, 0, 0])})
    assert len(batch) == 3


@pytest.mark.parametrize("shape", [(40,), (10, 4)])
def test_spread_is_indexing(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 7, shape, generator=generator)
    pull = torch.randn(*shape, 3, generator=generator)
    rows = [torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2)]
    found, expected = spread(rows[0], index), rows[1][index]
    assert torch.equal(found, expected)
    for given_rows, values in zip(rows, (found, expected), strict=True):
        (values * pull).sum().backward()
        assert given_rows.grad is not None
    torch.testing.assert_close(rows[0].grad, rows[1].grad)


def test_spread_adds_in_one_order_whatever_the_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    index, pull = torch.randint(0, 500, (20_000,), generator=generator), torch.randn(20_000, 64, generator=generator)
    threads, gradients = torch.get_num_threads(), []
    try:
        for number in (1, 2, 2, 2, 2):
            torch.set_num_threads(number)
            rows = torch.zeros(500, 64, requires_grad=True)
            (spread(rows, index) * pull).sum().backward()
            assert rows.grad is not None
            gradients.append(rows.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)
