"""Data sets from an example table, entity tables and an optional test table.

Invariants:
- a test file is read as the example file is (separator, names, header), unless it says otherwise;
- every example row is in exactly one part, also where the test table is given apart;
- a key is present, an entity's key is present and stands once, a weight is finite and not negative, a ranking has two
  queries and two candidates: else an error with file, row, column and value, and it names the table that the row is in;
- keys of the examples can be written in the type of the entity table's key, or the error says which cannot;
- a test table may lack the weight column, and the event column;
- times are seconds in UTC, from numbers, dates, timestamps and ISO texts with and without a zone.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset, read_dataset
from towerkit.data.readers import SourceSpec
from towerkit.data.roles import EntityTable
from towerkit.data.spec import DataSpec, ExamplesSpec
from towerkit.data.split_specs import RandomSplit, TimeSplit
from towerkit.data.splits import Parts
from towerkit.data.table import Table
from towerkit.data.times import times_of

PAIRS = {"user": ["a", "a", "b", "b", "c", "c"], "item": [1, 2, 1, 3, 2, 3]}
ALL_TRAIN = {"kind": "random", "validation": 0.0, "test": 0.0}


def table(columns: dict[str, Any], name: str = "pairs.csv", first_row: int = 2) -> Table:
    return Table(pa.table(columns), name, first_row)


def made(
    columns: dict[str, Any],
    *,
    test: dict[str, Any] | None = None,
    entities: dict[str, EntityTable] | None = None,
    split: dict[str, Any] | None = ALL_TRAIN,
    **roles: str,
) -> Dataset:
    described: dict[str, Any] = {"examples": {"path": "pairs.csv", **roles}, "split": split}
    if test is not None:
        described["test"] = {"path": "test.csv"}
    given = None if test is None else table(test, "test.csv")
    return make_dataset(parse(DataSpec, described), table(columns), test=given, entities=entities)


def items(columns: dict[str, Any], key: str = "item", title: str | None = None) -> dict[str, EntityTable]:
    return {"item": EntityTable("item", key, table(columns, "items.csv"), title)}


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_test_file_is_read_like_the_examples(tmp_path: Path) -> None:
    (tmp_path / "train.dat").write_text("a^x;y^1\nb^z^2\na^z^3\n", encoding="latin-1")
    (tmp_path / "test.dat").write_text("b^x;y^4\n", encoding="latin-1")
    examples = {"path": "train.dat", "separator": "^", "header": False, "names": ["user", "item", "n"]}
    spec = parse(
        DataSpec, {"examples": {**examples, "query": "user", "candidate": "item"}, "test": {"path": "test.dat"}}
    )
    spec = spec.model_copy(update={"split": RandomSplit(validation=0.0, test=0.0)})
    dataset = read_dataset(spec, base=tmp_path)
    assert dataset.examples.data.to_pydict() == {
        "user": ["a", "b", "a", "b"],
        "item": ["x;y", "z", "z", "x;y"],
        "n": [1, 2, 3, 4],
    }
    assert dataset.parts.sizes() == {"train": 3, "validation": 0, "test": 1}
    assert dataset.split["test"] == "given"
    stored = parse(DataSpec, spec.model_dump(mode="json"))  # as a Run has it, and as workers are told
    assert read_dataset(stored, base=tmp_path).examples.data.equals(dataset.examples.data)


def test_a_test_file_may_be_read_in_its_own_way(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("user;item\na;1\nb;2\n")
    (tmp_path / "test.csv").write_text("user|item\nb|1\n")
    spec = DataSpec(
        examples=ExamplesSpec(path="train.csv", separator=";", query="user", candidate="item"),
        test=SourceSpec(path="test.csv", separator="|"),
        split=RandomSplit(validation=0.0, test=0.0),
    )
    assert read_dataset(spec, base=tmp_path).examples.data.to_pydict() == {"user": ["a", "b", "b"], "item": [1, 2, 1]}


def test_an_entity_goes_by_its_key_column_or_its_name(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("user,item\na,1\nb,2\n")
    (tmp_path / "items.csv").write_text("id,name\n1,one\n2,two\n")
    examples = {"path": "pairs.csv", "query": "user", "candidate": "item"}
    entities = {"item": {"path": "items.csv", "key": "id", "title": "name"}}
    spec = parse(DataSpec, {"examples": examples, "entities": entities, "split": ALL_TRAIN})
    entity = read_dataset(spec, base=tmp_path).entities["item"]
    assert (entity.key, entity.title, entity.table.data.num_rows) == ("id", "name", 2)
    unnamed = parse(DataSpec, {"examples": examples, "entities": {"item": {"path": "items.csv"}}})
    with pytest.raises(DataError, match=r"items\.csv: there is no column 'item'.*'id', 'name'"):
        read_dataset(unnamed, base=tmp_path)


# --- parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [None, TimeSplit(), RandomSplit(), {"kind": "per_query"}, {"kind": "time"}])
def test_with_a_given_test_table_every_row_is_in_one_part(split: Any) -> None:
    users = [f"u{n % 7}" for n in range(100)]
    columns = {"user": users, "item": list(range(100)), "when": list(range(100))}
    examples = {"path": "pairs.csv", "query": "user", "candidate": "item", "time": "when"}
    spec = DataSpec.model_validate({"examples": examples, "test": {"path": "test.csv"}, "split": split})
    test = table({"user": ["u1", "u2"], "item": [1, 2], "when": [7, 8]}, "test.csv")
    parts = make_dataset(spec, table(columns), test=test).parts
    assert parts.test.tolist() == [100, 101]
    assert 8 <= len(parts.validation) <= 15
    together = np.sort(np.concatenate([parts.train, parts.validation, parts.test]))
    np.testing.assert_array_equal(together, np.arange(102))


def test_a_test_table_beside_a_test_share_is_refused() -> None:
    examples = {"path": "a.csv"}
    with pytest.raises(SpecError, match=r"a test table is given, so split.test must be absent or 0; received 0.2"):
        parse(DataSpec, {"examples": examples, "test": {"path": "b.csv"}, "split": {"kind": "random", "test": 0.2}})


@pytest.mark.parametrize(
    ("roles", "kind"),
    [
        ({"query": "user", "candidate": "item", "time": "when"}, "time"),
        ({"query": "user", "candidate": "item"}, "per_query"),
        ({}, "random"),
    ],
)
def test_the_default_split_goes_by_the_roles(roles: dict[str, str], kind: str) -> None:
    columns = {"user": ["a"] * 20 + ["b"] * 20, "item": list(range(40)), "when": list(range(40))}
    dataset = made(columns, split=None, **roles)
    assert dataset.split["kind"] == kind
    assert dataset.parts.sizes() == {"train": 32, "validation": 4, "test": 4}


def test_the_seed_is_told_and_decides() -> None:
    columns = {"n": list(range(100))}
    spec = parse(DataSpec, {"examples": {"path": "a.csv"}})
    parts = [make_dataset(spec, table(columns), seed=seed).parts.test.tolist() for seed in (5, 5, 6)]
    assert parts[0] == parts[1] != parts[2]
    assert make_dataset(spec, table(columns), seed=5).split == {
        "kind": "random",
        "validation": 0.1,
        "test": 0.1,
        "seed": 5,
    }


def test_a_split_without_training_rows_is_refused() -> None:
    columns = {"user": ["a", "b", "c"], "item": [1, 2, 3], "when": [5, 5, 5]}
    with pytest.raises(DataError, match=r"pairs\.csv: the time split leaves no training row out of 3"):
        made(columns, split={"kind": "time"}, query="user", candidate="item", time="when")


@pytest.mark.parametrize(("name", "other"), [("validation", "test"), ("test", "validation")])
def test_a_split_without_rows_in_a_part_is_refused(name: str, other: str) -> None:
    with pytest.raises(DataError, match=rf"the random split leaves no {name} row: 5% of 6 rows"):
        made(PAIRS, split={"kind": "random", name: 0.05, other: 0.0})


@pytest.mark.parametrize(("kind", "role"), [("time", "time"), ("per_query", "query")])
def test_a_split_without_its_column_is_refused(kind: str, role: str) -> None:
    with pytest.raises(DataError, match=rf"A {kind} split needs data\.examples\.{role}"):
        made({"n": [1, 2, 3]}, split={"kind": kind})


def test_other_parts_and_labelled_values() -> None:
    dataset = made(PAIRS, query="user", candidate="item")
    assert dataset.labelled("item", np.array([5, 0])).to_pylist() == [3, 1]
    folds = dataset.with_parts(Parts(np.array([0]), np.array([1]), np.array([2])))
    assert folds.parts.sizes() == {"train": 1, "validation": 1, "test": 1}
    assert dataset.parts.sizes()["train"] == 6
    with pytest.raises(DataError, match=r"pairs\.csv: there is no column 'itm'; did you mean 'item'\?"):
        dataset.labelled("itm", np.array([0]))


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ({"kind": "time"}, (90, 10)),
        ({"kind": "per_query"}, None),
        ({"kind": "random"}, (90, 10)),
        ({"kind": "leave_last"}, (93, 7)),
        ({"kind": "leave_last", "position": "when"}, (93, 7)),
        ({"kind": "grouped", "validation": 0.3}, (70, 30)),
        ({"kind": "grouped", "column": "item", "validation": 0.25}, (75, 25)),
        ({"kind": "given", "validation": 0.2}, (80, 20)),
        ({"kind": "given"}, (100, 0)),
    ],
)
def test_every_split_with_a_test_table_given_apart(split: dict[str, Any], sizes: tuple[int, int] | None) -> None:
    columns = {"user": [f"u{n % 7}" for n in range(100)], "item": list(range(100)), "when": list(range(100))}
    roles = {"query": "user", "candidate": "item", "time": "when"}
    test = {"user": ["u1", "u2"], "item": [1, 2], "when": [7, 8]}
    dataset = made(columns, test=test, split=split, **roles)
    assert dataset.parts.test.tolist() == [100, 101]
    assert dataset.split["test"] == "given"
    assert "warnings" not in dataset.split  # nothing that is said of a test part which the split cuts
    together = np.sort(np.concatenate([dataset.parts.train, dataset.parts.validation, dataset.parts.test]))
    np.testing.assert_array_equal(together, np.arange(102))
    if sizes is not None and split["kind"] != "grouped":
        assert (len(dataset.parts.train), len(dataset.parts.validation)) == sizes
    again = parse(DataSpec, plain_spec(split, roles)).model_dump(mode="json")
    assert parse(DataSpec, again).model_dump(mode="json") == again  # as a Run stores it


def plain_spec(split: dict[str, Any], roles: dict[str, str]) -> dict[str, Any]:
    return {"examples": {"path": "pairs.csv", **roles}, "test": {"path": "test.csv"}, "split": split}


def test_a_validation_table_given_apart() -> None:
    described: dict[str, Any] = {
        "examples": {"path": "pairs.csv", "query": "user", "candidate": "item"},
        "validation": {"path": "v.csv"},
    }
    some = table({"user": ["b"], "item": [9]}, "v.csv")
    columns = {"user": ["a", "b"] * 20, "item": list(range(40))}
    dataset = make_dataset(parse(DataSpec, described), table(columns), validation=some)
    assert dataset.parts.validation.tolist() == [40]
    assert dataset.split == {"kind": "per_query", "validation": "given", "test": 0.1, "seed": 0}
    both = parse(DataSpec, {**described, "test": {"path": "t.csv"}})
    dataset = make_dataset(both, table(columns), validation=some, test=table({"user": ["a"], "item": [8]}, "t.csv"))
    assert dataset.parts.sizes() == {"train": 40, "validation": 1, "test": 1}
    assert dataset.split["kind"] == "given"
    assert dataset.parts.test.tolist() == [41]
    for kind in ("time", "per_query", "random", "leave_last", "grouped", "given"):
        split = {"kind": kind, "validation": 0.2 if kind != "leave_last" else True}
        with pytest.raises(SpecError, match="a validation table is given, so split.validation must be absent or 0"):
            parse(DataSpec, {**described, "split": split})


def test_a_column_says_the_part() -> None:
    columns = PAIRS | {"part": ["train", "test", "train", "validation", "train", "train"]}
    parts = made(columns, split={"kind": "given", "column": "part"}).parts
    assert (parts.train.tolist(), parts.validation.tolist(), parts.test.tolist()) == ([0, 2, 4, 5], [3], [1])


@pytest.mark.parametrize("word", ["tset", None, ""])
def test_a_part_that_is_none_is_refused_with_its_line(word: str | None) -> None:
    columns = PAIRS | {"part": ["train", "test", "train", word, "train", word]}
    message = rf"pairs\.csv, line 5: the column 'part' says the part .*; it holds {word!r} \(2 such rows\)"
    with pytest.raises(DataError, match=message):
        made(columns, split={"kind": "given", "column": "part"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"split": {"kind": "given"}}, r"a given split takes the parts from the data: give the table data\.test"),
        (
            {"split": {"kind": "given", "column": "p"}, "test": {"path": "t"}},
            "given twice, by the column 'p' and by a test",
        ),
        ({"split": {"kind": "leave_last", "test": False, "validation": False}}, "received false for both"),
        ({"duplicates": "first"}, r"'duplicates' needs examples\.query"),
        ({"k_core": 2}, r"'k_core' needs examples\.query"),
        ({"k_core": 1}, r"k_core: .*greater than or equal to 2; received 1"),
        ({"min_count": {"candidate": 2}}, r"'min_count\.candidate' needs examples\.candidate"),
        ({"decay": {"half_life": 3}}, r"'decay' needs examples\.time"),
        ({"decay": {"half_life": 3, "half_life_days": 1}}, "exactly one of half_life_days and half_life"),
        ({"decay": {"half_life": 0}}, r"decay\.half_life: .*greater than 0"),
        ({"examples": {"path": "a.csv", "positive": "x >= 4"}}, r"'examples\.positive' needs examples\.query"),
        ({"examples": {"path": "a.csv", "positive": "x => 4"}}, r"examples\.positive: a rule is a column"),
    ],
)
def test_settings_that_cannot_be_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(DataSpec, {"examples": {"path": "a.csv"}, **data})


def test_leave_last_without_an_order_or_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match=r"leave_last split needs data\.examples\.time; .*or split\.position"):
        made(PAIRS, split={"kind": "leave_last"}, query="user", candidate="item")
    roles = {"query": "user", "candidate": "item", "time": "when"}
    columns = PAIRS | {"when": [1, 2, 3, 4, 5, 6]}
    with pytest.raises(DataError, match="leaves no validation row: no query has 3 rows or more among 6 rows"):
        made(columns, split={"kind": "leave_last"}, **roles)
    dataset = made(columns, split={"kind": "leave_last", "validation": False}, **roles)
    assert dataset.parts.test.tolist() == [1, 3, 5]
    assert "leave_last does not cut at one moment" in dataset.split["warnings"][0]


@pytest.mark.parametrize("missing", ["drop", "train"])
@pytest.mark.parametrize("kind", ["time", "leave_last"])
def test_rows_without_a_time_are_counted(kind: str, missing: str) -> None:
    columns = {"user": ["a", "b"] * 15, "item": list(range(30)), "when": [None, None, None, *range(27)]}
    roles = {"query": "user", "candidate": "item", "time": "when"}
    dataset = made(columns, split={"kind": kind, "time_missing": missing}, **roles)
    assert dataset.split["time_missing"] == missing
    assert set(dataset.parts.train) & {0, 1, 2} == (set() if missing == "drop" else {0, 1, 2})
    if missing == "drop":
        assert dataset.split["left_out"] == {"no_time": 3}
    else:
        assert "3 rows without a time are all in training" in dataset.split["warnings"][-1]


def test_movielens_1m_has_times_for_some_rows(data_root: Path) -> None:
    path = str(data_root / "ml-1m" / "ratings.csv.gz")
    examples = {"path": path, "query": "userID", "candidate": "movieID", "time": "timestamp"}
    with pytest.raises(DataError, match=r"433,255 of 1,000,209 are missing, the first in row 1.*time_missing: drop"):
        read_dataset(parse(DataSpec, {"examples": examples}))
    split = {"kind": "time", "time_missing": "drop"}
    dropped = read_dataset(parse(DataSpec, {"examples": {**examples, "positive": "rating >= 4"}, "split": split}))
    assert dropped.split["left_out"] == {"not_positive": 424_928, "no_time": 56_384}
    assert dropped.parts.sizes() == {"train": 415_118, "validation": 51_889, "test": 51_890}
    split = {"kind": "time", "time_missing": "train"}
    trained = read_dataset(parse(DataSpec, {"examples": {**examples, "positive": "rating >= 4"}, "split": split}))
    np.testing.assert_array_equal(trained.parts.test, dropped.parts.test)
    assert len(trained.parts.train) == 415_118 + 56_384


# --- rows that count, and what they weigh -------------------------------------------------------------------------

LOG: dict[str, list[Any]] = {
    "user": ["a", "a", "b", "b", "c", "c"],
    "item": [1, 2, 1, 3, 2, 3],
    "kind": ["view", "buy", "view", "cart", "buy", "view"],
    "w": [1.0, 2.0, 3.0, 0.0, 1.0, 1.0],
    "stars": [5, 4, 3, None, 2, 4],
    "day": ["2024-01-01", "2024-01-11", "2024-01-21", "2024-01-01", "2024-01-11", "2024-01-21"],
}
PAIR_ROLES = {"query": "user", "candidate": "item"}


def log(test: dict[str, Any] | None = None, data: dict[str, Any] | None = None, **examples: Any) -> Dataset:
    described: dict[str, Any] = {"examples": {"path": "log.csv", **PAIR_ROLES, **examples}, "split": ALL_TRAIN}
    given = None if test is None else table(test, "test.csv")
    described |= {} if test is None else {"test": {"path": "test.csv"}}
    return make_dataset(parse(DataSpec, {**described, **(data or {})}), table(LOG, "log.csv"), test=given)


def test_events_times_weights() -> None:
    event = {"column": "kind", "weights": {"view": 0, "cart": 3, "buy": 5}}
    dataset = log(event=event, weight="w")
    assert dataset.parts.train.tolist() == [1, 3, 4]  # a weight of 0 is still a known pair
    assert dataset.weights is not None
    assert dataset.weights[dataset.parts.train].tolist() == [10.0, 0.0, 5.0]
    assert dataset.split["left_out"] == {"events": 3}
    with pytest.raises(
        DataError, match=r"log\.csv, line 2: the column 'kind' holds 'view', which has no weight \(3 such"
    ):
        log(event={"column": "kind", "weights": {"cart": 3, "buy": 5}})
    with pytest.raises(DataError, match=r"log\.csv: event\.weights leaves none of its 6 rows"):
        log(event={"column": "kind", "weights": {"click": 1}, "others": "drop"})


def test_a_test_table_may_lack_events_and_weights() -> None:
    event = {"column": "kind", "weights": {"view": 0, "cart": 3, "buy": 5}}
    dataset = log({"user": ["a"], "item": [3]}, event=event, weight="w")
    assert (dataset.parts.train.tolist(), dataset.parts.test.tolist()) == ([1, 3, 4], [6])
    assert dataset.weights is not None
    assert dataset.weights[6] == 1.0
    dataset = log({"user": ["a", "b"], "item": [3, 2], "kind": ["view", "buy"]}, event=event)
    assert dataset.parts.test.tolist() == [7]
    with pytest.raises(DataError, match=r"test\.csv: none of its 1 rows counts"):
        log({"user": ["a"], "item": [3], "kind": ["view"]}, event=event)
    with pytest.raises(DataError, match=r"^test\.csv, line 2: the column 'kind' holds 'x'"):
        log({"user": ["a"], "item": [3], "kind": ["x"]}, event=event)


def test_positives_are_counted_in_every_part() -> None:
    dataset = log({"user": ["a", "b"], "item": [3, 2], "stars": [1, 5]}, positive="stars >= 4")
    assert (dataset.parts.train.tolist(), dataset.parts.test.tolist()) == ([0, 1, 5], [7])
    assert dataset.split["left_out"] == {"not_positive": 4}
    assert dataset.split["positive"] == "stars >= 4"
    with pytest.raises(DataError, match=r'log\.csv: the rule positive: "stars > 5" leaves none of its 6 rows'):
        log(positive="stars > 5")
    with pytest.raises(DataError, match=r"test\.csv: the rule \"stars >= 4\": there is no column 'stars'"):
        log({"user": ["a"], "item": [3]}, positive="stars >= 4")


def test_older_rows_weigh_less_from_the_latest_training_row() -> None:
    late = {"user": ["a"], "item": [3], "day": ["2034-01-01"]}
    for test in (None, late):
        dataset = log(test, {"decay": {"half_life_days": 10}}, time="day")
        assert dataset.weights is not None
        np.testing.assert_allclose(dataset.weights[:6], [0.25, 0.5, 1.0, 0.25, 0.5, 1.0])
    weighted = log(None, {"decay": {"half_life": 864_000}}, time="day", weight="w")
    assert weighted.weights is not None
    np.testing.assert_allclose(weighted.weights, [0.25, 1.0, 3.0, 0.0, 0.5, 1.0])


def test_days_need_seconds() -> None:
    columns = {"user": ["a", "b"], "item": [1, 2]}
    roles: dict[str, Any] = {**PAIR_ROLES, "time": "t"}
    spec = parse(DataSpec, {"examples": {"path": "p.csv", **roles}, "split": ALL_TRAIN, "decay": {"half_life_days": 1}})
    found = make_dataset(spec, table(columns | {"t": [1_700_000_000, 1_700_086_400]})).weights
    assert found is not None
    assert found.tolist() == [0.5, 1.0]
    with pytest.raises(
        DataError, match=r"column 't': holds plain numbers from 3 to 9, .* give decay.half_life|Give decay"
    ):
        make_dataset(spec, table(columns | {"t": [3, 9]}))
    with pytest.raises(DataError, match=r"decay needs a time in every row .*1 of 2 are missing, the first in row 2"):
        make_dataset(spec, table(columns | {"t": [1_700_000_000, None]}))


def test_rows_without_a_time_are_as_old_as_the_oldest() -> None:
    columns = {"user": ["a", "b", "a", "b"], "item": [1, 2, 3, 4], "t": [None, 0, 10, 20]}
    split = {"kind": "time", "time_missing": "train", "test": 0.3, "validation": 0.0}
    examples = {"path": "p.csv", **PAIR_ROLES, "time": "t"}
    spec = parse(DataSpec, {"examples": examples, "split": split, "decay": {"half_life": 10}})
    dataset = make_dataset(spec, table(columns))
    assert dataset.weights is not None
    assert dataset.weights[dataset.parts.train].tolist() == [0.5, 0.5, 1.0]


TWICE: dict[str, list[Any]] = {
    "user": ["a", "a", "a", "b", "b", "c", "c", "a"],
    "item": [1, 1, 2, 1, 2, 1, 1, 1],
    "t": [3, 1, 2, 4, 5, 7, 7, 20],
    "part": ["train"] * 7 + ["test"],
}


def twice(**data: Any) -> Dataset:
    examples = {"path": "p.csv", **PAIR_ROLES, "time": "t"}
    spec = parse(DataSpec, {"examples": examples, "split": {"kind": "given", "column": "part"}, **data})
    return make_dataset(spec, table(TWICE))


@pytest.mark.parametrize(
    ("how", "rows"),
    [
        ("keep", [0, 1, 2, 3, 4, 5, 6]),
        ("first", [1, 2, 3, 4, 5]),
        ("last", [0, 2, 3, 4, 6]),
        ("count", [0, 2, 3, 4, 6]),
    ],
)
def test_duplicates_by_time_then_by_row(how: str, rows: list[int]) -> None:
    dataset = twice(duplicates=how)
    assert dataset.parts.train.tolist() == rows
    assert dataset.parts.test.tolist() == [7]
    if how != "keep":
        assert dataset.split["learned"] == {"duplicates": how, "removed": {"duplicates": 2}}
    if how == "count":
        assert dataset.weights is not None
        assert dataset.weights[rows].tolist() == [2.0, 1.0, 1.0, 1.0, 2.0]


def test_counts_see_training_rows_only_unless_told() -> None:
    assert twice(min_count={"query": 3}).parts.train.tolist() == [0, 1, 2]
    assert twice(min_count={"query": 4}, filter_on="all").parts.sizes() == {"train": 3, "validation": 0, "test": 1}
    with pytest.raises(DataError, match="no row is left to learn from out of 7: min_count takes 7. Lower the counts"):
        twice(min_count={"query": 4})
    dataset = twice(duplicates="last", k_core=2)
    assert dataset.parts.train.tolist() == [0, 2, 3, 4]  # c has one row left, then 1 and 2 have two each
    assert dataset.split["learned"]["removed"] == {"duplicates": 2, "k_core": 1}


def test_the_final_model_chooses_among_training_and_validation_rows() -> None:
    columns = {
        "user": ["a", "b", "a", "b"],
        "item": [1, 1, 1, 2],
        "part": ["train", "train", "validation", "validation"],
    }
    examples = {"path": "p.csv", **PAIR_ROLES}
    given = {"split": {"kind": "given", "column": "part"}, "examples": examples}
    dataset = make_dataset(parse(DataSpec, {**given, "duplicates": "count"}), table(columns))
    assert dataset.parts.train.tolist() == [0, 1]
    final = dataset.for_refit()
    assert (final.parts.train.tolist(), final.parts.validation.tolist()) == ([1, 2, 3], [])
    assert final.weights is not None
    assert final.weights[[1, 2, 3]].tolist() == [1.0, 2.0, 1.0]
    plain = make_dataset(parse(DataSpec, given), table(columns)).for_refit()
    assert (plain.parts.train.tolist(), plain.weights) == ([0, 1, 2, 3], None)


# --- roles --------------------------------------------------------------------------------------------------------


def test_a_role_without_its_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: there is no column 'usr'; did you mean 'user'\?.*'item', 'user'"):
        made(PAIRS, query="usr", candidate="item")


@pytest.mark.parametrize("role", ["query", "candidate"])
def test_a_missing_key_is_refused_with_its_line(role: str) -> None:
    roles = {"query": "user", "candidate": "item"}
    columns = {**PAIRS, roles[role]: [*PAIRS[roles[role]][:4], None, None]}
    with pytest.raises(
        DataError, match=rf"pairs\.csv, line 6: the {role} column '{roles[role]}' is empty \(2 such rows"
    ):
        made(columns, **roles)


def test_a_missing_key_in_the_test_table_names_the_test_table() -> None:
    test = {"user": ["a", None], "item": [1, 2]}
    with pytest.raises(DataError, match=r"^test\.csv, line 3: the query column 'user' is empty"):
        made(PAIRS, test=test, query="user", candidate="item")


def test_one_query_or_one_candidate_is_refused() -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: the query column 'user' holds one value only \('a'\)"):
        made({**PAIRS, "user": ["a"] * 6}, query="user", candidate="item")
    with pytest.raises(DataError, match=r"pairs\.csv: the candidate column 'item' holds one value only \(9\)"):
        made({**PAIRS, "item": [9] * 6}, query="user", candidate="item")


@pytest.mark.parametrize(
    ("weight", "shown"), [(-1.0, "-1.0"), (float("nan"), "nan"), (float("inf"), "inf"), (None, "nan")]
)
def test_a_bad_weight_is_refused_with_its_line(weight: float | None, shown: str) -> None:
    columns = {**PAIRS, "w": [1.0, 0.0, 2.0, weight, 1.0, weight]}
    message = rf"pairs\.csv, line 5: the weight column 'w' must be .*; received {shown} \(2 such rows\)"
    with pytest.raises(DataError, match=message):
        made(columns, weight="w")


def test_a_weight_that_losses_cannot_hold_is_refused() -> None:
    columns = {**PAIRS, "w": [1.0, 0.0, 2.0, 1e300, 1.0, 1.0]}
    with pytest.raises(
        DataError, match=r"pairs\.csv, line 5: the weight column 'w' must be .* at most 1e\+20; received 1e\+300"
    ):
        made(columns, weight="w")


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ([1, 2, 3, "soon", 5, 6], r"pairs\.csv, line 5: the time column 'when' must hold .*; received 'soon'"),
        (
            ["2024-01-01"] * 4 + ["soon", "2024-01-01"],
            r"pairs\.csv, line 6: the time column 'when' .*; received 'soon'",
        ),
        ([1.0, 2.0, float("inf"), 4.0, 5.0, 6.0], r"pairs\.csv, line 4: the time column 'when' .*; received inf"),
        ([True] * 6, r"pairs\.csv, line 2: the time column 'when' must hold .*; received True"),
        ([[1]] * 6, r"pairs\.csv, line 2: the time column 'when' must hold .*; received \[1\]"),
    ],
)
def test_a_bad_time_is_refused_whatever_the_split(when: list[Any], message: str) -> None:
    when = [str(value) for value in when] if "soon" in when else when
    with pytest.raises(DataError, match=message):
        made({**PAIRS, "when": when}, time="when", split=RandomSplit())


def test_nanoseconds_are_times() -> None:
    start = 1_700_000_000_000_000_000
    table = Table(pa.table({"when": pa.array([start, start + 1_000_000_000, None], pa.int64())}), "pairs.csv")
    assert times_of(table, "when").tolist()[:2] == [1.7e18, 1.7e18 + 1e9]


def test_a_bad_weight_in_the_test_table_names_the_test_table() -> None:
    columns = {**PAIRS, "w": [1.0] * 6}
    with pytest.raises(DataError, match=r"^test\.csv, line 2: the weight column 'w' must be .*; received -2.0"):
        made(columns, test={"user": ["a"], "item": [1], "w": [-2.0]}, weight="w")


@pytest.mark.parametrize("values", [["heavy"] * 6, [[1.0]] * 6])
def test_a_weight_that_is_no_number_is_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: the weight column 'w' must hold numbers"):
        made({**PAIRS, "w": values}, weight="w")


def test_a_test_table_may_lack_the_weight_column() -> None:
    dataset = made(
        {**PAIRS, "w": [1.0] * 6}, test={"user": ["a"], "item": [1]}, query="user", candidate="item", weight="w"
    )
    assert dataset.parts.test.tolist() == [6]
    assert dataset.examples.data.column("w").to_pylist() == [1.0] * 6 + [None]


def test_weights_of_nothing_but_zero_are_refused() -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: the weight column 'w' is zero in every row"):
        made(PAIRS | {"w": [0.0] * 6}, weight="w")


def test_a_test_column_without_any_value_takes_the_type_of_the_examples() -> None:
    nothing = pa.array([None, None], pa.string())
    data = made(PAIRS | {"age": [1, 2, 3, 4, 5, 6]}, test={"user": ["a", "b"], "item": [3, 2], "age": nothing})
    assert data.examples.data.column("age").to_pylist() == [1, 2, 3, 4, 5, 6, None, None]


def test_a_missing_time_names_file_column_and_row() -> None:
    with pytest.raises(DataError, match=r"pairs\.csv, column 'when': .*1 of 6 are missing, the first in row 3"):
        made(PAIRS | {"when": [1, 2, None, 4, 5, 6]}, time="when", split={"kind": "time"})


def test_a_test_table_without_a_key_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"test\.csv: there is no column 'item'; did you mean 'items'\?"):
        made(PAIRS, test={"user": ["a"], "items": [1]}, query="user", candidate="item")


def test_a_test_table_of_other_types_is_refused() -> None:
    with pytest.raises(DataError, match=r"test\.csv does not fit pairs\.csv: .*item.*Give both the same columns"):
        made(PAIRS, test={"user": ["a"], "item": ["one"]}, query="user", candidate="item")


# --- entities -----------------------------------------------------------------------------------------------------


def test_a_missing_entity_key_is_refused_with_its_line() -> None:
    with pytest.raises(DataError, match=r"items\.csv, line 3: the key column 'item' is empty"):
        made(PAIRS, entities=items({"item": [1, None, 3]}))


def test_a_repeated_entity_key_is_refused_with_its_value() -> None:
    with pytest.raises(
        DataError, match=r"items\.csv: the key column 'id' must hold each key once; 7 occurs 3 times, and 2"
    ):
        made(PAIRS, entities=items({"id": [1, 7, 7, 8, 7, 8]}, key="id"))


def test_an_entity_without_its_columns_is_refused() -> None:
    with pytest.raises(DataError, match=r"items\.csv: there is no column 'id'.*'item', 'name'"):
        made(PAIRS, entities=items({"item": [1], "name": ["one"]}, key="id"))
    with pytest.raises(DataError, match=r"items\.csv: there is no column 'titl'; did you mean 'title'\?"):
        made(PAIRS, entities=items({"item": [1], "title": ["one"]}, title="titl"))
    shops = {"shop": EntityTable("shop", "shop", table({"shop": [1]}, "shops.csv"))}
    with pytest.raises(DataError, match=r"pairs\.csv: there is no column 'shop'"):
        made(PAIRS, entities=shops)


def test_keys_that_do_not_fit_the_entity_table_are_refused_with_the_first() -> None:
    columns = {"user": ["a", "b", "c"], "item": ["1", "2", "two"]}
    message = r"pairs\.csv, line 4: the column 'item' holds 'two', .*items\.csv.*'item' are int64"
    with pytest.raises(DataError, match=message):
        made(columns, entities=items({"item": [1, 2]}), query="user", candidate="item")


def test_keys_that_can_be_written_as_those_of_the_entity_are_fine() -> None:
    columns = {"user": ["a", "b"], "item": [1, 2]}
    assert "item" in made(columns, entities=items({"item": ["1", "2"]}), query="user", candidate="item").entities


# --- times --------------------------------------------------------------------------------------------------------

NOON = 1717149600.0  # 2024-05-31T10:00:00Z


@pytest.mark.parametrize(
    "values",
    [
        ["2024-05-31T10:00:00Z", None],
        ["2024-05-31T12:00:00+02:00", ""],
        ["2024-05-31 05:30:00-0430", None],
        ["2024-05-31 10:00", None],
        [1717149600, None],
        [1717149600.0, float("nan")],
        [dt.datetime(2024, 5, 31, 10, 0, tzinfo=dt.UTC), None],
        [dt.datetime(2024, 5, 31, 12, 0, tzinfo=dt.timezone(dt.timedelta(hours=2))), None],
        [dt.datetime(2024, 5, 31, 10, 0), None],  # no zone: UTC
    ],
)
def test_one_moment_in_many_spellings(values: list[Any]) -> None:
    values = [None if value == "" else value for value in values]
    seconds = times_of(table({"t": values}), "t")
    assert seconds.dtype == np.float64
    assert seconds[0] == NOON
    assert np.isnan(seconds[1])


def test_dates_and_fractions() -> None:
    assert times_of(table({"t": [dt.date(1970, 1, 2)]}), "t").tolist() == [86400.0]
    assert times_of(table({"t": ["1970-01-01T00:00:00.25+00:00"]}), "t").tolist() == [0.25]


def test_zones_are_compared_as_moments_in_a_split() -> None:
    when = ["2024-01-01T00:30:00+02:00", "2023-12-31T23:00:00Z", "2023-12-31T23:45:00+01:00", "2023-12-31T22:00:00Z"]
    columns = {"user": ["a", "b", "a", "b"], "item": [1, 2, 3, 4], "when": when}
    split = {"kind": "time", "validation": 0.25, "test": 0.25}
    parts = made(columns, split=split, query="user", candidate="item", time="when").parts
    assert (parts.test.tolist(), parts.validation.tolist(), parts.train.tolist()) == ([1], [2], [0, 3])


@pytest.mark.parametrize("values", [["yesterday"], [[1, 2]], ["2024-02-31"], [b"x"]])
def test_what_is_no_time_is_refused(values: list[Any]) -> None:
    with pytest.raises(
        DataError, match=r"pairs\.csv, line 2: the time column 't' must hold finite numbers, dates or texts"
    ):
        times_of(table({"t": values}), "t")
