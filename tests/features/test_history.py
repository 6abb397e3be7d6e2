"""Histories: bags of what a query met, cut from sorted events.

Invariants, each against a loop over rows:
- only events of the same query strictly before the example's time, never its own candidate, also not an earlier event of it;
  of one moment, none; without times all other events; a row that is not learned from sees all events;
- an event without a time is in no history, and an example without one has none;
- only the last ``length`` events before the example's own candidate is left out; weights fall by half per half-life of days
  or events, events of one moment alike, and sum to 1;
- the order of the rows in the file changes nothing, bit for bit; a row of a batch is the row alone;
- what is kept for serving answers as all events do; the memory is that of the events.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.data.batch import Bag
from towerkit.features.history import Events, Histories, Pairs, Reach, given_events, histories_of, moments, tie_order
from towerkit.testing.histories import assert_weights_sum_to_one

NUM_QUERIES = 4
REACHES = (Reach(3), Reach(100), Reach(2, half_life_days=0.5), Reach(100, half_life_events=1.5))


def histories(
    queries: list[int], codes: list[int], times: list[float] | None, learned: list[int], reaches: Any = REACHES
) -> Histories:
    query_keys = pa.array([f"q{n}" for n in range(1, NUM_QUERIES + 1)])
    candidate_keys = pa.array(range(1, max([1, *codes]) + 1))
    rows = np.array(queries, np.int64), np.array(codes, np.int64)
    ties = tie_order(rows[0], query_keys, np.maximum(rows[1], 1), candidate_keys)
    known = None if times is None else np.array(times, np.float64)
    return histories_of(Pairs(*rows, known, ties), np.array(learned, np.int64), reaches, NUM_QUERIES)


def rows_of(bag: Bag) -> list[list[tuple[int, float]]]:
    ends = bag.offsets.tolist()
    pairs = list(zip(bag.codes.tolist(), bag.weights.tolist(), strict=True))
    return [pairs[start:end] for start, end in pairwise(ends)]


@st.composite
def worlds(draw: Any) -> dict[str, Any]:
    size = draw(st.integers(1, 25))
    lists = {
        "queries": st.integers(1, NUM_QUERIES),
        "codes": st.integers(0, 5),
    }
    world = {name: draw(st.lists(each, min_size=size, max_size=size)) for name, each in lists.items()}
    days = st.integers(0, 6).map(lambda day: day * 43_200.0) | st.just(float("nan"))
    world["times"] = draw(st.none() | st.lists(days, min_size=size, max_size=size))
    world["learned"] = draw(st.lists(st.integers(0, size - 1), unique=True).map(sorted))
    return world


def visible(world: dict[str, Any], row: int) -> list[int]:
    """Rows before a row, by the rules; in no order."""
    queries, codes, times = world["queries"], world["codes"], world["times"]
    events = [e for e in world["learned"] if codes[e] > 0 and queries[e] == queries[row]]
    if times is None:
        return events
    if np.isnan(times[row]):
        return []
    events = [event for event in events if not np.isnan(times[event])]
    return [e for e in events if times[e] < times[row]] if row in world["learned"] and codes[row] > 0 else events


def weight(world: dict[str, Any], reach: Reach, event: int, window: list[int]) -> float:
    """How much an event counts, before weights are made to sum to 1."""
    times = world["times"]
    if times is None:
        return 1.0
    newest = max(times[other] for other in window)
    if reach.half_life_days is not None:
        return 0.5 ** ((newest - times[event]) / 86_400 / reach.half_life_days)
    if reach.half_life_events is not None:
        later = sum(times[event] < times[other] <= newest for other in visible_all(world, event))
        return 0.5 ** (later / reach.half_life_events)
    return 1.0


def visible_all(world: dict[str, Any], event: int) -> list[int]:
    same = [e for e in world["learned"] if world["codes"][e] > 0 and world["queries"][e] == world["queries"][event]]
    return [e for e in same if world["times"] is None or not np.isnan(world["times"][e])]


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_a_history_is_what_a_loop_over_the_rows_finds(world: dict[str, Any]) -> None:
    found = histories(**world)
    rows = np.arange(len(world["queries"]))
    for name, bag in found.of_examples(rows).items():
        reach = next(each for each in REACHES if each.name == name)
        assert_weights_sum_to_one(bag)
        for row, entries in enumerate(rows_of(bag)):
            before = visible(world, row)
            if world["times"] is None:
                allowed, cut = Counter(world["codes"][e] for e in before), len(before) > reach.length
                moments_kept: list[int] = before
            else:
                ordered = sorted(before, key=lambda e: world["times"][e])
                oldest = world["times"][ordered[-reach.length]] if len(ordered) >= reach.length else -np.inf
                moments_kept = [e for e in ordered if world["times"][e] >= oldest]
                allowed, cut = Counter(world["codes"][e] for e in moments_kept), len(moments_kept) > reach.length
            target = world["codes"][row]
            codes = Counter(code for code, _ in entries)
            assert target not in codes
            if cut:  # which of the tied or timeless events stay is fixed, but a loop does not know it
                assert codes <= allowed
                assert len(entries) <= reach.length
                assert len(entries) >= reach.length - allowed[target]
                continue
            window = [e for e in moments_kept if world["codes"][e] != target]
            assert codes == Counter(world["codes"][e] for e in window)
            raw = [(world["codes"][e], weight(world, reach, e, window)) for e in window]
            total = sum(value for _, value in raw)
            expected = sorted((code, value / total) for code, value in raw)
            np.testing.assert_allclose(
                np.array(sorted(entries)).reshape(-1, 2), np.array(expected).reshape(-1, 2), rtol=1e-5
            )


@settings(max_examples=40, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_in_the_file_changes_nothing(world: dict[str, Any], random: Any) -> None:
    size = len(world["queries"])
    order = list(range(size))
    random.shuffle(order)
    moved: dict[str, Any] = {
        name: None if world[name] is None else [world[name][row] for row in order]
        for name in ("queries", "codes", "times")
    }
    moved["learned"] = sorted(order.index(row) for row in world["learned"])
    one = histories(**world).of_examples(np.array(order))
    other = histories(**moved).of_examples(np.arange(size))
    for name, bag in one.items():
        for field in ("codes", "offsets", "weights"):
            assert torch.equal(getattr(bag, field), getattr(other[name], field))


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_row_of_a_batch_is_the_row_alone_and_serving_keeps_what_it_needs(world: dict[str, Any]) -> None:
    found = histories(**world)
    together = found.of_examples(np.arange(len(world["queries"])))
    kept = found.events.last(100, 3)
    assert kept.starts.shape == (5,)
    for reach in REACHES:
        entries = rows_of(together[reach.name])
        for row in range(len(entries)):
            assert rows_of(found.of_examples(np.array([row]))[reach.name]) == [entries[row]]
        everyone = np.arange(4)
        assert rows_of(kept.bag(reach, everyone)) == rows_of(found.of_queries(everyone)[reach.name])
        short = found.events.last(reach.length, 3)
        assert rows_of(short.bag(reach, everyone)) == rows_of(found.of_queries(everyone)[reach.name])


def test_by_hand() -> None:
    """Query 1 met 1, 2, 3 on days 0, 1, 2 and 4 on day 2 as well; query 2 met 1 twice."""
    day = 86_400.0
    found = histories(
        [1, 1, 1, 1, 2, 2], [1, 2, 3, 4, 1, 1], [0, day, 2 * day, 2 * day, 0, day], [0, 1, 2, 3, 4, 5],
        (Reach(9), Reach(1), Reach(9, half_life_days=1.0), Reach(9, half_life_events=1.0)),
    )  # fmt: skip
    plain, last, days, events = found.of_examples(np.arange(6)).values()
    half = [(1, 0.5), (2, 0.5)]
    assert rows_of(plain) == [[], [(1, 1.0)], half, half, [], []]
    assert rows_of(last) == [[], [(1, 1.0)], [(2, 1.0)], [(2, 1.0)], [], []]
    third = [(1, pytest.approx(1 / 3)), (2, pytest.approx(2 / 3))]
    assert rows_of(days)[2] == rows_of(events)[2] == third
    # At the cut-off: weights 1/4, 1/2, 1, 1 by days; events 3 and 4 are one moment, so 1/8, 1/4, 1, 1 by events.
    by_code = [sorted(rows_of(found.of_queries(np.array([1]))[reach.name])[0]) for reach in found.reaches[2:]]
    assert [weight for _, weight in by_code[0]] == pytest.approx([1 / 11, 2 / 11, 4 / 11, 4 / 11])
    assert [weight for _, weight in by_code[1]] == pytest.approx([1 / 19, 2 / 19, 8 / 19, 8 / 19])


def test_an_early_event_of_the_own_candidate_counts_in_the_window_and_is_left_out() -> None:
    found = histories([1, 1, 1], [7, 8, 7], [0.0, 1.0, 2.0], [0, 1, 2], (Reach(1), Reach(2)))
    one, two = found.of_examples(np.array([2])).values()
    assert rows_of(one) == rows_of(two) == [[(8, 1.0)]]
    earlier = histories([1, 1, 1], [8, 7, 7], [0.0, 1.0, 2.0], [0, 1, 2], (Reach(1),))
    assert rows_of(earlier.of_examples(np.array([2]))["history:1"]) == [[]]


def test_ten_thousand_events_are_capped_and_the_memory_is_that_of_the_events() -> None:
    size = 10_000
    found = histories([1] * size, [1 + n % 50 for n in range(size)], [float(n) for n in range(size)], list(range(size)))
    bag = found.of_examples(np.array([size - 1] * 300))["history:3"]
    assert len(bag.codes) == 300 * 3
    assert rows_of(bag)[0] == [(47, pytest.approx(1 / 3)), (48, pytest.approx(1 / 3)), (49, pytest.approx(1 / 3))]
    arrays = (found.events.codes, found.events.times, found.events.starts, found.queries, found.end, found.targets)
    assert sum(array.nbytes for array in arrays if array is not None) <= 40 * size
    assert len(found.events.last(50, NUM_QUERIES).codes) == 50
    timeless = histories([1] * size, [1 + n for n in range(size)], None, list(range(size)), (Reach(20),))
    chosen = timeless.of_queries(np.array([1]))["history:20"].codes.numpy()
    assert len(set(chosen.tolist())) == 20 and 3000 < chosen.mean() < 7000, (
        "spread over all, not the first or last keys"
    )


def test_the_choice_among_timeless_events_differs_between_queries() -> None:
    codes = list(range(1, 101))
    found = histories([1] * 100 + [2] * 100, codes * 2, None, list(range(200)), (Reach(10),))
    one, other = ({code for code, _ in row} for row in rows_of(found.of_queries(np.array([1, 2]))["history:10"]))
    assert len(one & other) < 6


def test_moments() -> None:
    starts, times = np.array([0, 0, 3, 3, 5]), np.array([1.0, 1.0, 2.0, 2.0, 2.0])
    first, behind = moments(starts, times, 5)
    assert first.tolist() == [0, 0, 2, 3, 3]
    assert behind.tolist() == [2, 2, 3, 5, 5]
    assert [place.tolist() for place in moments(np.array([0, 0]), np.array([]), 0)] == [[], []]


def test_given_histories_have_an_order_and_no_dates() -> None:
    events = given_events([np.array([5, 0, 6]), np.array([], np.int64)])
    rows = np.array([1, 2, 0])
    assert rows_of(events.bag(Reach(9, half_life_days=1.0), rows)) == [[(5, 0.5), (6, 0.5)], [], []]
    assert [w for _, w in rows_of(events.bag(Reach(9, half_life_events=1.0), rows))[0]] == pytest.approx([1 / 3, 2 / 3])
    assert rows_of(events.bag(Reach(1), rows)) == [[(6, 1.0)], [], []]
    assert isinstance(events, Events)


def test_names_of_columns_differ() -> None:
    assert [reach.name for reach in (*REACHES, Reach(3, half_life_events=0.5))] == [
        "history:3", "history:100", "history:2:0.5d", "history:100:1.5e", "history:3:0.5e",
    ]  # fmt: skip


def test_keys_of_any_type_have_an_order() -> None:
    rows = np.array([1, 2, 2])
    orders = [
        tie_order(rows, keys, rows, keys)
        for keys in (pa.array([b"\xff", b"x"]), pa.array([1, 2]), pa.array(["毛", ""]))
    ]
    assert all(order[1] == order[2] != order[0] for order in orders)
