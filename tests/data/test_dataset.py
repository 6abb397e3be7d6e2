"""Data sets from an example table, entity tables and an optional test table.

Invariants:
- a test file is read as the example file is (separator, names, header), unless it says otherwise;
- every example row is in exactly one part, also where the test table is given apart;
- a key is present, an entity's key is present and stands once, a weight is finite and not negative, a ranking has two
  queries and two candidates: else an error with file, row, column and value, and it names the table that the row is in;
- keys of the examples can be written in the type of the entity table's key, or the error says which cannot;
- a test table may lack the weight column;
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
    with pytest.raises(DataError, match=r"pairs\.csv: the time column 't' must hold numbers, dates or texts like"):
        times_of(table({"t": values}), "t")
