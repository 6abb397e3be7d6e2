"""What doctor says of a trained Run.

- A model that says the same to everybody, vectors in one direction, pairs that are no nearer than others: each is found where it is
  planted, and not where it is not.
- Effective rank and uniformity are those of their formulas: of a cube, of one point, of the whole sphere.
- Histories: an epoch too many, the first the best, still getting better, a gap, a conflict of gradients.
- Figures: too good to be true, repeated rows, a split across time, a baseline that is better, one answer for all rows.
- Every finding says what was measured, what is normal and, where it is odd, the next step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.core.random import generator
from towerkit.data.shop.tables import shop_table
from towerkit.doctor import examine
from towerkit.doctor.answers_of_run import answer_findings
from towerkit.doctor.finding import Finding, finding_line
from towerkit.doctor.trained_run import findings_of
from towerkit.doctor.training_of_run import history_findings, measured_findings
from towerkit.doctor.vectors_of_run import effective_rank, uniformity, vector_findings
from towerkit.models.answer import Retriever
from towerkit.run import Run

IDS = {"kind": "id", "dim": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = tk.read(shop_table("purchases", 0, "small"), query="user_id", candidate="product_id", time="time")
    spec = {
        "model": {"kind": "two_tower", "query": IDS, "candidate": IDS},
        "objective": {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 10}]},
        "training": {"epochs": 8, "batch_size": 256, "optimizer": {"kind": "adam", "lr": 0.02}, "refit": False},
        "evaluation": {"k": [10], "baselines": ["popularity"]},
    }
    return tk.fit(spec, data, run=tmp_path_factory.mktemp("doctor") / "run")


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in found}


def test_a_sound_run_answers_each_query_differently(run: Run) -> None:
    found = by_name(findings_of(run))
    for check in ("collapse", "popularity", "rank of query vectors", "uniformity of candidate vectors", "alignment"):
        assert not found[check].is_odd, finding_line(found[check].as_dict())
    assert found["alignment"].values["pairs"] < found["alignment"].values["random"]
    told = examine(str(run.path))
    assert not told["problems"]
    assert {each["check"] for each in told["findings"]} == set(found)
    assert json.loads(json.dumps(told)) == told
    assert "(normal: " in finding_line(told["findings"][0])


def test_a_collapsed_model_is_found(run: Run) -> None:
    assert isinstance(run.model, Retriever)
    model = replace(run.model)
    rows = len(model.query.keys) + 1
    same = np.tile(np.eye(8, dtype=np.float32)[0], (rows, 1))
    vars(model)["query_vectors"] = same
    found = by_name([*answer_findings(model), *vector_findings(model)])
    assert found["collapse"].values["overlap"] > 0.6
    assert "the query side hardly matters" in found["collapse"].next
    assert found["rank of query vectors"].values["effective_rank"] == 0.0
    assert found["rank of query vectors"].is_odd
    assert found["uniformity of query vectors"].values["uniformity"] == 0.0
    assert found["alignment"].is_odd


def test_answers_that_are_only_popular_are_found(run: Run) -> None:
    assert isinstance(run.model, Retriever)
    model = replace(run.model)
    count = np.bincount(model.seen.indices, minlength=model.seen.shape[1])
    candidates = np.zeros((len(count) + 1, 8), np.float32)
    candidates[1:, 0] = np.argsort(np.argsort(count)) + 1.0
    queries = np.zeros((len(model.query.keys) + 1, 8), np.float32)
    queries[:, 0] = 1.0
    vars(model).update(query_vectors=queries, candidate_vectors=candidates)
    found = by_name(answer_findings(model))
    assert found["collapse"].is_odd
    assert found["popularity"].values["answers"] > 2 * found["popularity"].values["data"]


def test_rank_and_uniformity_are_their_formulas() -> None:
    draw = generator(0, "vectors")
    cloud = draw.normal(size=(4000, 6))
    assert effective_rank(cloud) == pytest.approx(6.0, abs=0.05)
    flat = cloud.copy()
    flat[:, 3:] = 0.0
    assert effective_rank(flat) == pytest.approx(3.0, abs=0.05)
    assert uniformity(cloud) < uniformity(flat) < uniformity(cloud + 10.0) < 0.0
    pair = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(pair) == pytest.approx(-8.0)  # two opposite points, 2 apart: log exp(-2 * 4)


def recorded(folder: Path, records: list[Mapping[str, Any]]) -> dict[str, Finding]:
    (folder / "history.jsonl").write_text("".join(json.dumps({"stage": "train", **each}) + "\n" for each in records))
    return by_name(history_findings(folder))


@pytest.mark.parametrize(
    ("values", "part", "lost"),
    [
        ([0.2, 0.4, 0.3], "it forgot what it knew", 0.25),
        ([0.4, 0.39, 0.38], "the first epoch was the best", 0.05),
        ([0.2, 0.3, 0.4], "still getting better", 0.0),
        ([0.2, 0.4, 0.39], "", 0.025),
    ],
)
def test_histories_of_rankings(tmp_path: Path, values: list[float], part: str, lost: float) -> None:
    found = recorded(tmp_path, [{"validation/ndcg@10": value, "loss": 1.0} for value in values])["over-fitting"]
    assert found.values["lost"] == pytest.approx(lost)
    assert part in found.next
    assert found.is_odd == bool(part)


def test_gaps_and_conflicts(tmp_path: Path) -> None:
    conflict = {"gradient_conflict/a.b": 0.75, "gradient_cosine/a.b": -0.2}
    found = recorded(
        tmp_path, [{"loss": 1.0, "validation/loss": 1.1}, {"loss": 0.4, "validation/loss": 0.8, **conflict}]
    )
    assert found["gap"].values["ratio"] == pytest.approx(2.0)
    assert "knows its training rows by heart" in found["gap"].next
    assert "a and b conflict in 75% of the steps, mean cosine -0.20" in found["gradient conflict"].measured
    assert "pcgrad" in found["gradient conflict"].next
    assert recorded(tmp_path, [{"loss": None}]) == {}


def test_figures_that_are_too_good_to_be_true(tmp_path: Path) -> None:
    rows = [{"x": float(n % 2), "copy": n % 2, "label": n % 2} for n in range(200)]
    data = tk.read(rows, split={"kind": "random", "test": 0.3})
    towers = {"copy": {"kind": "table", "columns": ["copy"]}, "x": {"kind": "table", "columns": ["x"]}}
    heads = {"label": {"kind": "binary", "column": "label"}}
    spec = {
        "model": {"kind": "tower_model", "towers": towers, "heads": heads},
        "training": {"epochs": 20, "batch_size": 32},
    }
    run = tk.fit(spec, data, run=tmp_path / "run")
    found = by_name(findings_of(run))
    assert "auc 1.0000" in found["leakage: too good"].measured
    assert "ablate --columns" in found["leakage: too good"].next
    assert found["leakage: repeats"].values["share"] == 1.0
    assert found["baselines"].is_odd  # the logistic regression is perfect, too
    table = run.evaluation.details["label"]
    flat = table.set_column(2, "p0", [np.full(len(table), 0.5)]).set_column(3, "p1", [np.full(len(table), 0.5)])
    same = replace(run.evaluation, details={"label": flat})
    assert "nearly the same of every row" in by_name(measured_findings(run.path, same, {}))["collapse"].next


def test_a_split_across_time_is_told(run: Run, tmp_path: Path) -> None:
    assert not by_name(measured_findings(run.path, run.evaluation, {}))["leakage: split"].is_odd
    data = json.loads((run.path / "data.json").read_text())
    data["split"] = {"kind": "random", "test": 0.1}
    (tmp_path / "data.json").write_text(json.dumps(data))
    assert "split: {kind: time}" in by_name(measured_findings(tmp_path, run.evaluation, {}))["leakage: split"].next
