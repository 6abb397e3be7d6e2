"""Aggregates of a key's past at each row's moment.

Invariants:
- count, days since, mean and most frequent value are those of a few lines that look at the events one by one, windows included;
- events at or after a row's moment, and those of other keys, may be anything or nothing: no bit of the row's feature changes;
- a row is read alike alone, and the file's order of events does not matter;
- a feature rebuilt from its state, and a Run opened again, answer alike; raw rows are answered from the stored log;
- a batch of a two-tower reads each example as of its own time, and afterwards a query as of the end of what was learned from;
- nothing is learned from held-out rows (the leak harness);
- a training that goes on looks back on both logs, an event of both once;
- what cannot be looked back on is told by name.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.api import fit, read
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.features.aggregates import AggregateFeature, AggregateSpec, continued
from towerkit.features.base import State
from towerkit.features.vocabulary import Vocabulary
from towerkit.models.answer import Retriever
from towerkit.run import Run
from towerkit.spec import ModelingSpec
from towerkit.testing.leaks import assert_no_leak
from towerkit.training.recipes import PredictionRecipe, RetrievalRecipe
from towerkit.training.state import seeded_torch

DAY = 86_400.0
EVENT = st.tuples(
    st.sampled_from("abc"), st.integers(0, 12), st.one_of(st.none(), st.integers(-5, 5)), st.sampled_from("xyz")
)
ROW = st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.one_of(st.none(), st.integers(0, 12)))
SPECS = [
    AggregateSpec(what="count", by="who", at="when"),
    AggregateSpec(what="count", by="who", at="when", days=3),
    AggregateSpec(what="days_since", by="who", at="when"),
    AggregateSpec(what="mean", by="who", at="when", of="amount"),
    AggregateSpec(what="mean", by="who", at="when", of="amount", days=3),
    AggregateSpec(what="top", by="who", at="when", of="sort"),
    AggregateSpec(what="top", by="who", at="when", of="sort", days=3),
]
kinds = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.what}-{spec.days}")


def log_of(events: list[Any], spec: AggregateSpec) -> dict[str, Any]:
    who, when, amount, sort = (list(each) for each in zip(*events, strict=True)) if events else ([], [], [], [])
    values = pa.array(amount, pa.float64()) if spec.what == "mean" else pa.array(sort, pa.string())
    return {"keys": pa.array(who, pa.string()), "times": np.array(when, float) * DAY, "values": values}


def table_of(rows: list[Any]) -> pa.Table:
    who, when = (list(each) for each in zip(*rows, strict=True)) if rows else ([], [])
    seconds = [None if each is None else each * DAY for each in when]
    return pa.table({"who": pa.array(who, pa.string()), "when": pa.array(seconds, pa.float64())})


def fitted(spec: AggregateSpec, events: list[Any], rows: list[Any]) -> AggregateFeature:
    table = table_of([row for row in rows if row[1] is not None])
    times = np.asarray(table.column("when").to_numpy(), float)
    return spec.fit_on(log_of(events, spec), table.column("who").combine_chunks(), times)


def looked_up(spec: AggregateSpec, events: list[Any], row: Any) -> Any:
    """One event after the other."""
    who, when = row
    if who is None or when is None:
        return None
    before = [e for e in events if e[0] == who and e[1] < when and (spec.days is None or e[1] >= when - spec.days)]
    before.sort(key=lambda e: (e[1], e[3]))
    if spec.what == "count":
        return float(len(before))
    if spec.what == "days_since":
        return float(when - before[-1][1]) if before else None
    if spec.what == "mean":
        amounts = [e[2] for e in before if e[2] is not None]
        return sum(amounts) / len(amounts) if amounts else None
    counts = Counter(e[3] for e in before)
    last = {e[3]: place for place, e in enumerate(before)}
    return max(counts, key=lambda sort: (counts[sort], last[sort])) if counts else None


@kinds
@settings(max_examples=25, deadline=None)
@given(events=st.lists(EVENT, max_size=12), rows=st.lists(ROW, min_size=1, max_size=6))
def test_it_is_what_a_look_at_each_event_says(spec: AggregateSpec, events: list[Any], rows: list[Any]) -> None:
    feature = fitted(spec, events, rows)
    wanted = [looked_up(spec, events, row) for row in rows]
    if spec.what == "top":
        codes = feature.encode(table_of(rows)).tolist()
        classes = [None, *feature.state().values["classes"]]
        assert [classes[code] for code in codes] == wanted
        return
    aggregate = feature.aggregate
    found = aggregate.number(aggregate.stretches(table_of(rows)))
    encoded = feature.encode(table_of(rows))
    assert encoded[:, 1].tolist() == [float(each is None) for each in wanted]
    for value, want in zip(found, wanted, strict=True):
        assert want is None or value == pytest.approx(want, rel=1e-12)


@kinds
@settings(max_examples=25, deadline=None)
@given(data=st.data(), events=st.lists(EVENT, min_size=1, max_size=12), rows=st.lists(ROW, min_size=1, max_size=6))
def test_what_comes_later_changes_no_bit(
    spec: AggregateSpec, data: st.DataObject, events: list[Any], rows: list[Any]
) -> None:
    asked = data.draw(st.sampled_from(rows))
    who, when = asked
    before = [e for e in events if when is not None and e[0] == who and e[1] < when]
    later = data.draw(st.lists(EVENT, max_size=12))
    others = [e for e in later if when is None or e[0] != who or e[1] >= when]
    feature = fitted(spec, events, rows)
    changed = feature.aggregate.past.of(
        *(
            (log["keys"], log["times"], None if spec.what in ("count", "days_since") else _values(spec, log, feature))
            for log in [log_of(data.draw(st.permutations(before + others)), spec)]
        ).__next__()
    )
    after = type(feature)(**{**vars(feature), "aggregate": type(feature.aggregate)(spec, changed)})
    one, other = feature.encode(table_of([asked])), after.encode(table_of([asked]))
    assert torch.equal(one, other)
    together = feature.encode(table_of(rows))
    assert torch.equal(together[rows.index(asked)], one[0])


def _values(spec: AggregateSpec, log: dict[str, Any], feature: AggregateFeature) -> Any:
    if spec.what == "mean":
        return np.asarray(log["values"].to_numpy(zero_copy_only=False), float)
    known = pa.array(feature.state().values["classes"], pa.string())
    return Vocabulary(known).encode(log["values"])


@kinds
@settings(max_examples=25, deadline=None)
@given(events=st.lists(EVENT, max_size=10), rows=st.lists(ROW, min_size=1, max_size=5))
def test_a_feature_rebuilt_from_its_state_encodes_alike(
    spec: AggregateSpec, events: list[Any], rows: list[Any]
) -> None:
    feature = fitted(spec, events, rows)
    state = feature.state()
    values = json.loads(json.dumps(dict(state.values)))
    again = spec.restore(State(values, state.vocabulary))
    assert again.name == feature.name
    assert torch.equal(again.encode(table_of(rows)), feature.encode(table_of(rows)))
    assert feature.sample() == {"who": None, "when": "2024-01-01T00:00:00"}


@kinds
@settings(max_examples=25, deadline=None)
@given(one=st.lists(EVENT, max_size=8), two=st.lists(EVENT, max_size=8), rows=st.lists(ROW, min_size=1, max_size=5))
def test_a_training_that_goes_on_looks_back_on_both_logs(
    spec: AggregateSpec, one: list[Any], two: list[Any], rows: list[Any]
) -> None:
    distinct = list(
        {
            (e[0], e[1], e[2] if spec.what == "mean" else None, e[3] if spec.what == "top" else "x"): e
            for e in [*one, *two]
        }.values()
    )
    old, new = fitted(spec, one, rows), fitted(spec, two, rows)
    found = continued(old, new)
    if spec.what != "top":
        aggregate = found.aggregate
        number = aggregate.number(aggregate.stretches(table_of(rows)))
        for value, row in zip(number, rows, strict=True):
            want = looked_up(spec, distinct, row)
            assert want is None or value == pytest.approx(want, rel=1e-9)
    assert found.state().values == old.state().values


CUSTOMERS = [f"c{n}" for n in range(40)]


def orders(seed: int = 0) -> dict[str, list[Any]]:
    draw = np.random.default_rng(seed)
    who = [c for n, c in enumerate(CUSTOMERS) for _ in range(n % 8)]
    return {
        "customer": who,
        "at": draw.integers(0, 100, len(who)) * DAY,
        "amount": draw.normal(size=len(who)).round(2),
        "sort": draw.choice(["tea", "cake"], len(who)),
    }


def visits(seed: int = 1, num: int = 400) -> Dataset:
    """Whoever has ordered three times or more buys."""
    draw, log = np.random.default_rng(seed), orders()
    who = draw.choice(CUSTOMERS, num)
    when = draw.integers(1, 110, num) * DAY
    counts = [
        sum(c == w and a < t for c, a in zip(log["customer"], log["at"], strict=True))
        for w, t in zip(who, when, strict=True)
    ]
    return read(
        {"customer": who, "when": when, "noise": draw.normal(size=num), "buys": (np.array(counts) >= 3).astype(int)},
        time="when",
        split={"kind": "random", "validation": 0.2, "test": 0.2},
        logs={"orders": {"table": log, "key": "customer", "time": "at"}},
    )


def back(what: str, **more: Any) -> dict[str, Any]:
    return {"aggregate": what, "log": "orders", "by": "customer", "at": "when", **more}


def model(*columns: Any) -> dict[str, Any]:
    tower = {"kind": "table", "columns": [*columns, "noise"], "layers": [8], "dim": 8}
    return {
        "model": {
            "kind": "tower_model",
            "towers": {"past": tower},
            "heads": {"buys": {"kind": "binary", "column": "buys"}},
        },
        "training": {"epochs": 20, "optimizer": {"kind": "adam", "lr": 0.02}, "batch_size": 64},
    }


def test_a_table_task_is_answered_from_the_log(tmp_path: Path) -> None:
    columns = back("count"), back("mean", of="amount"), back("top", of="sort"), back("days_since", days=50)
    run = fit(model(*columns), visits(), run=tmp_path / "run")
    assert run.evaluation.metrics["accuracy"].value > 0.9
    alone = fit(model(), visits(), run=tmp_path / "alone")
    assert run.evaluation.metrics["accuracy"].value > alone.evaluation.metrics["accuracy"].value + 0.1
    rows = {"customer": ["c7", "c7", "new", None], "when": [0.0, 200 * DAY, 200 * DAY, 5.0], "noise": [0.0] * 4}
    said = run.predict(rows)["buys=1"].to_pylist()
    assert said[0] < 0.5 < said[1] and said[2] < 0.5
    assert Run.load(tmp_path / "run").predict(rows)["buys=1"].to_pylist() == said
    with pytest.raises(DataError, match="when"):
        run.predict({"customer": ["c7"], "noise": [0.0]})


def test_held_out_rows_reach_nothing_that_is_learned() -> None:
    own = {"aggregate": "mean", "of": "noise", "by": "customer", "at": "when"}
    spec = model(back("count"), back("top", of="sort"), own)
    spec["training"]["epochs"] = 1
    assert_no_leak(parse(ModelingSpec, spec, "test"), visits(num=120))


def baskets() -> Dataset:
    draw = np.random.default_rng(4)
    rows = [
        (u, int(i), int(t))
        for u in range(12)
        for i, t in zip(draw.permutation(10)[:6], draw.permutation(30)[:6] * 1, strict=True)
    ]
    items = {"item": list(range(10)), "price": [float(i) for i in range(10)], "shelf": [f"s{i % 3}" for i in range(10)]}
    table = {"user": [u for u, _, _ in rows], "item": [i for _, i, _ in rows], "day": [t * DAY for _, _, t in rows]}
    return read(
        table,
        query="user",
        candidate="item",
        time="day",
        entities={"item": items},
        split={"kind": "time", "validation": 0.1, "test": 0.2},
    )


PAST = [
    {"aggregate": "count", "by": "user"},
    {"aggregate": "days_since", "by": "user"},
    {"aggregate": "mean", "of": "price", "by": "user"},
    {"aggregate": "top", "of": "shelf", "by": "user"},
]
RETRIEVAL: dict[str, Any] = {
    "model": {
        "kind": "two_tower",
        "query": {
            "towers": {
                "id": {"kind": "id", "dim": 4},
                "past": {"kind": "table", "columns": PAST, "layers": [], "dim": 4},
            }
        },
        "candidate": {"kind": "id", "dim": 4},
    },
    "objective": {"negatives": [{"kind": "uniform", "count": 2}]},
    "training": {"epochs": 1, "batch_size": 8},
    "evaluation": {"k": [3]},
}


def test_an_example_is_read_as_of_its_time_and_a_query_as_of_the_end() -> None:
    data, spec = baskets(), parse(ModelingSpec, RETRIEVAL, "test")
    recipe = _recipe(spec)
    rows = data.parts.train
    with seeded_torch(0):
        encoded = recipe.prepare(data, rows, spec.training).encoded
    batch = encoded.batch(rows)
    names = [name for name in batch.columns["user"] if name.startswith("aggregate:")]
    assert len(names) == 4
    feature = next(each.feature for each in encoded.encoder.features["user"] if each.feature.name.endswith("count:"))
    users, days = (np.array(data.examples.data.column(name)) for name in ("user", "day"))
    mean, deviation = (feature.state().values[name] for name in ("mean", "deviation"))

    def scaled(count: int) -> float:
        return float(np.float32(np.clip((np.log1p(count) - mean) / deviation, -10, 10)))

    for place, row in enumerate(rows):
        count = sum(users[other] == users[row] and days[other] < days[row] for other in rows)
        assert batch.columns["user"][feature.name][place, 0].item() == pytest.approx(scaled(count), abs=1e-6)
    whole = encoded.columns("user", torch.tensor([1, 0]))[feature.name]
    first = encoded.catalogues["user"].keys[0].as_py()
    assert whole[0, 0].item() == pytest.approx(scaled(sum(users[other] == first for other in rows)), abs=1e-6)
    assert whole[1].tolist() == [0.0, 1.0]


def _recipe(spec: ModelingSpec) -> RetrievalRecipe:
    from towerkit.outcomes.recipes import recipe_of

    found = recipe_of(spec, baskets())
    assert isinstance(found, RetrievalRecipe) and not isinstance(found, PredictionRecipe)
    return found


def test_a_retrieval_answers_alike_when_opened_again_and_leaks_nothing(tmp_path: Path) -> None:
    run = fit(RETRIEVAL, baskets(), run=tmp_path / "run")
    again = Run.load(tmp_path / "run")
    assert isinstance(again.model, Retriever) and isinstance(run.model, Retriever)
    assert np.array_equal(again.model.query_vectors, run.model.query_vectors)
    assert again.recommend(3, k=3).equals(run.recommend(3, k=3))
    more = fit(RETRIEVAL, baskets(), run=tmp_path / "more", base=run)
    before, after = (each.model.encoder.features["user"][1].feature.state() for each in (run, more))  # type: ignore[union-attr]
    assert len(after.vocabulary.values) == len(before.vocabulary.values)  # type: ignore[union-attr]
    assert_no_leak(parse(ModelingSpec, RETRIEVAL, "test"), baskets())


def test_what_cannot_be_looked_back_on_is_told(tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, spec: dict[str, Any], data: Dataset) -> None:
        with pytest.raises(error, match=match):
            fit(spec, data, run=tmp_path / "x")

    refused(SpecError, "no log 'order'.*orders", model({**back("count"), "log": "order"}), visits())
    refused(DataError, "no column 'amounts'.*amount", model(back("mean", of="amounts")), visits())
    refused(SpecError, "'mean' wants a column of the log in 'of'; received of: None", model(back("mean")), visits())
    refused(SpecError, "'count' wants no column; received of: 'amount'", model(back("count", of="amount")), visits())
    refused(SpecError, "'count' of customer looks back from the moment", model({**back("count"), "at": None}), visits())
    label = {"aggregate": "mean", "of": "buys", "by": "customer", "at": "when"}
    refused(DataError, "'buys' is a label", model(label), visits())
    text = {"aggregate": "mean", "of": "sort", "log": "orders", "by": "customer", "at": "when"}
    refused(DataError, "'sort' must hold numbers", model(text), visits())
    dated = json.loads(json.dumps(RETRIEVAL))
    dated["model"]["query"]["towers"]["past"]["columns"] = [{"aggregate": "count", "by": "user", "at": "day"}]
    refused(SpecError, "is one of the query.*received at: day", dated, baskets())
    other = json.loads(json.dumps(RETRIEVAL))
    other["model"]["candidate"] = {"kind": "table", "columns": [{"aggregate": "count", "by": "item"}], "dim": 4}
    refused(SpecError, "read of 'item', whose rows have no moment", other, baskets())
    wrong = json.loads(json.dumps(RETRIEVAL))
    wrong["model"]["query"]["towers"]["past"]["columns"] = [{"aggregate": "count", "by": "item"}]
    refused(SpecError, "goes by its key 'user'; received by: item", wrong, baskets())
    with pytest.raises(DataError, match="moment"):
        read({"a": [1]}, logs={"l": {"table": {"k": [1], "moment": ["soon"]}, "key": "k", "time": "moment"}})
    with pytest.raises(DataError, match="who"):
        read({"a": [1]}, logs={"l": {"table": {"k": [1], "moment": [1]}, "key": "who", "time": "moment"}})
