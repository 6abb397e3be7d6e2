"""Evaluation settings from the spec to the Run and back.

Pinned: a Run keeps its segments, and measures its own test rows again to the same figures, those of columns that no tower reads
included, while query columns that nobody names are not kept; the command line and the card show them; two Runs are compared
within them; a segment that cannot be measured is refused before training; seen pairs may be answered where the spec says so;
AUC selects an epoch, and is counted during training only then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import towerkit as tk
from towerkit.artifact.arrow import load_table
from towerkit.cli import app
from towerkit.core.errors import DataError, SpecError
from towerkit.data.readers import read_table
from towerkit.evaluation.compare import compare_runs
from towerkit.run import Run

SEGMENTS = ["activity", "popularity", "cold_candidate", "user_id.city", "product_id.price"]
ID = {"kind": "id", "dim": 4}


def spec(**evaluation: Any) -> dict[str, Any]:
    """A small two-tower."""
    return {
        "model": {"kind": "two_tower", "query": ID, "candidate": ID},
        "training": {"epochs": 1},
        "evaluation": {"k": [5], "baselines": ["popularity"], **evaluation},
    }


def data() -> tk.Dataset:
    """The small shop, with both entity tables."""
    tables = {name: f"builtin:shop-small/{table}" for name, table in (("user_id", "users"), ("product_id", "products"))}
    return tk.read(
        "builtin:shop-small/purchases", query="user_id", candidate="product_id", time="time", entities=tables
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A Run with segments."""
    return tk.fit(spec(segments=SEGMENTS), data(), run=tmp_path_factory.mktemp("runs") / "one")


def test_the_segments_are_read_back_and_measured_again(run: Run) -> None:
    stored = tk.load(run.path).evaluation
    assert sorted(stored.segments) == sorted(SEGMENTS)
    assert sorted(stored.details) == ["ranking", "segments"]
    dataset = data()
    test_rows = dataset.examples.data.take(pa.array(dataset.parts.test))
    again = tk.load(run.path).evaluate(test_rows)
    assert again.metrics["ndcg@5"] == stored.metrics["ndcg@5"] and again.metrics["auc"] == stored.metrics["auc"]
    assert again.as_dict()["segments"] == stored.as_dict()["segments"]
    assert again.details["segments"].equals(stored.details["segments"])
    baseline = run.baselines["popularity"]
    assert {s: set(v) for s, v in baseline.segments.items()} == {s: set(v) for s, v in stored.segments.items()}
    assert baseline.segments["user_id.city"] != stored.segments["user_id.city"]


def test_of_the_queries_only_the_named_column_is_kept(run: Run) -> None:
    assert load_table(run.path / "model" / "query.arrow").column_names == ["user_id", "city"]
    assert {"age", "plan"} <= set(read_table("builtin:shop-small/users").data.column_names)


def test_people_see_the_segments(run: Run) -> None:
    shown = CliRunner().invoke(app, ["evaluate", str(run.path)]).output
    card = (run.path / "card.md").read_text(encoding="utf-8")
    for name in SEGMENTS:
        assert f"ndcg@5 by {name}" in shown and f"ndcg@5 by {name}" in card
    cities = list(run.evaluation.segments["user_id.city"])
    assert all(city in shown and f"| {city} |" in card for city in cities) and len(cities) > 1
    figures = json.loads(CliRunner().invoke(app, ["evaluate", str(run.path), "--json"]).output)
    assert figures["segments"]["user_id.city"][cities[0]]["n"] > 0
    assert "nan" not in shown and "nan" not in card.split("## Protocol")[0], "a figure without an interval stands alone"


def test_two_runs_are_compared_within_segments(run: Run) -> None:
    pair = compare_runs(run.evaluation, {"same": run.evaluation}, metrics=["ndcg@5", "auc"])["same"]
    assert sorted(pair.segments) == sorted(SEGMENTS) and not pair.left_out
    assert {each.difference for values in pair.segments.values() for each in next(iter(values.values())).values()} == {
        0.0
    }


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("user_id.cty", r"users.*has no column 'cty'; did you mean 'city'\?"),
        ("product_id.title", r"'title' has [\d,]+ different values"),
        ("citty", r"'citty' is no segment of a ranking"),
    ],
)
def test_a_segment_that_cannot_be_measured_is_refused_before_training(segment: str, message: str) -> None:
    with pytest.raises((DataError, SpecError), match=message):
        tk.fit(spec(segments=[segment]), data())


def test_a_segment_stands_once() -> None:
    with pytest.raises(SpecError, match=r"every segment may stand once; received \['activity', 'activity'\]"):
        tk.fit(spec(segments=["activity", "activity"]), data())


def test_seen_pairs_may_be_answered_and_auc_may_select(run: Run, tmp_path: Path) -> None:
    other = tk.fit(spec(exclude_seen=False, select_by="auc"), data(), run=tmp_path / "other")
    protocol, usual = other.evaluation.protocol, run.evaluation.protocol
    assert protocol["seen"] == "training pairs may be answered" != usual["seen"]
    assert protocol["positives"] == usual["positives"] + usual["repeats_left_out"]
    assert usual["repeats_left_out"] > 0 == protocol["repeats_left_out"]
    epochs = [json.loads((path / "history.jsonl").read_text().splitlines()[0]) for path in (other.path, run.path)]
    assert 0 < epochs[0]["validation/auc"] < 1 and "validation/auc" not in epochs[1]
