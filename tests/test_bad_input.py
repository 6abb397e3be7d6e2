"""Bad input through the Python API, from the file to the served row.

Pinned: every fault is a towerkit error that names what is needed to mend it, the file, column, row and value as far as
there are any, and the nearest right name; faults that make training pointless are told before training; what only
looks bad (a ``k`` beyond the catalogue, unseen keys, missing values) has an answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.data.writers import write_table
from towerkit.outcomes import predictions, rankings
from towerkit.run import Run

ROWS = 240
DRAW = np.random.default_rng(0)
PAIRS: dict[str, Any] = {
    "user": [f"u{n}" for n in DRAW.integers(0, 30, ROWS)],
    "item": [f"i{n}" for n in DRAW.integers(0, 20, ROWS)],
}
PEOPLE: dict[str, Any] = {
    "age": DRAW.normal(40, 10, ROWS).round(1).tolist(),
    "city": [("Rome", "Oslo", "Lima")[n] for n in DRAW.integers(0, 3, ROWS)],
    "liked": DRAW.integers(0, 2, ROWS).tolist(),
    "stars": DRAW.integers(1, 6, ROWS).tolist(),
}
ROLES = {"query": "user", "candidate": "item"}
ID = {"kind": "id", "dim": 4}
TRAINING = {"epochs": 1, "batch_size": 64}
RETRIEVAL: dict[str, Any] = {
    "model": {"kind": "two_tower", "query": ID, "candidate": ID},
    "update": {"kind": "one_backprop"},
    "training": TRAINING,
    "evaluation": {"k": [5]},
}


def prediction(
    kind: str = "binary", column: str = "liked", columns: tuple[str, ...] = ("age", "city")
) -> dict[str, Any]:
    """A tower model over the people."""
    towers = {"table": {"kind": "table", "columns": list(columns), "layers": [4]}}
    return {
        "model": {"kind": "tower_model", "towers": towers, "heads": {"task": {"kind": kind, "column": column}}},
        "training": TRAINING,
    }


def write_csv(path: Path, columns: dict[str, list[Any]], separator: str = ",") -> Path:
    """Columns as a text table; None is an empty place."""
    rows = zip(*columns.values(), strict=True)
    lines = [separator.join(columns), *(separator.join("" if v is None else str(v) for v in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def replaced(column: str, row: int, value: Any, table: dict[str, Any] = PEOPLE) -> dict[str, Any]:
    """The table with one other value."""
    values = list(table[column])
    values[row] = value
    return {**table, column: values}


def told(error: type[Exception], call: Callable[[], object], *parts: str) -> None:
    """The call raises this error and its message holds all the parts."""
    with pytest.raises(tk.TowerkitError) as caught:
        call()
    assert type(caught.value) is error, caught.value
    for part in parts:
        assert part in str(caught.value)


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained two-tower of 30 users and 20 items."""
    return tk.fit(RETRIEVAL, tk.read(PAIRS, **ROLES), run=tmp_path_factory.mktemp("runs") / "ranking")


