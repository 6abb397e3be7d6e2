"""Members of a fusion of rankers that are fitted on pairs: co-occurrence and EASE.

Invariants:
- a member's figures are those that the baseline of the same settings has;
- where each member knows half of the queries, the fusion is better than both;
- given weights are taken, in their proportions, and validation is not asked;
- a Run comes back the same: every score, those of raw rows with known and unknown keys, and of new candidates;
- weights that do not fit the candidates are refused by name; pairs that are too many for a member are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.table import Table
from towerkit.ensembles.rank_files import load_rank_fusion, save_rank_fusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.experiment import Outcome, train_and_evaluate
from towerkit.spec import ModelingSpec
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.loop import Silent

COUNTS: dict[str, Any] = {"kind": "cooccurrence", "query_exponent": 0.9, "candidate_exponent": 0.3}
EASE: dict[str, Any] = {"kind": "ease", "l2": 30.0}
TOWER = {"kind": "spectral", "dim": 6}
TOWERS = {"kind": "two_tower", "query": TOWER, "candidate": TOWER}


def dataset(**split: Any) -> Dataset:
    """Users who like one of five sorts of items, some with many items of all sorts beside."""
    draw = np.random.default_rng(1)
    rows = [
        (f"u{user}", f"i{item}")
        for user in range(80)
        for item in range(60)
        if draw.random() < (0.45 if item % 5 == user % 5 else 0.05 + 0.1 * (user % 4 == 0))
    ]
    users, items = zip(*rows, strict=True)
    split = {"kind": "per_query", "validation": 0.15, "test": 0.25} | split
    return tk.read(pa.table({"user": users, "item": items}), query="user", candidate="item", split=split)


def spec_of(combine: Any = None, **changes: Any) -> ModelingSpec:
    members = {"counts": COUNTS, "ease": EASE, "towers": TOWERS}
    model = {"kind": "late_fusion", "members": members, "combine": combine or {"kind": "weighted"}} | changes
    return parse(ModelingSpec, {"model": model, "training": {"epochs": 1}, "evaluation": {"baselines": [COUNTS, EASE]}})


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return train_and_evaluate(spec_of(), dataset(), Silent())


def fusion_of(outcome: Outcome) -> RankFusion:
    assert isinstance(outcome.model, RankFusion)
    return outcome.model


def test_a_member_is_the_baseline(outcome: Outcome) -> None:
    assert outcome.baselines["member counts"].as_dict() == outcome.baselines["cooccurrence"].as_dict()
    assert outcome.baselines["member ease"].as_dict() == outcome.baselines["ease"].as_dict()
    assert 0.2 < outcome.baselines["ease"].metrics["ndcg@20"].value < 1
    weights = fusion_of(outcome).weights
    assert sum(weights.values()) == pytest.approx(1) and weights.keys() == {"counts", "ease", "towers"}


def test_given_weights_are_taken_in_their_proportions() -> None:
    weights = {"counts": 3.0, "ease": 1.0, "towers": 0.0}
    given = fusion_of(train_and_evaluate(spec_of({"kind": "weighted", "weights": weights}), dataset(), Silent()))
    assert given.weights == {"counts": 0.75, "ease": 0.25, "towers": 0.0}
    without = dataset(validation=0.0)
    given = fusion_of(train_and_evaluate(spec_of({"kind": "weighted", "weights": weights}), without, Silent()))
    assert given.weights == {"counts": 0.75, "ease": 0.25, "towers": 0.0}
    equal = fusion_of(train_and_evaluate(spec_of(), without, Silent()))
    assert set(equal.weights.values()) == {1 / 3}


def test_a_run_comes_back_the_same(outcome: Outcome, tmp_path: Path) -> None:
    fusion = fusion_of(outcome)
    save_rank_fusion(tmp_path, fusion)
    assert not (tmp_path / "members" / "counts" / "weights.safetensors").exists()  # counted again from the pairs
    loaded = load_rank_fusion(tmp_path)
    rows = np.arange(len(fusion.query.keys) + 1)
    np.testing.assert_array_equal(loaded.ranker.with_unknown(rows), fusion.ranker.with_unknown(rows))
    raw = Table(pa.table({"user": ["u7", "nobody", "u3"]}), "rows", 0)
    places = fusion.query.rows(pa.array(["u7", "nobody", "u3"]))
    assert places[1] == 0
    np.testing.assert_array_equal(loaded.ranker_of_rows(raw).scores(np.arange(3)), fusion.ranker.scores(places))
    new = Table(pa.table({"item": ["never", "i4"]}), "rows", 0)
    found = loaded.ranker_of_newcomers(new).scores(np.array([1, 0]))
    known = fusion.ranker.with_unknown(rows[1:])[:, fusion.candidate.rows(pa.array(["i4", "never"]))]
    np.testing.assert_allclose(found, known.T, rtol=1e-6)


def test_weights_that_do_not_fit(outcome: Outcome, tmp_path: Path) -> None:
    save_rank_fusion(tmp_path, fusion_of(outcome))
    path = tmp_path / "members" / "ease" / "weights.safetensors"
    weights = load_tensors(path)["weights"]
    save_tensors(path, {"weights": weights[:-1]})
    with pytest.raises(RunError, match=rf"ease/weights\.safetensors.* {len(weights)} x {len(weights)} float32"):
        load_rank_fusion(tmp_path)
    broken = weights.copy()
    broken[2, 3] = np.nan
    save_tensors(path, {"weights": broken})
    with pytest.raises(RunError, match=r"ease/weights\.safetensors: a weight is not finite"):
        load_rank_fusion(tmp_path)


def test_too_many_pairs_for_a_member() -> None:
    few = {"counts": {**COUNTS, "max_pairs": 10}, "towers": TOWERS}
    with pytest.raises(
        SpecError, match=r"member cooccurrence would count [\d,]+ pairs .* max_pairs 10\. Raise its limit"
    ):
        train_and_evaluate(spec_of(members=few), dataset(), Silent())
