"""Crosses that are suggested are those that help.

- A label that only two columns together tell (their exclusive or) has that pair on top, clearly, and no other is clear.
- The gain is the fall of the mean loss, by hand for a model without the columns' help; test rows are not read.
- Numbers are judged by their squared error, several labels by their mean log loss.
- What cannot be crossed, or is no tower model, is refused with the next step; the command prints an entry for the spec.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import towerkit as tk
from towerkit.cli import app
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.spec import ModelingSpec
from towerkit.tuning.crosses import suggest_crosses

ROWS = 900


def table() -> pa.Table:
    """Whether it is liked is the exclusive or of color and size, with a little noise; shape says nothing."""
    draw = np.random.default_rng(0)
    color, size, shape = draw.integers(0, 2, (3, ROWS))
    liked = (color ^ size) ^ (draw.random(ROWS) < 0.1)
    names = np.array(["a", "b"])
    stars = 2.0 * (color ^ size) + draw.normal(0, 0.1, ROWS)
    columns = {"color": names[color], "size": names[size], "shape": names[shape], "liked": liked, "stars": stars}
    return pa.table({**columns, "tags": [["x"] if each else ["y"] for each in liked], "only": ["one"] * ROWS})


def spec(columns: Any = ("color", "size", "shape"), head: Any = None, tower: str = "table") -> ModelingSpec:
    towers = {"about": {"kind": tower, "columns": list(columns)}}
    head = head or {"kind": "binary", "column": "liked"}
    return parse(ModelingSpec, {"model": {"kind": "tower_model", "towers": towers, "heads": {"liked": head}}}, "test")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tk.read(table(), split={"kind": "random", "validation": 0.3, "test": 0.2})


@pytest.mark.parametrize(
    "head",
    [None, {"kind": "regression", "column": "stars"}, {"kind": "multilabel", "column": "tags"}],
    ids=["binary", "regression", "multilabel"],
)
def test_the_pair_that_tells_is_on_top(data: Dataset, head: Any) -> None:
    first, *others = suggest_crosses(spec(head=head), data, buckets=64)
    assert set(first.columns) == {"color", "size"} and first.verdict == "clear"
    assert [each.verdict for each in others] != ["clear"] * len(others) and len(others) == 2
    assert all(each.loss.difference > first.loss.difference / 5 for each in others)
    assert first.loss.n == len(data.parts.validation)
    if head is None:  # nothing is known without the cross, and nine of ten with it
        assert first.loss.first == pytest.approx(np.log(2), abs=0.02)
        assert first.loss.second == pytest.approx(-0.9 * np.log(0.9) - 0.1 * np.log(0.1), abs=0.06)


def test_the_entry_goes_into_a_spec_and_is_not_suggested_again(data: Dataset) -> None:
    first = suggest_crosses(spec(), data, buckets=64)[0]
    entry = first.as_dict()["entry"]
    again = suggest_crosses(spec(["color", "size", "shape", entry]), data, buckets=64)
    assert first.columns not in {each.columns for each in again} and len(again) == 2
    assert all(each.verdict != "clear" for each in again)


def test_test_rows_are_not_read(data: Dataset) -> None:
    changed = data.examples.data.to_pydict()
    for row in data.parts.test.tolist():
        changed["liked"][row] = 1 - changed["liked"][row]
    other = tk.read(
        pa.table(changed, schema=data.examples.data.schema), split={"kind": "random", "validation": 0.3, "test": 0.2}
    )
    assert suggest_crosses(spec(), other, buckets=64) == suggest_crosses(spec(), data, buckets=64)


def test_what_is_refused(data: Dataset) -> None:
    with pytest.raises(DataError, match="No two columns of a table tower have 2 to 200 distinct values"):
        suggest_crosses(spec(["color", "only"]), data)
    with pytest.raises(SpecError, match="this model has none. Add a tower of kind table"):
        suggest_crosses(spec(["color"], tower="text"), data)
    with pytest.raises(SpecError, match="There is no task 'like'.*There are 'liked'"):
        suggest_crosses(spec(), data, task="like")
    ids = {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    with pytest.raises(SpecError, match="received a two_tower"):
        suggest_crosses(parse(ModelingSpec, {"model": ids}, "test"), data)
    whole = tk.read(table(), split={"kind": "random", "validation": 0.0, "test": 0.2})
    with pytest.raises(SpecError, match="the split has none; set split.validation above 0"):
        suggest_crosses(spec(), whole)


def test_the_command(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    parquet.write_table(table(), tmp_path / "rows.parquet")
    text = """
data: {examples: {path: rows.parquet}, split: {kind: random, validation: 0.3, test: 0.2}}
model:
  kind: tower_model
  towers: {about: {kind: table, columns: [color, size, shape]}}
  heads: {liked: {kind: binary, column: liked}}
"""
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    found = CliRunner().invoke(app, ["features", "suggest", str(tmp_path / "spec.yaml"), "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout.splitlines()[-1])
    assert told["kind"] == "crosses" and told["crosses"][0]["entry"] == {"cross": ["color", "size"], "buckets": 1024}
    shown = CliRunner().invoke(app, ["features", "suggest", str(tmp_path / "spec.yaml")])
    assert "- {cross: [color, size], buckets: 1024}" in shown.output and "clear" in shown.output
