"""Every kind of model can be ablated, its towers or members under the names that its spec gives them.

- The whole model is the one that was measured, whatever the kind; a member that is gone leaves what the others say.
- A member that is shuffled, a member without weight, a tower that reads the request: each as it is documented.
- Bad input is a message: one tower, an unknown name, mode or figure, other rows, tables in memory, columns of members.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import towerkit as tk
from towerkit.ablation.games import chosen_metrics, game_of
from towerkit.ablation.members import LateGame
from towerkit.ablation.opening import spec_of
from towerkit.ablation.study import ablate
from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.data.shop.tables import shop_table
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.evaluation.ranking import evaluate_ranking
from towerkit.evaluation.samples import values_of_sample

from .conftest import ADAM, Trained, close, purchases, reviews, table

LEARNED = {"epochs": 3, "batch_size": 256, "optimizer": ADAM, "refit": False}
RANKED = {"k": [10], "baselines": ["popularity"]}
SAMPLED = {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 5}]}
IDS = {"kind": "id", "dim": 8}


def trained(folder: Path, name: str, model: dict[str, Any], dataset: Any, **more: Any) -> Trained:
    spec = {"model": model, "training": LEARNED, **more}
    return Trained(tk.fit(spec, dataset, run=folder / name), dataset)


@pytest.fixture(scope="module")
def ranker(folder: Path) -> Trained:
    towers = {"user": {**IDS, "entity": "user_id"}, "product": {**IDS, "entity": "product_id"},
              "category": table("category", 8, entity="product_id"), "moment": table("quantity", 4)}  # fmt: skip
    model = {"kind": "ranker", "towers": towers, "absent": 0.2, "layers": [8],
             "heads": {"many": {"kind": "regression", "column": "label"}}}  # fmt: skip
    dataset = purchases()
    rows = dataset.examples.data
    labelled = rows.append_column("label", pa.array(rows.column("quantity").to_numpy() * 1.0))
    data = tk.read(labelled, query="user_id", candidate="product_id", time="time",
                   entities={"user_id": shop_table("users", 0, "small"), "product_id": shop_table("products", 0, "small")},
                   split={"kind": "time", "validation": 0.1, "test": 0.05})  # fmt: skip
    return trained(folder, "ranker", model, data, evaluation=RANKED, objective=SAMPLED)


@pytest.fixture(scope="module")
def fused(folder: Path) -> Trained:
    members = {"ids": {"kind": "two_tower", "query": IDS, "candidate": IDS}, "ease": {"kind": "ease"}}
    model = {"kind": "late_fusion", "members": members, "combine": {"kind": "average"}}
    return trained(folder, "fused", model, purchases(), evaluation=RANKED, objective=SAMPLED)


@pytest.fixture(scope="module")
def late(folder: Path) -> Trained:
    head = {"recommended": {"kind": "binary", "column": "recommended"}}
    members = {name: {"kind": "tower_model", "towers": {name: tower}, "heads": head} for name, tower in
               {"category": table("category", 8), "noise": table("noise_a", 8), "age": table("age", 8)}.items()}  # fmt: skip
    model = {"kind": "late_fusion", "members": members, "combine": {"kind": "stack", "folds": 2}}
    return trained(folder, "late", model, reviews())


@pytest.fixture(scope="module")
def joint(folder: Path) -> Trained:
    rows = shop_table("baskets", 0, "small")
    entities = {name: shop_table(of, 0, "small") for name, of in
                {"user_id": "users", "product_id": "products", "snack_id": "snacks"}.items()}  # fmt: skip
    dataset = tk.read(rows, query="user_id", time="time", entities=entities, split={"kind": "time"})
    model = {"kind": "joint", "query": {"towers": {"id": IDS, "age": table("age", 8)}},
             "candidates": {"product_id": {"towers": {"id": IDS, "brand": table("brand", 8)}}, "snack_id": IDS}}  # fmt: skip
    return trained(folder, "joint", model, dataset, evaluation=RANKED, objective=SAMPLED)


def test_a_stack_is_told_base_rates_in_the_place_of_members_that_are_lost(late: Trained) -> None:
    named = chosen_metrics(late.run, [])
    game = game_of(late.run, spec_of(late.run), late.dataset, named)
    assert isinstance(game, LateGame)
    fusion, names = game.fusion, list(game.fusion.members)
    said = fusion.member_predictions(game.table)
    rates = np.asarray(fusion.tasks["recommended"].frequencies)
    for lost in (names[:1], names):
        told = {
            name: {
                "recommended": np.broadcast_to(rates, own["recommended"].shape) if name in lost else own["recommended"]
            }
            for name, own in said.items()
        }
        found = game._of_task("recommended", fusion.tasks["recommended"], frozenset(lost), "absent", 0)
        np.testing.assert_array_equal(found, fusion.merged("recommended", told))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ranker", ["category", "moment", "product", "user"]),
        ("fused", ["ease", "ids"]),
        ("late", ["age", "category", "noise"]),
        ("joint", ["product_id.brand", "product_id.id", "query.age", "query.id", "snack_id.id"]),
    ],
)
def test_each_kind_has_its_parts_and_is_whole_as_it_was_measured(
    name: str, parts: list[str], request: pytest.FixtureRequest
) -> None:
    own: Trained = request.getfixturevalue(name)
    named = chosen_metrics(own.run, [])
    game = game_of(own.run, spec_of(own.run), own.dataset, named)
    assert sorted(game.parts) == parts
    whole = {metric: own.run.evaluation.metrics[metric].value for metric in named}
    for mode in ("absent", "permute"):
        assert close(values_of_sample(game.answers(frozenset(), mode, 0)), whole)
    found = ablate(own.run, own.dataset, modes=["absent", "mean", "permute"], repeats=1)
    assert found.notes == []
    for mode, played in found.played.items():
        assert sorted(played.alone) == parts
        for metric in named:
            left = dict(played.subsets)
            total = sum(share[metric].value for share in played.shares.values())
            assert np.isclose(total, whole[metric] - left[()][metric]), (mode, metric)
    assert all(cost.ms_per_row > 0.0 and 0.0 < cost.share <= 1.0 for cost in found.costs.values())


def test_a_ranking_does_not_miss_a_tower_of_the_request_and_a_task_does(ranker: Trained) -> None:
    found = ablate(ranker.run, ranker.dataset, modes=["absent"], towers=["moment"], metrics=["ndcg@10", "many/rmse"])
    pairs = found.played["absent"].alone["moment"]
    assert pairs["ndcg@10"].difference == 0.0
    assert pairs["many/rmse"].difference > 0.0
    assert "moment costs" in found.verdict("moment")


def test_without_a_member_the_other_ranks_alone(fused: Trained) -> None:
    model = fused.run.model
    assert isinstance(model, RankFusion)
    game = game_of(fused.run, spec_of(fused.run), fused.dataset, ["ndcg@10"])
    alone = values_of_sample(game.answers(frozenset(["ids"]), "absent", 0))
    task = game.asked.task  # type: ignore[attr-defined]
    ease = evaluate_ranking(model.member_rankers()["member ease"], task, [10], part="test", split={})
    assert close(alone, {"ndcg@10": ease.metrics["ndcg@10"].value})
    mean = values_of_sample(game.answers(frozenset(["ids"]), "mean", 0))
    shuffled = values_of_sample(game.answers(frozenset(["ids"]), "permute", 0))
    assert mean != alone != shuffled


def test_a_joint_model_shares_its_query_side(joint: Trained) -> None:
    found = ablate(joint.run, joint.dataset, modes=["absent"], towers=["query.id", "snack_id.id"])
    without_query, without_snack = (found.played["absent"].alone[name] for name in ("query.id", "snack_id.id"))
    assert without_query["product_id/ndcg@10"].difference != 0.0 != without_query["snack_id/ndcg@10"].difference
    assert without_snack["product_id/ndcg@10"].difference == 0.0 != without_snack["snack_id/ndcg@10"].difference
    columns = ablate(joint.run, joint.dataset, modes=["absent"], towers=["product_id.brand"], columns=True, repeats=1)
    assert list(columns.columns["product_id.brand"]) == ["brand"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"towers": ["tex"]}, r"no tower 'tex'.*did you mean 'text'"),
        ({"modes": ["absnt"]}, r"no mode 'absnt'; did you mean 'absent'"),
        ({"modes": []}, r"Name a mode"),
        ({"metrics": ["recommended/aux"]}, r"'recommended/aux' is no figure.*did you mean 'recommended/auc'"),
        ({"repeats": 0}, r"repeats must be at least 1; received 0"),
    ],
)
def test_a_wrong_setting_is_told(tower_model: Trained, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ablate(tower_model.run, tower_model.dataset, **settings)


def test_members_have_no_columns(fused: Trained, late: Trained) -> None:
    for own, kind in ((fused, "two_tower"), (late, "tower_model")):
        with pytest.raises(SpecError, match=f"member of a late fusion; ablate the Run of a {kind}"):
            ablate(own.run, own.dataset, modes=["absent"], columns=True)


def test_one_tower_is_nothing_to_compare(folder: Path) -> None:
    head = {"recommended": {"kind": "binary", "column": "recommended"}}
    model = {"kind": "tower_model", "towers": {"only": table("category", 8)}, "heads": head}
    own = trained(folder, "one", model, reviews())
    with pytest.raises(RunError, match=r"has one tower, 'only'.*two towers or more"):
        ablate(own.run, own.dataset)


def test_other_rows_are_refused_and_missing_data_is_told(tower_model: Trained, tmp_path: Path) -> None:
    fewer = tk.read(shop_table("reviews", 1, "small"), split={"kind": "random"})
    with pytest.raises(RunError, match=r"trained with other rows: its examples, test, train, validation differ"):
        ablate(tower_model.run, fewer)
    with pytest.raises(RunError, match=r"tables in memory.*towerkit.ablate\(run, dataset\)"):
        ablate(tower_model.run)
    file = tmp_path / "rows.csv"
    rows = shop_table("reviews", 0, "small").select(["age", "category", "recommended"]).slice(0, 300)
    from towerkit.data.writers import write_table

    write_table(rows, file)
    model = {"kind": "tower_model", "towers": {"a": table("age", 4), "b": table("category", 4)},
             "heads": {"recommended": {"kind": "binary", "column": "recommended"}}}  # fmt: skip
    spec = {"data": {"examples": {"path": str(file)}}, "model": model, "training": LEARNED}
    run = tk.fit(spec, run=tmp_path / "run")
    assert (
        ablate(run, modes=["absent"], towers=["a"]).played["absent"].alone["a"]["auc"].n
        == run.evaluation.metrics["auc"].n
    )
    shutil.move(file, tmp_path / "gone.csv")
    with pytest.raises(DataError, match=r"cannot be read again: .*rows.csv.*--base names another folder"):
        ablate(run)
