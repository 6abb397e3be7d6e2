"""Which candidates may be answers.

Invariants:
- answers under any allow, deny, where and exclude_seen are the exact ranking of what may be an answer, by the plain twin of the
  ranker: the best k, no candidate twice, whatever the sort of question;
- there are always k answers, or a note says why there are fewer, with what each setting keeps; no note where there are enough;
- lists are keys, arrays, tables or files, of the candidates' type; unknown keys are told, and a list of nothing but them refused;
- list columns allow and deny hold for their own row only, alone as in a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.recommend.conftest import EVENTS, ITEMS, NUM_ITEMS

import towerkit as tk
from towerkit.index.ranker import candidate_tie_order, rank_reference
from towerkit.models.answer import Retriever
from towerkit.run import Run
from towerkit.trained import ranker_of

KEYS = ITEMS["item"]
CONDITIONS: dict[str | None, Any] = {
    None: lambda row: True,
    "price < 20 and kind in ['book', 'toy']": lambda row: (
        row["price"] is not None and row["price"] < 20 and row["kind"] != "lamp"
    ),
    "not kind == 'toy' or price == null": lambda row: row["kind"] != "toy" or row["price"] is None,
    "price > 1000": lambda row: False,
}


def expected(run: Run, users: list[str], k: int, may: np.ndarray, *, exclude_seen: bool) -> list[list[str]]:
    """The exact ranking: score everything, mask what may not be an answer, sort."""
    model = run.model
    assert isinstance(model, Retriever)
    rows = model.query.rows(pa.array(users))
    scores = ranker_of(model).scores(rows).copy()
    seen = model.seen[rows - 1].toarray() > 0
    scores[~may | (seen & exclude_seen)] = -np.inf
    hits = rank_reference(scores, k, None, None, candidate_tie_order(NUM_ITEMS))
    keys = model.candidate.keys.to_pylist()
    return [[keys[row] for row in found if row >= 0] for found in hits.rows]


def answers(table: pa.Table, queries: list[str]) -> list[list[str]]:
    """The answers of each query, in order; ranks must be 1, 2, 3."""
    found: list[list[str]] = [[] for _ in queries]
    for row in table.to_pylist():
        of_query = found[queries.index(row["query"])]
        of_query.append(row["item"])
        assert row["rank"] == len(of_query)
        assert row["title"] == f"Item {row['item'][1:]}"
    return found


LISTS = st.none() | st.lists(st.sampled_from(KEYS), min_size=1, max_size=30)


@given(
    allow=LISTS, deny=LISTS, where=st.sampled_from(list(CONDITIONS)), exclude_seen=st.booleans(), k=st.integers(1, 45)
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_are_the_exact_ranking_of_what_may_be_one(
    shop: Run, allow: list[str] | None, deny: list[str] | None, where: str | None, exclude_seen: bool, k: int
) -> None:
    catalogue: list[dict[str, Any]] = pa.table(ITEMS).to_pylist()
    may = np.array(
        [
            (allow is None or row["item"] in allow)
            and (deny is None or row["item"] not in deny)
            and CONDITIONS[where](row)
            for row in catalogue
        ]
    )
    users = ["u3", "u17", "u0"]
    wanted = expected(shop, users, k, may, exclude_seen=exclude_seen)
    choice: dict[str, Any] = {"k": k, "exclude_seen": exclude_seen, "allow": allow, "deny": deny, "where": where}
    by_rows = shop.recommend(rows={"user": users}, **choice)
    by_key = [shop.recommend(user, **choice) for user in users]
    assert answers(by_rows, users) == wanted
    assert [answers(table, [user])[0] for table, user in zip(by_key, users, strict=True)] == wanted
    for table, found in zip([by_rows, *by_key], [wanted, *([each] for each in wanted)], strict=True):
        is_short = any(len(each) < k for each in found)
        assert is_short == any("answers asked for" in note for note in tk.notes_of(table))


def test_why_there_are_fewer_is_told_with_what_each_setting_keeps(shop: Run) -> None:
    (note,) = tk.notes_of(shop.recommend("u3", k=50))
    assert note.startswith("Fewer than the 50 answers asked for: ") and "The catalogue has 40 candidates" in note
    assert "what a query had is left out (--include-seen, or exclude_seen=False, keeps it)" in note
    (note,) = tk.notes_of(
        shop.recommend("u3", k=9, allow=KEYS[:20], deny=KEYS[:2], where="kind == 'toy'", exclude_seen=False)
    )
    assert "allow keeps 20; deny takes away 2; where keeps 13; together they leave 6." in note and "had" not in note
    (note,) = tk.notes_of(
        shop.recommend(rows={"user": ["u3", "u4"], "deny": [KEYS[:39], None]}, k=3, exclude_seen=False)
    )
    assert note.startswith("1 of 2 queries have fewer than the 3 answers asked for, the fewest 1 (for 'u3').")
    assert "the rows have lists of their own" in note
    assert tk.notes_of(shop.recommend("u3", k=3)) == []


def test_a_text_that_no_row_has_is_told(shop: Run) -> None:
    notes = tk.notes_of(shop.recommend("u3", k=3, where="kind in ['toy', 'Lamp'] and kind != 'car'"))
    assert notes == ["where: no row has 'Lamp' in 'kind'; did you mean 'lamp'?"]


def test_lists_are_keys_arrays_tables_or_files(shop: Run, tmp_path: Path) -> None:
    keys = ["i3", "i5", "i8"]
    pyarrow.parquet.write_table(pa.table({"item": keys, "stock": [1, 2, 3]}), tmp_path / "stock.parquet")
    (tmp_path / "stock.csv").write_text("item\ni3\ni5\ni8\n")
    asked = {"k": 3, "exclude_seen": False}
    wanted = shop.recommend("u3", allow=keys, **asked)
    assert set(wanted.column("item").to_pylist()) == set(keys)
    for given_list in (
        pd.Series(keys), pl.Series(keys), pd.DataFrame({"item": keys}), pl.DataFrame({"item": keys}),
        tuple(keys), set(keys), np.array(keys), pa.array(keys), pa.chunked_array([keys]), {"item": keys},
        [{"item": key} for key in keys], pa.table({"item": keys}), tmp_path / "stock.parquet", str(tmp_path / "stock.csv"),
    ):  # fmt: skip
        assert shop.recommend("u3", allow=given_list, **asked).equals(wanted)
        denied = shop.recommend("u3", deny=given_list, k=40, exclude_seen=False)
        assert set(denied.column("item").to_pylist()) == set(KEYS) - set(keys)


def test_lists_that_cannot_be_used_are_refused_or_told(shop: Run, tmp_path: Path) -> None:
    (tmp_path / "bare.csv").write_text("i3\ni5\n")
    with pytest.raises(
        tk.DataError, match=r"allow: .*bare\.csv needs the column 'item' with keys.*columns are 'i3'\. The first"
    ):
        shop.recommend("u3", allow=tmp_path / "bare.csv")
    with pytest.raises(
        tk.DataError, match=r"allow: none of its 2 keys is known, for example 'x1' is not among the 40 known"
    ):
        shop.recommend("u3", allow=["x1", "x2"])
    with pytest.raises(
        tk.DataError, match=r"deny: none of its 1 keys is known, for example 'i 3'.*'i3' is, which differs by"
    ):
        shop.recommend("u3", deny=["i 3"])
    (note,) = tk.notes_of(shop.recommend("u3", k=1, allow=["i1", "i2", "i3", "i4", "i5", "j9"]))
    assert note.startswith("allow: 1 of its 6 keys are unknown, such as 'j9', not among the 40 known candidates")
    with pytest.raises(tk.DataError, match="there is no column 'prise'; did you mean 'price'"):
        shop.recommend("u3", where="prise < 3")


def test_lists_of_a_row_hold_for_that_row(shop: Run) -> None:
    rows = pa.table(
        {
            "user": ["u3", "u4", "u5", "u6"],
            "allow": [["i1", "i2", "nothing"], None, [], None],
            "deny": [["i2"], ["i7", "i8"], None, None],
        }
    )
    found = shop.recommend(rows=rows, k=40, exclude_seen=False)
    each = answers(found, rows.column("user").to_pylist())
    assert each[0] == ["i1"] and each[2] == []
    assert set(each[1]) == set(KEYS) - {"i7", "i8"} and set(each[3]) == set(KEYS)
    for place, user in enumerate(rows.column("user").to_pylist()):
        alone = shop.recommend(rows=rows.slice(place, 1), k=40, exclude_seen=False)
        assert answers(alone, [user]) == [each[place]]
    chosen = shop.recommend(rows=rows, k=40, exclude_seen=False, where="kind == 'toy'", deny=["i4"])
    assert answers(chosen, rows.column("user").to_pylist())[0] == ["i1"]
    assert "i4" not in chosen.column("item").to_pylist()
    with pytest.raises(tk.DataError, match=r"row 1: the column 'deny' holds string such as 'i1\|i2'; it is a list"):
        shop.recommend(rows={"user": ["u3"], "deny": ["i1|i2"]})


def test_rows_with_lists_are_ranked_in_chunks(shop: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"user": [f"u{n}" for n in range(50)], "allow": [[f"i{n % 40}", f"i{(n + 7) % 40}"] for n in range(50)]}
    whole = shop.recommend(rows=rows, k=2)
    monkeypatch.setattr("towerkit.recommend.answers._MASK_ENTRIES", 1)
    assert shop.recommend(rows=rows, k=2).equals(whole)


def test_choosing_works_for_a_history_too(tmp_path: Path) -> None:
    items = {"table": ITEMS, "title": "name"}
    data = tk.read(EVENTS, query="user", candidate="item", entities={"item": items})
    ids = {"kind": "id", "dim": 4}
    model = {"kind": "two_tower", "query": ids, "candidate": ids}
    run = tk.fit(
        {"model": model, "update": {"kind": "one_backprop"}, "training": {"epochs": 1}}, data, run=tmp_path / "run"
    )
    found = run.recommend(history=["i1", "i4"], k=5, where="kind == 'toy'", deny=["i7"]).column("item").to_pylist()
    assert len(found) == 5 and not {"i1", "i4", "i7"} & set(found)
    assert {ITEMS["kind"][KEYS.index(key)] for key in found} == {"toy"}
