"""Folds, as pure functions.

- k-fold, stratified, grouped and cold: every row is held out exactly once. Sizes differ by one (random), values are spread evenly
  (stratified), no group is on both sides, no fold is empty (grouped).
- Windows of time never learn from a row that is as late as one that is held out; rows of one moment are never parted.
- Of a data set: training, validation and held-out rows are disjoint, and the validation rows are cut as the held-out ones are. Rows
  of a test table given apart take no part.
- Too few rows, groups or moments, and a fold without a class, are messages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import towerkit as tk
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.crossval.folds import folds_of, resolved_plan, rows_to_divide
from towerkit.crossval.plans import grouped_folds, random_folds, stratified_folds, time_folds
from towerkit.crossval.study import plan_of
from towerkit.data.dataset import Dataset
from towerkit.data.times import times_of
from towerkit.spec import ModelingSpec

FEW = settings(max_examples=30, deadline=None)
CODES = st.lists(st.integers(0, 7), min_size=12, max_size=60).map(np.array)
IDS = {"kind": "id", "dim": 4}
TWO_TOWER = {"model": {"kind": "two_tower", "query": IDS, "candidate": IDS}}
HEAD = {"liked": {"kind": "binary", "column": "liked"}}
TASK = {"model": {"kind": "tower_model", "towers": {"age": {"kind": "table", "columns": ["age"]}}, "heads": HEAD}}


def modeling(spec: dict[str, Any]) -> ModelingSpec:
    return parse(ModelingSpec, spec, "the test")


def events(rows: int = 120, seed: int = 0, **more: Any) -> Dataset:
    random = np.random.default_rng(seed)
    table = {
        "user": [f"u{n}" for n in random.integers(0, 12, rows)],
        "item": [f"i{n}" for n in random.integers(0, 15, rows)],
        "ts": np.sort(random.integers(0, 40, rows)).astype(float),
    }
    items = {"item": [f"i{n}" for n in range(15)], "price": list(range(15))}
    settings: dict[str, Any] = {"query": "user", "candidate": "item", "time": "ts", "entities": {"item": items}}
    return tk.read(table, **{**settings, **more})


@given(rows=st.integers(5, 60), folds=st.integers(2, 5), seed=st.integers(0, 99))
@FEW
def test_random_folds_are_even(rows: int, folds: int, seed: int) -> None:
    sizes = np.bincount(random_folds(rows, folds, seed), minlength=folds)
    assert sizes.sum() == rows
    assert sizes.max() - sizes.min() <= 1


@given(codes=CODES, folds=st.integers(2, 5), seed=st.integers(0, 99))
@FEW
def test_stratified_folds_spread_each_value(codes: Any, folds: int, seed: int) -> None:
    found = stratified_folds(codes, folds, seed)
    for each in (codes >= 0, *(codes == value for value in np.unique(codes))):
        sizes = np.bincount(found[each], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


@given(codes=CODES, seed=st.integers(0, 99))
@FEW
def test_groups_are_never_parted_and_no_fold_is_empty(codes: Any, seed: int) -> None:
    folds = min(3, len(np.unique(codes)))
    if folds < 2:
        return
    found = grouped_folds(codes, folds, seed)
    assert set(found) == set(range(folds))
    assert all(len(set(found[codes == value])) == 1 for value in np.unique(codes))


@given(times=st.lists(st.integers(0, 30), min_size=10, max_size=60).map(np.array), folds=st.integers(2, 4))
@FEW
def test_windows_of_time_go_forward(times: Any, folds: int) -> None:
    if len(np.unique(times)) <= folds:
        with pytest.raises(DataError, match=rf"{folds} windows need {folds + 1} moments or more"):
            time_folds(times.astype(float), folds)
        return
    found = time_folds(times.astype(float), folds)
    assert set(found) == set(range(folds + 1))
    for stretch in range(1, folds + 1):
        assert times[found < stretch].max() < times[found >= stretch].min()


@given(kind=st.sampled_from(["random", "stratified", "grouped", "cold", "time"]), seed=st.integers(0, 20))
@FEW
def test_folds_of_a_data_set(kind: str, seed: int) -> None:
    dataset, spec = events(seed=seed), modeling(TWO_TOWER)
    plan = resolved_plan(plan_of(kind, folds=3), spec, dataset)
    found = folds_of(plan, spec, dataset, seed)
    assert len(found) == 3
    every = np.concatenate([fold.dataset.parts.test for fold in found])
    assert len(every) == len(set(every))
    if kind != "time":
        assert sorted(every) == list(range(120))
    column = {"grouped": "user", "cold": "item"}.get(kind)
    times = times_of(dataset.examples, "ts")
    for fold in found:
        parts = fold.dataset.parts
        rows = np.concatenate([parts.train, parts.validation, parts.test])
        assert len(rows) == len(set(rows))
        assert len(parts.train) > 0
        assert len(parts.validation) > 0
        if kind == "time":
            assert times[parts.train].max() < times[parts.validation].min() <= times[parts.test].min()
            assert times[parts.validation].max() < times[parts.test].min()
        if column is not None:
            keys = [
                set(dataset.labelled(column, own).to_pylist()) for own in (parts.train, parts.validation, parts.test)
            ]
            assert not keys[0] & keys[1]
            assert not (keys[0] | keys[1]) & keys[2]


def test_a_sliding_window_learns_from_its_last_stretches() -> None:
    dataset, spec = events(), modeling(TWO_TOWER)
    wide, narrow = (folds_of(plan_of("time", folds=4, learn=learn), spec, dataset, 0) for learn in (None, 1))
    assert [len(fold.dataset.parts.test) for fold in wide] == [len(fold.dataset.parts.test) for fold in narrow]
    first, last = (len(np.union1d(f.dataset.parts.train, f.dataset.parts.validation)) for f in (narrow[0], narrow[-1]))
    assert first == len(np.union1d(wide[0].dataset.parts.train, wide[0].dataset.parts.validation))
    assert last < len(wide[-1].dataset.parts.train)


def test_the_usual_plan() -> None:
    with_time, without = events(), events(time=None)
    assert resolved_plan(None, modeling(TWO_TOWER), with_time).kind == "time"
    usual = resolved_plan(None, modeling(TWO_TOWER), without)
    assert (usual.kind, getattr(usual, "column", "")) == ("stratified", "user")


def test_rows_given_apart_take_no_part_and_training_rows_are_chosen_anew() -> None:
    apart = {"user": ["u1", "u2"], "item": ["i1", "i2"], "ts": [99.0, 99.0]}
    dataset = events(test=apart, min_count={"query": 3})
    assert 120 not in rows_to_divide(dataset)
    for fold in folds_of(plan_of("random", folds=3), modeling(TWO_TOWER), dataset, 0):
        users = dataset.labelled("user", fold.dataset.parts.train).to_pylist()
        assert min(users.count(user) for user in set(users)) >= 3
        assert fold.dataset.uncut is not None
        assert len(fold.dataset.uncut.train) >= len(fold.dataset.parts.train)


def rows(labels: list[int | None]) -> Dataset:
    return tk.read({"age": list(range(len(labels))), "liked": labels}, split={"kind": "random"})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_folds(3, 5, 0), "5 folds need 5 rows or more; there are 3"),
        (lambda: grouped_folds(np.zeros(9, np.int64), 2, 0), "2 folds need 2 groups or more; there are 1"),
        (lambda: time_folds(np.array([1.0, np.nan]), 2), "1 of 2 are missing, the first in row 2"),
        (
            lambda: folds_of(plan_of("random", folds=5), modeling(TASK), rows([1] + [0] * 49), 0),
            r"fold \d of 5 (learns from|holds out) \d+ rows with the one class 0 of 'liked'.*--by stratified --column liked",
        ),
    ],
)
def test_what_does_not_suffice_is_told(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize(
    ("kind", "dataset", "spec", "message"),
    [
        ("time", {"time": None}, TWO_TOWER, "Windows of time need a time column"),
        ("cold", {"entities": {}}, TWO_TOWER, r"of 'item' nothing but the key is known.*data.entities.item"),
        ("cold", {}, TASK, "the model is a tower_model. Use --by grouped"),
        ("grouped", {"query": None, "candidate": None, "entities": {}}, TASK, "--by grouped needs --column"),
    ],
)
def test_a_plan_that_does_not_fit_is_told(
    kind: str, dataset: dict[str, Any], spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        resolved_plan(plan_of(kind), modeling(spec), events(**dataset))
    with pytest.raises(SpecError, match="unknown key 'column'"):
        plan_of("random", column="user")
