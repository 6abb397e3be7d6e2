"""Presets from data to a Run (`towerkit.presets`, `tk.fit(…, preset=…)`).

Pinned here:
- on pairs of two tastes the preset beats popularity by far; the Run is an ordinary one whose spec trains the same vectors
  again, and whose history begins with what was tried;
- the figure of the winner is that of the tower itself, trained on the training rows and validated by the library;
- test rows change nothing that is chosen; the same data gives the same choice;
- `best` is a fusion with weights that were chosen, and is as good as its members on validation; a blend's figure is that of the
  fusion, trained and validated by the library; what is held stays, and with no time left the towers alone remain;
- pairs that cannot be chosen on are refused: one query, one candidate, no validation rows, another model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import towerkit as tk
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.shop import shop_table
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.rank_combine import WeightedSpec
from towerkit.presets import choose, start_of
from towerkit.presets.validation import Validation
from towerkit.spec import ModelingSpec
from towerkit.towers import SpectralTowerSpec
from towerkit.training.progress import Silent

ROLES = {"query": "user", "candidate": "item"}


def tastes(seed: int = 0, users: int = 60, items: int = 40, each: int = 12) -> dict[str, list[str]]:
    """Users of an even number like even items, more so the first ones; the others odd ones."""
    draw = np.random.default_rng(seed)
    rows: dict[str, list[str]] = {"user": [], "item": []}
    weights = 1 / np.arange(1, items // 2 + 1) ** 0.7
    for user in range(users):
        for item in draw.choice(items // 2, each, replace=False, p=weights / weights.sum()):
            rows["user"].append(f"u{user}")
            rows["item"].append(f"i{2 * item + user % 2:02d}")
    return rows


def shop(**options: Any) -> Dataset:
    """Purchases of the bundled shop: what was bought together says more than a few directions do."""
    pairs = shop_table("purchases", size="small").select(["user_id", "product_id"])
    return tk.read(pairs, query="user_id", candidate="product_id", **options)


def dataset(**options: Any) -> Dataset:
    return tk.read(tastes(), **ROLES, **options)


def start(**changes: Any) -> ModelingSpec:
    return parse(ModelingSpec, {**start_of("spectral"), **changes}, "the preset")


def test_a_preset_is_an_ordinary_run(tmp_path: Path) -> None:
    run = tk.fit(tastes(), **ROLES, preset="spectral", run=tmp_path / "run")
    assert run.evaluation.metrics["ndcg@5"].value > 1.3 * run.baselines["popularity"].metrics["ndcg@5"].value
    assert run.recommend("u2", k=3).num_rows == 3
    tower = run.spec["model"]["query"]
    assert tower["kind"] == "spectral" and tower == run.spec["model"]["candidate"]
    records = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    tried = [record for record in records if record["stage"] == "search"]
    assert len(tried) > 8 and records[-1]["stage"] == "train"
    best = max(tried, key=lambda record: record["validation/ndcg@20"])
    assert all(best[name] == tower[name] for name in ("dim", "power", "weight", "query_exponent", "candidate_exponent"))
    again = tk.fit({**run.spec, "training": {"epochs": 1}}, dataset(), run=tmp_path / "again")
    assert again.evaluation.metrics["ndcg@5"].value == run.evaluation.metrics["ndcg@5"].value


def test_what_is_measured_is_what_is_trained(tmp_path: Path) -> None:
    data = dataset(split={"kind": "per_query", "validation": 0.25, "test": 0.0})
    tower = SpectralTowerSpec(dim=4, power=1.3, weight=0.2, spare=30)
    own = start(model={"kind": "two_tower", "query": tower, "candidate": tower})
    figures = Validation(own, data).figures(tower)
    run = tk.fit(own, data, run=tmp_path / "run")  # without test rows, the validation rows are measured
    for name in ("ndcg@5", "recall@20", "mrr@10"):
        assert figures[name] == pytest.approx(run.evaluation.metrics[name].value, abs=1e-6)
    assert 0.2 < figures["ndcg@5"] < 1


def test_towers_that_share_a_decomposition_are_cut_from_it() -> None:
    own, data = start(), dataset()
    shared, alone = Validation(own, data), Validation(own, data)
    for dim in (24, 8, 16, 24):
        tower = SpectralTowerSpec(dim=dim, spare=40 - dim)
        assert shared.figures(tower) == Validation(own, data).figures(tower)
    assert alone.figures(SpectralTowerSpec(dim=3)) != alone.figures(SpectralTowerSpec(dim=8))


def test_some_queries_stand_for_all() -> None:
    own, data = start(), dataset()
    tower = SpectralTowerSpec(dim=8)
    few, everyone = Validation(own, data, queries=20), Validation(own, data)
    assert few.pairs.nnz == everyone.pairs.nnz
    assert few.figures(tower) != everyone.figures(tower)
    assert few.figures(tower) == Validation(own, data, queries=20).figures(tower)


def test_test_rows_choose_nothing() -> None:
    rows = tastes()
    tests = [{"user": rows["user"][:40], "item": ["i00"] * 40}, {"user": rows["user"][-40:], "item": ["i39"] * 40}]
    chosen = []
    for test in tests:
        data = tk.read(rows, **ROLES, test=test, split={"kind": "per_query", "validation": 0.2})
        chosen.append(choose(start(), data, Silent()))
        assert len(chosen[-1].dataset.parts.validation) == 0  # the final model learns from these rows too
        assert set(chosen[-1].dataset.parts.train) == set(data.parts.train) | set(data.parts.validation)
    assert chosen[0].spec == chosen[1].spec
    without = [[{k: v for k, v in record.items() if k != "seconds"} for record in each.records] for each in chosen]
    assert json.dumps(without[0]) == json.dumps(without[1])


def test_the_best_preset_is_a_fusion_with_chosen_weights(tmp_path: Path) -> None:
    pairs = shop_table("purchases", size="small").select(["user_id", "product_id"])
    run = tk.fit(pairs, query="user_id", candidate="product_id", preset="best", run=tmp_path / "run")
    model = run.spec["model"]
    assert model["kind"] == "late_fusion" and model["combine"]["kind"] == "weighted"
    weights = model["combine"]["weights"]
    assert weights.keys() == model["members"].keys() <= {"spectral", "cooccurrence", "ease"}
    assert sum(weights.values()) == pytest.approx(1) and all(weight > 0 for weight in weights.values())
    assert run.evaluation.metrics["ndcg@5"].value > 1.3 * run.baselines["popularity"].metrics["ndcg@5"].value
    assert run.recommend(pairs["user_id"][0].as_py(), k=3).num_rows == 3
    records = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    members = ("cooccurrence", "ease", "blend")
    tried = {name: [each for each in records if each.get("member") == name] for name in members}
    assert all(len(each) > 3 for each in tried.values())
    blends = [each["validation/ndcg@20"] for each in tried["blend"]]
    assert blends[0] == max(each["validation/ndcg@20"] for each in records if "dim" in each and "member" not in each)
    assert max(blends) > blends[0]  # the blend of the towers alone comes first
    again = tk.fit({**run.spec, "training": {"epochs": 1}}, shop(), run=tmp_path / "again")
    assert again.evaluation.metrics["ndcg@5"].value == run.evaluation.metrics["ndcg@5"].value


def test_what_is_measured_of_a_blend_is_what_is_trained(tmp_path: Path) -> None:
    data = shop(split={"kind": "per_query", "validation": 0.25, "test": 0.0})
    chosen = choose(parse(ModelingSpec, start_of("best"), "the preset"), data, Silent())
    assert isinstance(chosen.spec.model, LateFusionSpec) and isinstance(chosen.spec.model.combine, WeightedSpec)
    weights = chosen.spec.model.combine.weights
    assert weights is not None and len(weights) > 1
    blends = [each for each in chosen.records if each.get("member") == "blend"]
    figures = max(blends, key=lambda each: each["validation/ndcg@20"])
    assert weights == {name: figures[f"weight/{name}"] for name in weights}
    run = tk.fit(chosen.spec, data, run=tmp_path / "run")  # without test rows, the validation rows are measured
    for name in ("ndcg@5", "recall@20", "ndcg@20"):
        assert run.evaluation.metrics[name].value == pytest.approx(figures[f"validation/{name}"], abs=1e-6)


def test_what_is_held_of_the_best_preset_and_no_time() -> None:
    spec = parse(ModelingSpec, start_of("best"), "the preset")
    held = frozenset({"dim", "cooccurrence.query_exponent", "ease.l2"})
    chosen = choose(spec, dataset(), Silent(), held=held)
    assert {each["dim"] for each in chosen.records if "dim" in each} == {128}
    tried = [each for each in chosen.records if each.get("member") == "cooccurrence"]
    assert {each["query_exponent"] for each in tried} == {0.7} and len({each["source_exponent"] for each in tried}) > 1
    assert [each["l2"] for each in chosen.records if each.get("member") == "ease"] == [500.0]
    chosen = choose(spec, dataset(), Silent(), budget_s=1e-9)
    assert chosen.spec.model.kind == "two_tower" and len(chosen.records) == 2  # the towers, and they as a blend of one


def test_members_of_other_kinds_are_refused() -> None:
    start = start_of("best")
    start["model"]["members"]["words"] = {"kind": "bm25"}
    with pytest.raises(SpecError, match=r"a late_fusion of 'cooccurrence', 'ease', 'words'\. Do not"):
        choose(parse(ModelingSpec, start, "the preset"), dataset(), Silent())


def test_pairs_that_cannot_be_chosen_on() -> None:
    parts = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5
    given: dict[str, Any] = {"split": {"kind": "given", "column": "part"}, "preset": "spectral"}
    numbers = [f"k{n}" for n in range(30)]
    for one, role in (("user", "query"), ("item", "candidate")):
        many = {"user": "item", "item": "user"}[one]
        rows = {one: ["a"] * 20 + ["b"] * 10, many: numbers, "part": parts}
        with pytest.raises(DataError, match=f"several {role} keys.* hold 1 in the column '{one}'"):
            tk.fit(rows, **ROLES, **given)
    with pytest.raises(SpecError, match="no preset 'spectrum'; did you mean 'spectral'"):
        tk.fit(tastes(), **ROLES, preset="spectrum")
    with pytest.raises(SpecError, match="chooses the spec itself"):
        tk.fit({"model": {"kind": "two_tower"}}, preset="spectral")
    with pytest.raises(SpecError, match="begins anew"):
        tk.fit(tastes(), **ROLES, preset="spectral", resume=True)
    with pytest.raises(SpecError, match=r"holds none out; set split\.validation"):
        choose(start(), dataset(split={"kind": "per_query", "validation": 0.0, "test": 0.2}), Silent())
    ids = {"kind": "id", "dim": 4}
    other = parse(ModelingSpec, {"model": {"kind": "two_tower", "query": ids, "candidate": ids}}, "other")
    with pytest.raises(SpecError, match=r"two spectral towers; model\.query is a id"):
        choose(other, dataset(), Silent())
