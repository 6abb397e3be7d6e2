"""Columns that several towers read (`towerkit.models.overlaps`).

Pinned here:
- two towers of a tower model, or of one side of a two-tower, that read one column are told, with the column, the towers and the key
  that says it is meant; `overlap` ends it, and an `overlap` that no two towers read is told too;
- keys are no columns in this sense, the two sides of a two-tower are not compared, nor are the members of a late fusion; a
  tower model among these is looked at by itself;
- the remark stands in the protocol of the Run and in doctor's notes of the spec; a column that a tower reads and the data lacks is
  a problem there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import towerkit as tk
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.doctor import examine
from towerkit.spec import ModelingSpec

TABLE = {
    "age": [float(n % 50) for n in range(80)],
    "city": [("Rome", "Oslo", "Lima")[n % 3] for n in range(80)],
    "liked": [n % 2 for n in range(80)],
}
AGES = {"kind": "table", "columns": ["age"]}
PEOPLE = {"kind": "table", "columns": ["age", "city"]}
LIKED = {"liked": {"kind": "binary", "column": "liked"}}


@pytest.fixture(scope="module")
def people() -> Dataset:
    return tk.read(TABLE)


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    ids = {"user": [f"u{n % 9}" for n in range(80)], "item": [f"i{n % 7}" for n in range(80)]}
    users = {"user": [f"u{n}" for n in range(9)], "age": [float(n) for n in range(9)]}
    items = {"item": [f"i{n}" for n in range(7)], "age": [float(n) for n in range(7)]}
    return tk.read(ids, query="user", candidate="item", entities={"user": users, "item": items})


def told(model: dict[str, Any], dataset: Dataset) -> list[str]:
    return parse(ModelingSpec, {"model": model}, "the spec").model.remarks(dataset)


def towers(overlap: list[str] | None = None, **parts: dict[str, Any]) -> dict[str, Any]:
    extra = {} if overlap is None else {"overlap": overlap}
    return {"kind": "tower_model", "towers": parts, "heads": LIKED, **extra}


def test_a_shared_column_is_told_until_it_is_said_to_be_meant(people: Dataset) -> None:
    (text,) = told(towers(ages=AGES, people=PEOPLE), people)
    assert "'ages', 'people'" in text and "'age'" in text and "model.overlap: [age]" in text
    assert told(towers(["age"], ages=AGES, people=PEOPLE), people) == []
    assert told(towers(ages=AGES, cities={"kind": "table", "columns": ["city"]}), people) == []


def test_an_overlap_that_is_none_is_told(people: Dataset) -> None:
    (text,) = told(towers(["city"], people=PEOPLE), people)
    assert text == "model.overlap names 'city', which no two towers read."


def test_one_side_is_looked_at_by_itself_and_keys_do_not_count(pairs: Dataset) -> None:
    both = {"towers": {"one": AGES | {"dim": 8}, "two": AGES | {"dim": 8}, "ids": {"kind": "id", "dim": 8}}}
    twice = {"towers": {"ids": {"kind": "id", "dim": 8}, "more": {"kind": "id", "dim": 8}}}
    found = told({"kind": "two_tower", "query": both, "candidate": {"towers": {"one": AGES | {"dim": 8}}}}, pairs)
    assert len(found) == 1 and "model.query.overlap: [age]" in found[0] and "of user" in found[0]
    assert told({"kind": "two_tower", "query": twice, "candidate": {"kind": "id", "dim": 8}}, pairs) == []


def test_members_may_read_one_column_and_a_member_is_looked_at(people: Dataset) -> None:
    one, other = towers(ages=AGES), towers(ages=AGES, people=PEOPLE)
    (text,) = told({"kind": "late_fusion", "members": {"one": one, "other": other}}, people)
    assert text.startswith("model.members.other: the towers 'ages', 'people'")


def test_the_run_and_the_doctor_say_it(people: Dataset, tmp_path: Path) -> None:
    model = towers(ages=AGES, people=PEOPLE)
    run = tk.fit({"model": model, "training": {"epochs": 1}}, people, run=tmp_path / "run")
    (text,) = told(model, people)
    assert text in run.evaluation.protocol["split"]["warnings"]
    rows = ["age,city,liked", *(f"{a},{c},{y}" for a, c, y in zip(*TABLE.values(), strict=True))]
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "spec.yaml").write_text(
        "data: {examples: {path: people.csv}}\n"
        "model:\n  kind: tower_model\n"
        "  towers: {ages: {kind: table, columns: [age]}, people: {kind: table, columns: [age, city]}}\n"
        "  heads: {liked: {kind: binary, column: liked}}\n"
    )
    found = examine(str(tmp_path / "spec.yaml"))
    assert text in found["notes"] and found["problems"] == []
    spec = (tmp_path / "spec.yaml").read_text()
    (tmp_path / "spec.yaml").write_text(spec.replace("columns: [age, city]", "columns: [age, town]"))
    (problem,) = examine(str(tmp_path / "spec.yaml"))["problems"]
    assert "'town'" in problem
