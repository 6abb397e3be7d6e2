"""What people see first.

Pinned here: the one figure is NDCG at the largest k, counted as a number, else the first of AUC, accuracy, RMSE and MAE that is
there, else the first by name; each task has its own; a decision is told only where it changed something; the values of a segment
are in the order of their bands, then by name, with those in brackets last, whatever order they came in; figures stand by task,
then as people look at them, then by depth, whatever order they came in, and once each at the largest depth.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import (
    at_largest_k,
    column_order,
    decision_line,
    figure,
    headline,
    headlines,
    metric_order,
    value_place,
)


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["recall@5", "ndcg@5", "ndcg@20", "ndcg@100", "auc"], "ndcg@100"),
        (["ndcg@9", "ndcg@10"], "ndcg@10"),
        (["liked/log_loss", "liked/brier", "liked/auc", "liked/accuracy"], "liked/auc"),
        (["stars/quadratic_kappa", "stars/accuracy", "stars/mae"], "stars/accuracy"),
        (["price/mae", "price/rmse", "price/r2"], "price/rmse"),
        (["price/mae", "price/medae"], "price/mae"),
        (["tags/hamming_loss", "tags/f1_micro"], "tags/f1_micro"),
        (["b/auc", "a/auc"], "a/auc"),
        (["recall@5"], "recall@5"),
    ],
)
def test_the_one_figure(names: list[str], first: str) -> None:
    assert headline(names) == headline(names[::-1]) == headline(iter(names)) == first


def test_each_task_has_its_figure() -> None:
    names = ["stars/mae", "stars/accuracy", "a/b/auc", "a/b/f1", "liked/log_loss"]
    assert headlines(names) == ["stars/accuracy", "a/b/auc", "liked/log_loss"], "in the order of the tasks"
    assert headlines(["mrr@5", "ndcg@5", "ndcg@10"]) == ["ndcg@10"]
    assert headlines([]) == []


@pytest.mark.parametrize(
    ("about", "line"),
    [
        ({}, ""),
        ({"threshold": 0.5}, ""),
        ({"threshold": 0.5, "threshold_by": "f1", "decided_on": "80 validation rows"}, ""),
        ({"threshold": 0.25}, "threshold 0.25"),
        ({"threshold": 1 / 3, "threshold_by": "f1"}, "threshold 0.3333 (best f1)"),
        ({"threshold": [0.25, 0.125, 0.75]}, "a threshold for each label, 0.125 to 0.75"),
        ({"threshold": [0.5, 0.25], "threshold_by": "f1"}, "a threshold for each label, 0.25 to 0.5 (best f1)"),
        ({"temperature": 1.0}, "temperature 1.000"),
        ({"threshold": 0.5, "temperature": 0.75, "decided_on": "9 rows"}, "temperature 0.750, of 9 rows"),
        ({"threshold": 0.25, "temperature": 2.0}, "threshold 0.25, temperature 2.000"),
    ],
)
def test_a_decision_is_told_where_it_changed_something(about: dict[str, Any], line: str) -> None:
    assert decision_line(about) == line


ORDER = [
    "below -5", "-5 to 0", "0 to 0.5", "0.5 to 7", "7 to 1e+03", "1,500 to 20,000", "20,000 or more",
    "13th street", "7up", "Oslo", "Rome", "oslo", "(missing)", "(other)",
]  # fmt: skip


@given(st.permutations(ORDER))
def test_values_are_in_the_order_of_their_bands_then_by_name(values: list[str]) -> None:
    assert sorted(values, key=value_place) == ORDER


def test_bands_that_begin_alike_are_in_the_order_of_their_texts() -> None:
    assert value_place("7 or more") < value_place("7 to 9") < value_place("7.5 to 9")
    assert value_place("2024") == (0, 2024.0, "2024"), "a number alone is a band of its own"


FIGURES = ["ndcg@5", "ndcg@20", "auc", "recall@20", "tags/f1_micro", "tags/zeal", "tags/zest"]


@given(st.permutations(FIGURES))
def test_figures_are_in_the_order_people_look_at_them(names: list[str]) -> None:
    assert sorted(names, key=metric_order) == FIGURES
    assert sorted(at_largest_k(names), key=metric_order) == [name for name in FIGURES if name != "ndcg@5"]


@given(st.permutations(["popularity", "item_knn", "member image", "member text"]))
def test_baselines_stand_before_members(names: list[str]) -> None:
    assert sorted(names, key=column_order) == ["popularity", "item_knn", "member image", "member text"]


def test_a_figure_says_when_it_is_undefined_or_has_no_interval() -> None:
    unknown = float("nan")
    assert figure(None) == ""
    assert figure(Interval(unknown, 0.0, 0.0, 0)) == "undefined"
    assert figure(Interval(0.5, unknown, unknown, 9)) == "0.5000"
    assert figure(Interval(0.5, 0.25, 0.75, 9)) == "0.5000 [0.2500, 0.7500]"