@pytest.fixture(scope="module")
def predicting(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained tower model."""
    return tk.fit(prediction(), tk.read(PEOPLE), run=tmp_path_factory.mktemp("runs") / "predicting")


# Files


def test_a_missing_file(tmp_path: Path) -> None:
    write_csv(tmp_path / "events.csv", PAIRS)
    path = tmp_path / "events2.csv"
    spec = {**RETRIEVAL, "data": {"examples": {"path": str(path), **ROLES}}}
    told(tk.DataError, lambda: tk.fit(spec), "events2.csv", "there is no file", "did you mean 'events.csv'?")


def test_a_missing_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "events.csv", PAIRS)
    call = lambda: tk.read(path, query="usr", candidate="item")  # noqa: E731
    told(tk.DataError, call, "events.csv", "no column 'usr'", "did you mean 'user'?", "'item', 'user'")


def test_a_wrong_separator(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "events.csv", PAIRS)
    spec = {**RETRIEVAL, "data": {"examples": {"path": str(path), "separator": ";", **ROLES}}}
    told(tk.DataError, lambda: tk.fit(spec), "events.csv", "split by ';'", "set separator: ','")


def test_an_empty_file_and_a_header_without_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("user,item\n")
    told(tk.DataError, lambda: tk.read(tmp_path / "empty.csv", **ROLES), "empty.csv", "the file is empty (0 bytes")
    told(
        tk.DataError,
        lambda: tk.read(tmp_path / "header.csv", **ROLES),
        "header.csv",
        "a header but no rows ('item', 'user')",
    )


def test_a_row_that_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item\nu1,i1\nu2\n")
    told(
        tk.DataError,
        lambda: tk.read(path, **ROLES),
        "events.csv, line 3",
        "expected 2 values",
        "no value for 'item'",
        "'u2'",
    )


# Pairs


def test_one_user_or_one_item() -> None:
    one_user, one_item = {**PAIRS, "user": ["ann"] * ROWS}, {**PAIRS, "item": ["x"] * ROWS}
    told(tk.DataError, lambda: tk.read(one_user, **ROLES), "query column 'user' holds one value only ('ann')")
    told(tk.DataError, lambda: tk.read(one_item, **ROLES), "candidate column 'item' holds one value only ('x')")


def test_a_missing_key(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "events.csv", replaced("user", 3, None, PAIRS))
    told(
        tk.DataError, lambda: tk.read(path, **ROLES), "events.csv, line 5", "query column 'user' is empty (1 such rows)"
    )


@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (-1.0, "-1.0")])
def test_a_weight_that_is_no_weight(value: float, shown: str) -> None:
    table = replaced("weight", 7, value, {**PAIRS, "weight": [1.0] * ROWS})
    told(
        tk.DataError, lambda: tk.read(table, weight="weight", **ROLES), "row 8", "column 'weight'", f"received {shown}"
    )


def test_too_few_rows_to_split() -> None:
    told(
        tk.DataError,
        lambda: tk.read({"user": ["a", "b"], "item": ["x", "y"]}, **ROLES),
        "per_query split",
        "10% of 2 rows",
    )


def test_more_negatives_than_candidates() -> None:
    spec = {**RETRIEVAL, "objective": {"negatives": [{"kind": "uniform", "count": 50}]}}
    told(tk.DataError, lambda: tk.fit(spec, tk.read(PAIRS, **ROLES)), "Cannot draw 50", "there are 20 candidates")


@pytest.mark.parametrize("loss", ["sampled_softmax", "bpr", "bce", "triplet"])
def test_a_queue_alone_begins_empty(loss: str) -> None:
    negatives = [{"kind": "queue", "size": 100}]
    spec = {
        **RETRIEVAL,
        "objective": {"loss": {"kind": loss}, "negatives": negatives},
        "training": {**TRAINING, "epochs": 2},
    }
    run = tk.fit(spec, tk.read(PAIRS, **ROLES))
    assert np.isfinite(run.recommend("u1", k=3).column("score").to_pylist()).all()


def test_held_out_pairs_that_training_has_all_are_told_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError("it trained")

    monkeypatch.setattr(rankings, "fit_recipe", never)
    test = {name: values[:30] for name, values in PAIRS.items()}
    told(
        tk.DataError,
        lambda: tk.fit(RETRIEVAL, tk.read(PAIRS, test=test, **ROLES)),
        "No held-out pair is left",
        "all 30 rows of the test part",
    )


def test_new_rows_are_measured_by_the_rules_of_the_training() -> None:
    table = {
        **PAIRS,
        "type": [("view", "buy", "spam")[n % 3] for n in range(ROWS)],
        "stars": [n % 5 for n in range(ROWS)],
    }
    rules = {"positive": "stars >= 2", "event": {"column": "type", "weights": {"view": 1, "buy": 2, "spam": 0}}}
    run = tk.fit(RETRIEVAL, tk.read(table, **ROLES, **rules))
    new = {"user": ["u1"] * 5, "item": ["x1", "x2", "x3", "x4", "x5"]}
    kinds = {"type": ["buy", "spam", "buy", "other", None], "stars": [5, 5, 1, 5, 5]}
    found = run.evaluate(new | kinds).protocol
    assert (found["positives"], found["split"]["left_out"]) == (1, {"events": 3, "not_positive": 1})
    only_stars = run.evaluate(new | {"stars": kinds["stars"]}).protocol
    assert (only_stars["positives"], only_stars["split"]["left_out"]) == (4, {"not_positive": 1})
    told(tk.DataError, lambda: run.evaluate(new), "there is no column 'stars'")
    told(tk.DataError, lambda: run.evaluate(new | {"stars": [1] * 5}), "stars >= 2", "leaves none of its 5 rows")


def test_sides_of_two_widths() -> None:
    spec = {**RETRIEVAL, "model": {"kind": "two_tower", "query": ID, "candidate": {"kind": "id", "dim": 5}}}
    told(tk.ShapeError, lambda: tk.fit(spec, tk.read(PAIRS, **ROLES)), "query gives 4, candidate gives 5")


def test_training_that_diverges() -> None:
    spec = {**RETRIEVAL, "training": {**TRAINING, "epochs": 3, "optimizer": {"kind": "adam", "lr": 1e30}}}
    with pytest.raises(tk.TowerkitError, match="learning rate|optimizer.lr"):
        tk.fit({**spec, "update": {"kind": "two_backprop"}}, tk.read(PAIRS, **ROLES))


# Labels and features


def test_an_infinite_number(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "people.csv", replaced("age", 3, "1e400"))
    told(tk.DataError, lambda: tk.fit(prediction(), tk.read(path)), "people.csv", "column 'age'", "row 4 has inf")


@pytest.mark.parametrize("value", [float("nan"), None])
def test_a_missing_number_is_normal(value: float | None) -> None:
    assert tk.fit(prediction(), tk.read(replaced("age", 3, value))).tasks == ["task"]


def test_a_label_of_one_class() -> None:
    table = {**PEOPLE, "liked": [1] * ROWS}
    told(tk.DataError, lambda: tk.fit(prediction(), tk.read(table)), "label column 'liked' holds one class only ('1')")


def test_no_label_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "fit_recipe", None)  # it is told before training
    table = {**PEOPLE, "liked": [None] * ROWS}
    told(
        tk.DataError,
        lambda: tk.fit(prediction(), tk.read(table)),
        "label column 'liked'",
        "empty in all 24 rows of the test part",
    )


def test_no_label_in_the_training_rows() -> None:
    data = tk.read(PEOPLE)
    labels = list(PEOPLE["liked"])
    for row in data.parts.train:
        labels[row] = None
    told(
        tk.DataError,
        lambda: tk.fit(prediction(), tk.read({**PEOPLE, "liked": labels})),
        "'liked' has no value in the training rows",
    )


def test_a_binary_head_on_five_classes() -> None:
    call = lambda: tk.fit(prediction(column="stars"), tk.read(PEOPLE))  # noqa: E731
    told(tk.DataError, call, "'stars' holds 5 classes (1, 2, 3, 4, 5", "its head is binary; use kind: multiclass")


def test_a_label_that_is_also_a_feature() -> None:
    spec = prediction(columns=("age", "liked"))
    told(
        tk.DataError,
        lambda: tk.fit(spec, tk.read(PEOPLE)),
        "'liked' is the label of the task 'task' and also a feature",
    )


def test_columns_that_are_not_there() -> None:
    told(
        tk.DataError,
        lambda: tk.fit(prediction(column="likd"), tk.read(PEOPLE)),
        "no column 'likd'; did you mean 'liked'?",
    )
    told(
        tk.DataError,
        lambda: tk.fit(prediction(columns=("agge",)), tk.read(PEOPLE)),
        "no column 'agge'; did you mean 'age'?",
    )


def test_an_entity_that_is_not_there() -> None:
    spec = prediction()
    spec["model"]["towers"]["id"] = {"kind": "id", "entity": "ctiy"}
    told(tk.SpecError, lambda: tk.fit(spec, tk.read(PEOPLE)), "Unknown entity 'ctiy'; did you mean 'city'?")


@pytest.mark.parametrize("spec", [RETRIEVAL, prediction()], ids=["two_tower", "tower_model"])
def test_nothing_held_out_is_told_before_training(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (predictions, rankings):
        monkeypatch.setattr(module, "fit_recipe", None)
    data = tk.read({**PAIRS, **PEOPLE}, **ROLES, split={"kind": "random", "validation": 0, "test": 0})
    told(tk.SpecError, lambda: tk.fit(spec, data), "holds neither validation nor test rows out")


def test_a_figure_to_select_by_that_is_not_measured() -> None:
    spec = {**RETRIEVAL, "evaluation": {"k": [5], "select_by": "ndcg@6"}}
    told(
        tk.SpecError,
        lambda: tk.fit(spec, tk.read(PAIRS, **ROLES)),
        "'ndcg@6' is not measured",
        "did you mean 'ndcg@5'?",
    )


# Serving


def test_k_beyond_the_catalogue_gives_what_there_is(ranking: Run) -> None:
    everything = ranking.recommend("u1", k=10_000, exclude_seen=False)
    assert everything.num_rows == 20 and everything.column("rank").to_pylist() == list(range(1, 21))
    unseen = ranking.recommend("u1", k=10_000)
    assert 0 < unseen.num_rows < 20


def test_k_beyond_the_catalogue_in_evaluation_counts_misses() -> None:
    run = tk.fit({**RETRIEVAL, "evaluation": {"k": [5, 500]}}, tk.read(PAIRS, **ROLES))
    metrics = run.evaluate().metrics
    assert metrics["recall@500"].value == 1.0, "all that can be found is found"
    assert metrics["precision@500"].value < 0.05


@pytest.mark.parametrize("k", [0, -3, 2.5, "5", None, True])
def test_k_that_is_no_number_of_answers(ranking: Run, k: Any) -> None:
    told(tk.SpecError, lambda: ranking.recommend("u1", k=k), f"k must be a whole number of at least 1; received {k!r}")
    told(tk.SpecError, lambda: ranking.queries_for({"item": ["i1"]}, k=k), f"received {k!r}")


def test_a_history_with_an_unknown_key(ranking: Run) -> None:
    told(
        tk.DataError,
        lambda: ranking.recommend(history=["i1", "ii2"]),
        "names 'ii2'",
        "20 known candidates",
        "did you mean 'i",
    )
    told(tk.DataError, lambda: ranking.recommend(history=[]), "The history needs at least one key of candidates")


def test_asking_for_nothing_or_for_two_things(ranking: Run) -> None:
    told(tk.SpecError, lambda: ranking.recommend(), "exactly one of query, rows or history")
    told(tk.SpecError, lambda: ranking.recommend("u1", history=["i1"]), "exactly one of query, rows or history")


def test_pairs_without_their_columns(ranking: Run) -> None:
    rows = {"user": ["u1"], "itm": ["i1"]}
    told(
        tk.DataError,
        lambda: ranking.predict(rows),
        "lacks the column 'item'",
        "did you mean 'itm'?",
        "'user' and 'item'",
    )
    told(tk.DataError, lambda: ranking.evaluate(rows), "no column 'item'; did you mean 'itm'?")


def test_pairs_to_evaluate_without_a_key(ranking: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "new.csv", {"user": ["u1", None], "item": ["i1", "i2"]})
    told(tk.DataError, lambda: ranking.evaluate(path), "new.csv, line 3", "column 'user' is empty (1 such rows)")


def test_pairs_that_training_had_cannot_be_evaluated(ranking: Run) -> None:
    model: Any = ranking.model
    user, item = (np.asarray(places)[:5] for places in model.seen.nonzero())
    rows = {"user": model.query.keys.take(user), "item": model.candidate.keys.take(item)}
    told(tk.DataError, lambda: ranking.evaluate(rows), "5 of 5 were seen in training")


def test_text_in_a_number_column(predicting: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "serve.csv", {"age": ["31", "old"], "city": ["Rome", "Oslo"]})
    told(
        tk.DataError, lambda: predicting.predict(path), "serve.csv", "column 'age' must hold numbers", "row 2 has 'old'"
    )
    rows = {"age": [31.0, float("inf")], "city": ["Rome", "Oslo"]}
    told(tk.DataError, lambda: predicting.predict(rows), "column 'age' must hold finite numbers", "row 2 has inf")


def test_a_column_missing_at_serving(predicting: Run) -> None:
    told(
        tk.DataError,
        lambda: predicting.predict({"agee": [31.0], "city": ["Rome"]}),
        "the given data frame",
        "'age'",
        "'agee'",
    )


def test_labels_missing_at_evaluation(predicting: Run) -> None:
    rows = {"age": [31.0], "city": ["Rome"]}
    told(tk.DataError, lambda: predicting.evaluate(rows), "no column 'liked'", "'age', 'city'")
    told(tk.DataError, lambda: predicting.evaluate({**rows, "liked": [7]}), "no labelled row", "classes ['0', '1']")


@pytest.mark.parametrize(
    ("rows", "part"), [(None, "NoneType None"), (5, "int 5"), ({"age": [], "city": []}, "has no rows")]
)
def test_rows_that_are_no_table(predicting: Run, rows: Any, part: str) -> None:
    told(tk.DataError, lambda: predicting.predict(rows), part)


def test_recommending_with_a_predictor(predicting: Run) -> None:
    told(tk.RunError, lambda: predicting.recommend("u1"), "is a tower_model: it predicts task and does not rank")
    told(tk.RunError, lambda: predicting.queries_for({"item": ["i1"]}), "does not rank candidates")


# Runs


def test_a_folder_that_is_no_run(ranking: Run, tmp_path: Path) -> None:
    told(tk.RunError, lambda: tk.load(tmp_path / "nothing"), "There is no folder", "nothing")
    told(tk.RunError, lambda: tk.load(ranking.path.parent), "is not a Run", "there are Runs inside: 'ranking'")
    told(tk.RunError, lambda: tk.load(ranking.path.with_name("rankin")), "did you mean 'ranking'?")
    told(tk.RunError, lambda: tk.load(ranking.path / "spec.json"), "is a file, and a Run is a folder")


def test_a_tampered_run(ranking: Run) -> None:
    card = ranking.path / "card.md"
    whole = card.read_bytes()
    try:
        card.write_bytes(whole.replace(b"0", b"1", 1))
        told(tk.RunError, lambda: tk.load(ranking.path), "card.md", "was changed", "SHA-256")
        card.write_bytes(whole[:-1])
        told(tk.RunError, lambda: tk.load(ranking.path), "card.md", "was cut short")
    finally:
        card.write_bytes(whole)


def test_a_run_that_is_there_already(ranking: Run) -> None:
    told(tk.RunError, lambda: tk.fit(RETRIEVAL, tk.read(PAIRS, **ROLES), run=ranking.path), "ranking already exists")


@pytest.mark.parametrize("k", [10**12, 10**25])
def test_an_absurd_k_is_the_whole_catalogue(ranking: Run, k: int) -> None:
    assert ranking.recommend("u1", k=k, exclude_seen=False).num_rows == 20
    assert ranking.recommend(history=["i1"], k=k).num_rows == 19
    assert ranking.queries_for({"item": ["i1"]}, k=k).num_rows == 30


def test_keys_of_bytes_and_uuids_are_found_again(tmp_path: Path) -> None:
    for name, make in {"bytes": str.encode, "uuid": lambda key: uuid.uuid5(uuid.NAMESPACE_OID, key)}.items():
        table = {"user": [make(key) for key in PAIRS["user"]], "item": [make(key) for key in PAIRS["item"]]}
        run = tk.fit(RETRIEVAL, tk.read(table, **ROLES), run=tmp_path / name)
        assert not run.recommend(table["user"][0], k=1).column("cold")[0].as_py()
        assert run.recommend(history=[table["item"][0]], k=3).num_rows == 3


@pytest.mark.parametrize("name", ["query", "rank", "score", "cold", "title"])
def test_a_candidate_column_called_like_an_answer_column(name: str, tmp_path: Path) -> None:
    table = {"user": PAIRS["user"], name: PAIRS["item"]}
    run = tk.fit(RETRIEVAL, tk.read(table, query="user", candidate=name), run=tmp_path / "run")
    answer = run.recommend("u1", k=3)
    assert answer.column_names == ["query", "rank", f"{name}_key", "score", "cold"]
    assert set(answer.column(f"{name}_key").to_pylist()) <= set(PAIRS["item"])
    assert answer.column("rank").to_pylist() == [1, 2, 3]
    pairs = run.predict({"user": ["u1"], name: ["i1"]})
    assert pairs.num_columns == 4 and pairs.column("user").to_pylist() == ["u1"]
    table = {name: PAIRS["user"], "item": PAIRS["item"]}
    run = tk.fit(RETRIEVAL, tk.read(table, query=name, candidate="item"), run=tmp_path / "turned")
    assert run.queries_for({"item": ["i1"]}, k=2).num_columns == 4


def test_validation_without_a_label_cannot_choose_an_epoch() -> None:
    label = [0, 1] * 50
    rows = {"x": list(range(100)), "y": [*label[:80], *[None] * 10, *label[90:]], "when": list(range(100))}
    data = tk.read(rows, time="when", split={"kind": "time", "validation": 0.1, "test": 0.1})
    towers = {"t": {"kind": "table", "columns": ["x"]}}
    model = {"kind": "tower_model", "towers": towers, "heads": {"y": {"kind": "binary", "column": "y"}}}
    with pytest.raises(tk.DataError, match=r"'y' without a value in all 10 rows of the validation part"):
        tk.fit({"model": model}, data)


def test_a_learning_rate_that_no_float_can_hold_is_refused() -> None:
    ids = {"kind": "id", "dim": 2}
    spec = {"model": {"kind": "two_tower", "query": ids, "candidate": ids}, "training": {"optimizer": {"lr": 1e38}}}
    with pytest.raises(tk.SpecError, match=r"training\.optimizer\.lr: .*1000000.*received 1e\+38"):
        tk.fit(spec, tk.read({"u": [1, 2] * 9, "i": [1, 2, 3] * 6}, query="u", candidate="i"))


def test_lists_are_no_keys() -> None:
    nested = {**PAIRS, "user": [[user] for user in PAIRS["user"]]}
    told(tk.DataError, lambda: tk.read(nested, **ROLES), "row 1", "'user' holds lists or records", PAIRS["user"][0])
    entities = {"item": {"table": {"item": [["i1"], ["i2"]]}}}
    told(tk.DataError, lambda: tk.read(PAIRS, entities=entities, **ROLES), "'item' holds lists or records")


def test_one_column_for_query_and_candidate() -> None:
    told(tk.SpecError, lambda: tk.read(PAIRS, query="item", candidate="item"), "must be two columns", "'item' for both")


def test_a_column_called_example() -> None:
    table = {"example": PAIRS["user"], "item": PAIRS["item"]}
    told(
        tk.SpecError,
        lambda: tk.read(table, query="example", candidate="item"),
        "'example' is what",
        "Rename the column",
    )


@pytest.mark.parametrize("kind", ["time", "random"])
def test_shares_that_leave_nothing_to_learn_from(kind: str) -> None:
    split = {"kind": kind, "validation": 0.5, "test": 0.6}
    told(tk.SpecError, lambda: tk.read(PAIRS, split=split, **ROLES), "validation 0.5 and test 0.6", "below 1")


def test_a_task_name_that_is_no_name() -> None:
    spec = prediction()
    spec["model"] = {**spec["model"], "heads": {"a b": {"kind": "binary", "column": "liked"}}}
    told(tk.SpecError, lambda: tk.fit(spec, tk.read(PEOPLE)), "model.heads.a b", "must begin with a letter", "'a b'")


def test_no_file_is_written_into_a_run(ranking: Run) -> None:
    rows = ranking.recommend("u1", k=3)
    told(tk.DataError, lambda: write_table(rows, ranking.path / "rows.csv"), "rows.csv", "is a Run")
    tk.load(ranking.path)
