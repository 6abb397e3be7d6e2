"""Segments of a ranking.

Pinned: a segment over queries has the figures of an evaluation of these queries alone; one over candidates those of an
evaluation whose held-out pairs are of these candidates alone, AUC against all negatives apart; every query and every right
answer is in one value of a segment, cold ones too; the long table behind the figures averages to them; bands hold about
equally much and keep equal counts together; what makes no segment is refused with what was received.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError, SpecError
from towerkit.data.roles import EntityTable
from towerkit.data.table import Table
from towerkit.evaluation.ranking import evaluate_ranking
from towerkit.evaluation.ranking_task import RankingTask, ranking_task
from towerkit.evaluation.result import Evaluation
from towerkit.evaluation.segments import (
    Segment,
    check_segments,
    column_segment,
    count_bands,
    entity_and_column,
    ranking_segments,
)
from towerkit.features.encoded import Catalogue
from towerkit.testing.rankers import TableRanker

ABOUT: dict[str, Any] = {"part": "test", "split": {"kind": "random"}}
KS = [2, 5]
QUERIES, KNOWN, COLD = 24, 15, 3
CITIES = ["Oslo", "Rome", None]


class World:
    """Queries with a city, candidates with a price, pairs seen and held out; a few of both sides are cold."""

    def __init__(self, seed: int, *, graded: bool = False) -> None:
        random = np.random.default_rng(seed)
        self.table = TableRanker(random.random((QUERIES + 1, KNOWN)).astype(np.float32))
        self.seen = random.random((QUERIES, KNOWN)) < 0.25
        self.seen[:2], self.seen[:, :2] = False, False  # known from a table, and cold
        self.held = random.random((QUERIES, KNOWN + COLD)) < 0.3
        self.held[:, :KNOWN] &= ~self.seen
        self.grades = random.integers(1, 4, self.held.shape).astype(np.float64) if graded else None
        keys = pa.array([f"q{n}" for n in range(QUERIES)])
        cities = pa.array([CITIES[n % 3] for n in range(QUERIES)])
        self.query = Catalogue("user", keys, QUERIES, Table(pa.table({"user": keys, "city": cities}), "users.csv"))
        keys = pa.array([f"c{n}" for n in range(KNOWN + COLD)])
        prices = pa.array([float(n) if n % 5 else None for n in range(KNOWN + COLD)])
        self.candidate = Catalogue("item", keys, KNOWN, Table(pa.table({"item": keys, "price": prices}), "items.csv"))

    def task(self, held: NDArray[np.bool_]) -> RankingTask:
        """What these held-out pairs ask."""
        owner, candidates = np.nonzero(held)
        seen = np.zeros((QUERIES + 1, KNOWN + COLD + 1), np.float32)
        seen[1:, 1 : KNOWN + 1] = self.seen
        keys = self.query.keys.take(pa.array(owner)), self.candidate.keys.take(pa.array(candidates))
        grades = None if self.grades is None else self.grades[owner, candidates]
        return ranking_task(self.query, self.candidate, csr_array(seen), *keys, grades=grades)

    def segments(self, *names: str) -> list[Segment]:
        """Over the known candidates, as a trained model has them."""
        known = pa.array(np.arange(KNOWN))
        table = Table(self.candidate.table.data.take(known), "items.csv")
        candidate = Catalogue("item", self.candidate.keys.take(known), KNOWN, table)
        return ranking_segments(names, self.query, candidate, csr_array(self.seen), ("user", "item"))

    def evaluate(self, held: NDArray[np.bool_], *names: str) -> Evaluation:
        """Figures of the held-out pairs, with segments."""
        return evaluate_ranking(self.table, self.task(held), KS, segments=self.segments(*names), **ABOUT)


ALL = ("cold_query", "cold_candidate", "activity", "popularity", "user.city", "item.price")


@given(seed=st.integers(0, 10_000), graded=st.booleans())
def test_a_segment_over_queries_is_an_evaluation_of_these_queries(seed: int, graded: bool) -> None:
    world = World(seed, graded=graded)
    cold = ~world.seen.any(axis=1)
    rows: dict[str, dict[str, NDArray[np.bool_]]] = {
        "user.city": {str(city or "(missing)"): np.arange(QUERIES) % 3 == n for n, city in enumerate(CITIES)},
        "cold_query": {"cold": cold, "warm": ~cold},
    }
    found = world.evaluate(world.held, *rows)
    for segment, values in rows.items():
        for value, chosen in values.items():
            held = world.held & chosen[:, None]
            if not held.any():
                assert value not in found.segments[segment]
                continue
            alone = world.evaluate(held)
            for name, interval in found.segments[segment][value].items():
                assert interval.value == pytest.approx(alone.metrics[name].value, abs=1e-12), (segment, value, name)
                assert interval.n == alone.protocol["queries"]


@given(seed=st.integers(0, 10_000), graded=st.booleans())
def test_a_segment_over_candidates_is_an_evaluation_of_their_pairs(seed: int, graded: bool) -> None:
    world = World(seed, graded=graded)
    found = world.evaluate(world.held, "cold_candidate")
    cold = np.append(~world.seen.any(axis=0), [True] * COLD)
    for value, chosen in (("cold", cold), ("warm", ~cold)):
        if not (world.held & chosen).any():
            continue
        alone = world.evaluate(world.held & chosen)
        for name, interval in found.segments["cold_candidate"][value].items():
            if name == "auc":  # alone, right answers of the other value would be wrong ones
                continue
            assert interval.value == pytest.approx(alone.metrics[name].value, abs=1e-12), (value, name)
            assert interval.n == alone.protocol["queries"]
        assert not any(name.startswith(("novelty", "coverage")) for name in found.segments["cold_candidate"][value])


def test_auc_of_a_segment_is_against_the_candidates_that_are_right_for_nobody() -> None:
    world = World(3)
    found = world.evaluate(world.held, "cold_candidate")
    cold = np.append(~world.seen.any(axis=0), [True] * COLD)
    aucs = []
    for query in range(QUERIES):
        right = world.held[query] & ~cold
        negative = ~world.held[query, :KNOWN] & ~world.seen[query]
        if right.any():
            scores = world.table.table[query + 1]
            shares = [(scores[c] > scores[negative]).mean() for c in np.flatnonzero(right)]
            aucs.append(np.mean(shares))
    assert found.segments["cold_candidate"]["warm"]["auc"].value == pytest.approx(np.mean(aucs), abs=1e-12)


@given(seed=st.integers(0, 10_000))
def test_values_divide_queries_and_right_answers_and_the_long_table_averages_to_them(seed: int) -> None:
    world = World(seed)
    found = world.evaluate(world.held, *ALL)
    assert list(found.segments) == list(ALL)
    num_queries = found.protocol["queries"]
    for segment in ("cold_query", "activity", "user.city"):
        assert sum(next(iter(v.values())).n for v in found.segments[segment].values()) == num_queries, segment
    long = found.details["segments"]
    assert long.column_names[:3] == ["segment", "value", "query"]
    rows = long.to_pylist()
    for segment, values in found.segments.items():
        for value, metrics in values.items():
            own = [row for row in rows if row["segment"] == segment and row["value"] == value]
            for name, interval in metrics.items():
                assert len(own) == interval.n
                assert np.mean([row[name] for row in own]) == pytest.approx(interval.value, abs=1e-12)
    # So are its right answers; a segment of queries has no part of them.
    asked = {row["query"]: 0 for row in rows}
    for row in rows:
        assert (row["positives"] is None) == (row["segment"] in ("cold_query", "activity", "user.city"))
        asked[row["query"]] += row["positives"] if row["segment"] == "popularity" else 0
    held = world.held
    assert asked == {f"q{n}": int(held[n].sum()) for n in np.flatnonzero(held.any(axis=1))}
    # Hits of a query at k, summed over the values of a segment of candidates, are those of the whole.
    whole = {row["query"]: row["precision@5"] for row in found.details["ranking"].to_pylist()}
    for segment in ("cold_candidate", "popularity", "item.price"):
        sums = dict.fromkeys(whole, 0.0)
        for row in rows:
            if row["segment"] == segment:
                sums[row["query"]] += row["precision@5"]
        assert sums == pytest.approx(whole)


def test_a_query_or_candidate_that_training_never_saw_has_a_value_of_its_own() -> None:
    world = World(0)
    for segment in world.segments(*ALL):
        wanted = "cold" if segment.name.startswith("cold") else "0" if "." not in segment.name else "(missing)"
        assert segment.values[segment.codes[0]] == wanted, segment.name
        assert len(segment.codes) == (QUERIES if segment.side == "query" else KNOWN) + 1


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.booleans())
def test_bands_keep_equal_counts_together_and_follow_their_order(given_counts: list[int], by_count: bool) -> None:
    counts = np.array(given_counts)
    names, codes = count_bands(counts, counts.astype(float) if by_count else np.ones(len(counts)))
    assert names[0] == "0" and len(names) <= 4
    assert ((codes == 0) == (counts == 0)).all()
    for low, high in zip(counts, codes, strict=True):
        assert (codes[counts == low] == high).all()
    order = np.argsort(counts, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    assert set(codes[counts > 0]) == set(range(1, len(names))), "no band is empty"


def test_bands_hold_about_equally_much() -> None:
    counts = np.arange(1, 301)
    names, codes = count_bands(counts, np.ones(300))
    assert names == ("0", "1 to 100", "101 to 200", "201 or more")
    by_pairs = count_bands(counts, counts.astype(float))[1]
    held = np.bincount(by_pairs, counts)[1:] / counts.sum()
    assert np.abs(held - 1 / 3).max() < 0.01, "of the training pairs, each band has a third"
    assert np.bincount(codes).tolist() == [0, 100, 100, 100]


def test_columns_as_segments() -> None:
    years = pa.table({"year": [1990 + n % 4 for n in range(20)], "new": [n % 2 == 0 for n in range(20)]})
    assert column_segment(years, "year", "films.csv").values == ("1990", "1991", "1992", "1993", "(missing)")
    assert column_segment(years, "new", "films.csv").values == ("false", "true", "(missing)")
    many = pa.table({"price": pa.array([*np.linspace(-1, 1, 40), None])})
    valued = column_segment(many, "price", "films.csv")
    assert len(valued.values) == 5 and valued.values[-1] == "(missing)" and valued.codes[-1] == 4
    assert np.bincount(valued.codes[:-1]).tolist() == pytest.approx([10, 10, 10, 10], abs=1)
    empty = column_segment(pa.table({"price": pa.nulls(3, pa.float64())}), "price", "films.csv")
    assert empty.values == ("(missing)",) and empty.codes.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([f"t{n}" for n in range(60)]), r"users\.csv: the column 'x' has 60 different values.*may have 50"),
        (pa.array([[1, 2], [3]]), r"the column 'x' holds list values"),
        (pa.array([b"a", b"b"]), r"the column 'x' holds bytes values"),
        (pa.array(["2024-01-02", "2023-04-05"]), r"the column 'x' holds time values"),
        (None, r"users\.csv has no column 'x'.*The columns are 'y'"),
    ],
)
def test_columns_that_make_no_segment(column: pa.Array | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        column_segment(pa.table({"y": [1]} if column is None else {"x": column}), "x", "users.csv")


def test_names_that_are_no_segment() -> None:
    with pytest.raises(SpecError, match=r"'activities' is no segment of a ranking; did you mean 'activity'\?"):
        entity_and_column("activities", ("user", "item"))
    with pytest.raises(SpecError, match=r"'shop\.city' .*'item\.COLUMN'.*'user\.COLUMN'"):
        entity_and_column("shop.city", ("user", "item"))
    table = EntityTable("user", "user", Table(pa.table({"user": ["a"], "city": ["Rome"]}), "users.csv"))
    check_segments(["popularity", "user.city"], ("user", "item"), {"user": table})
    with pytest.raises(DataError, match=r"'item\.brand' needs a table of 'item', and data\.entities has 'user'"):
        check_segments(["item.brand"], ("user", "item"), {"user": table})
    with pytest.raises(DataError, match=r"no column 'cty'; did you mean 'city'\?"):
        check_segments(["user.cty"], ("user", "item"), {"user": table})
