"""Recommendations to queries with a history.

Invariants:
- a known key is answered from all its stored events, through a Run as before saving; a history in their order answers alike;
- ``history`` answers a new query of any update whose query side reads histories; the id part is the unknown one, or the mean
  of the candidates where ids move by aggregation;
- a list column ``history`` of raw rows goes before what is stored under the key, is excluded as seen, and leaves unknown
  candidates out; a row without one has the stored events; a column of another kind is refused with its type; a new row with
  a history is answered as that history is, of whatever model;
- a stranger without a history gets the answer for nobody in particular; a candidate without a training row adds nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.data.shop import shop_table
from towerkit.models.answer import Retriever
from towerkit.run import Run

ID = {"kind": "id", "dim": 6}
COLD = "p9999"
QUERIES: dict[str, dict[str, Any]] = {
    "history": {"kind": "history", "dim": 6},
    "recent": {"kind": "history", "dim": 6, "half_life_events": 2, "length": 4},
    "own": {"kind": "history", "dim": 6, "of": "own", "half_life_days": 20},
    "id_history": {"kind": "id_history", "dim": 6, "gate": 0.4},
}


def fitted(folder: Path, query: dict[str, Any], update: str = "two_backprop", *, refit: bool = True) -> Run:
    data = tk.read(
        "builtin:shop-small/purchases",
        query="user_id",
        candidate="product_id",
        time="time",
        entities={"product_id": with_cold_product()},
        split={"kind": "time", "validation": 0.1, "test": 0.1},
    )
    spec = {
        "model": {"kind": "two_tower", "query": query, "candidate": ID},
        "update": {"kind": update},
        "training": {"epochs": 2, "batch_size": 256, "refit": refit, "optimizer": {"kind": "adam", "lr": 0.02}},
    }
    return tk.fit(spec, data, run=folder)


def with_cold_product() -> pa.Table:
    products = shop_table("products", size="small").select(["product_id", "title"])
    return pa.concat_tables([products, pa.table({"product_id": [COLD], "title": ["never sold"]}).cast(products.schema)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    found = {name: fitted(folder / name, query) for name, query in QUERIES.items()}
    found["averaged ids"] = fitted(folder / "averaged ids", ID, "one_backprop")
    found["averaged"] = fitted(folder / "averaged", QUERIES["id_history"], "one_backprop")
    found["ids"] = fitted(folder / "ids", ID)
    return found


def stored(run: Run, key: str) -> list[str]:
    """The candidates that a query met, oldest first."""
    model = run.model
    assert isinstance(model, Retriever) and model.events is not None
    row = int(model.query.rows(pa.array([key]))[0])
    codes = model.events.codes[model.events.starts[row] : model.events.starts[row + 1]]
    keys = model.candidate.keys.to_pylist()
    return [keys[int(np.flatnonzero(model.candidate_codes == code)[0]) - 1] for code in codes]


def known_keys(run: Run) -> list[str]:
    """Three queries with stored events."""
    model = run.model
    assert isinstance(model, Retriever)
    return [key for key in model.query.keys.to_pylist() if stored(run, key)][:3]


def answers(table: pa.Table) -> list[tuple[str, float]]:
    return [
        (key, pytest.approx(score, abs=1e-5))
        for key, score in zip(*(table.column(c).to_pylist() for c in ("product_id", "score")), strict=True)
    ]


@pytest.mark.parametrize("name", ["history", "recent"])
def test_a_known_key_is_answered_as_its_history_is(runs: dict[str, Run], name: str) -> None:
    run = tk.load(runs[name].path)
    for key in known_keys(run):
        met = stored(run, key)
        known = run.recommend(key, k=7, exclude_seen=False)
        assert answers(known) == answers(run.recommend(history=met, k=7, exclude_seen=False))
        assert answers(known) != answers(run.recommend("nobody", k=7, exclude_seen=False))


def test_the_stored_events_are_the_last_of_what_was_learned_from(tmp_path: Path, runs: dict[str, Run]) -> None:
    purchases = tk.read(
        "builtin:shop-small/purchases", query="user_id", candidate="product_id", time="time"
    ).examples.data
    for refit, share in ((True, 0.9), (False, 0.8)):
        run = fitted(tmp_path / str(refit), QUERIES["recent"], refit=refit)
        rows = purchases.sort_by("time").to_pylist()
        cut = sorted(row["time"] for row in rows)[round(len(rows) * share)]
        for key in known_keys(run):
            mine = [row["product_id"] for row in rows if row["user_id"] == key and row["time"] < cut]
            assert stored(run, key) == mine[-4:]
    assert (runs["history"].path / "model" / "history.safetensors").is_file()
    assert not (runs["ids"].path / "model" / "history.safetensors").exists()


def test_the_order_of_a_history_matters_only_through_recency(runs: dict[str, Run]) -> None:
    one, other = ["p0001", "p0002", "p0003"], ["p0003", "p0002", "p0001"]
    for name, matters in (("history", False), ("recent", True), ("own", False)):
        first, second = (answers(runs[name].recommend(history=met, k=5)) for met in (one, other))
        assert (first != second) == matters, name


def test_a_history_with_ids_that_learn_by_gradient_has_the_unknown_id(runs: dict[str, Run]) -> None:
    for name, uses_mean in (("id_history", False), ("averaged", True)):
        model = runs[name].model
        assert isinstance(model, Retriever)
        places = model.candidate.rows(pa.array(["p0001", "p0005"]))
        (tower,) = model.model.query.id_towers().values()
        items = model.candidate_vectors[places].mean(axis=0)
        unknown = tower.table[0].detach().numpy()
        expected = 0.4 * (items if uses_mean else unknown) + 0.6 * items
        np.testing.assert_allclose(model.vector_of_history(places), expected, atol=1e-5)


def test_rows_bring_their_own_history(runs: dict[str, Run]) -> None:
    run = runs["history"]
    known = known_keys(run)[0]
    met = ["p0001", "p0002"]
    rows = pa.table(
        {
            "user_id": [known, "stranger", known, "stranger", None],
            "history": [met, [*met, "never heard"], None, None, []],
        }
    )
    found = run.recommend(rows=rows, k=6)
    each = [found.slice(start, 6) for start in range(0, 30, 6)]
    by_history = run.recommend(history=met, k=6)
    assert answers(each[1]) == answers(by_history)
    assert answers(each[2]) == answers(run.recommend(known, k=6))
    assert answers(each[3]) == answers(each[4]) == answers(run.recommend("nobody", k=6))
    assert not set(each[0].column("product_id").to_pylist()) & {*met, *stored(run, known)}
    everything = run.recommend(rows=rows.slice(1, 1), k=1000).column("product_id").to_pylist()
    assert not set(everything) & set(met)
    assert len(everything) == 81 - len(met)
    assert len(run.recommend(rows=rows.slice(1, 1), k=1000, exclude_seen=False)) == 81
    cold = [part.column("cold").to_pylist()[0] for part in each]
    assert cold == [False, False, False, True, True]
    alone = pa.concat_tables([run.recommend(rows=rows.slice(row, 1), k=6) for row in range(5)])
    assert alone.drop_columns(["score"]).equals(found.drop_columns(["score"]))
    large = rows.set_column(1, "history", rows.column("history").cast(pa.large_list(pa.string())))
    assert run.recommend(rows=large, k=6).equals(found)


@pytest.mark.parametrize("name", ["history", "recent", "own", "id_history", "averaged", "averaged ids"])
def test_a_new_row_with_a_history_is_answered_as_that_history(runs: dict[str, Run], name: str) -> None:
    run, met = runs[name], [["p0001", "p0002"], ["p0007"], ["p0003", "p0004", "p0003"]]
    found = run.recommend(rows=pa.table({"history": met}), k=6)
    for place, one in enumerate(met):
        assert answers(found.slice(6 * place, 6)) == answers(run.recommend(history=one, k=6))


@pytest.mark.parametrize("name", ["averaged", "averaged ids"])
def test_a_given_history_takes_the_place_of_an_averaged_id(runs: dict[str, Run], name: str) -> None:
    run, met = runs[name], ["p0001", "p0002"]
    known = "u0001"
    rows = pa.table({"user_id": [known, known, "stranger"], "history": [met, None, []]})
    found = run.recommend(rows=rows, k=6, exclude_seen=False)
    assert answers(found.slice(0, 6)) == answers(run.recommend(history=met, k=6, exclude_seen=False))
    assert answers(found.slice(6, 6)) == answers(run.recommend(known, k=6, exclude_seen=False))
    assert answers(found.slice(12, 6)) == answers(run.recommend("nobody", k=6, exclude_seen=False))


def test_rows_without_lists_are_refused_and_models_without_histories_do_not_look(runs: dict[str, Run]) -> None:
    rows = pa.table({"user_id": ["u0001"], "history": ["p0001|p0002"]})
    with pytest.raises(tk.DataError, match=r"the column 'history' holds string such as 'p0001\|p0002'"):
        runs["history"].recommend(rows=rows)
    assert answers(runs["ids"].recommend(rows=rows, k=3)) == answers(runs["ids"].recommend("u0001", k=3))


def test_a_candidate_without_a_training_row_adds_nothing(runs: dict[str, Run]) -> None:
    run = runs["history"]
    assert answers(run.recommend(history=["p0001", COLD], k=5)) == answers(run.recommend(history=["p0001"], k=5))
    nobody = run.recommend("nobody", k=5, exclude_seen=False)
    assert answers(run.recommend(history=[COLD], k=5, exclude_seen=False)) == answers(nobody)
    with pytest.raises(tk.DataError, match=r"The history names 'p000x', which is not among"):
        run.recommend(history=["p000x"])


def test_a_model_of_ids_by_gradient_is_told_what_would_do(runs: dict[str, Run]) -> None:
    with pytest.raises(tk.RunError, match=r"or a query tower \{kind: history\}"):
        runs["ids"].recommend(history=["p0001"])
