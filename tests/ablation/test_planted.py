"""What was planted in the shop is found.

- Retrieval: the useless tower's interval covers zero, the others come in the planted order; the tower model likewise.
- The whole model, asked tower by tower, is the one that the Run was measured as.
- ``absent`` of one tower is the model's own ``predict(without=…)``; ``mean`` and ``absent`` differ where a gate stands behind.
- Shapley values add up to what the towers have beyond none, and every subset is told.
- The interval of a column within the useless tower covers zero, that of the best one does not.
- Verdicts name the cost with its interval, whether it is chance, and the share of the time.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from towerkit.ablation.games import chosen_metrics, game_of
from towerkit.ablation.opening import spec_of
from towerkit.ablation.result import Ablation
from towerkit.ablation.study import ablate
from towerkit.evaluation.samples import values_of_sample
from towerkit.metrics.tasks import task_metrics
from towerkit.models.answer import TaskPredictor

from .conftest import Trained, close


@pytest.fixture(scope="module")
def found(two_tower: Trained) -> Ablation:
    return ablate(two_tower.run, two_tower.dataset, modes=["absent", "permute"])


@pytest.fixture(scope="module")
def predicted(tower_model: Trained) -> Ablation:
    return ablate(tower_model.run, tower_model.dataset, modes=["absent", "mean", "permute"], columns=True)


def test_the_useless_tower_of_a_retrieval_is_found_and_the_order_of_the_others(found: Ablation) -> None:
    for played in found.played.values():
        pair = played.alone["candidate.shelf"]["ndcg@10"]
        assert pair.low <= 0.0 <= pair.high
        assert not pair.is_clear
        best = played.alone["candidate.category"]["ndcg@10"]
        assert best.high < 0.0
        assert best.is_clear
    order = [name for name in found.order("ndcg@10", "permute") if name.startswith("candidate.")]
    assert order == ["candidate.category", "candidate.brand", "candidate.color", "candidate.shelf"]


def test_the_useless_tower_of_a_prediction_is_found_and_the_order_of_the_others(predicted: Ablation) -> None:
    assert predicted.order("recommended/auc", "permute") == ["text", "table", "noise"]
    share = predicted.played["permute"].shares["noise"]["recommended/auc"]
    assert share.low <= 0.0 <= share.high
    assert not predicted.played["permute"].alone["noise"]["recommended/auc"].is_clear
    assert predicted.played["permute"].alone["text"]["recommended/auc"].is_clear


def test_the_whole_model_is_the_one_that_was_measured(two_tower: Trained, tower_model: Trained) -> None:
    for trained in (two_tower, tower_model):
        run = trained.run
        named = chosen_metrics(run, [])
        game = game_of(run, spec_of(run), trained.dataset, named)
        whole = values_of_sample(game.answers(frozenset(), "absent", 0))
        assert close(whole, {name: run.evaluation.metrics[name].value for name in named})


def test_absent_is_what_the_model_says_without_the_tower(tower_model: Trained) -> None:
    run, dataset = tower_model.run, tower_model.dataset
    assert isinstance(run.model, TaskPredictor)
    game = game_of(run, spec_of(run), dataset, ["rating/accuracy"])
    found = values_of_sample(game.answers(frozenset(["text"]), "absent", 0))
    table = replace(dataset.examples, data=dataset.examples.data.take(dataset.parts.test))
    said = run.model.predict(table, without=["text"])["rating"]
    truth = run.model.tasks["rating"].encode(dataset.labelled("rating", dataset.parts.test))
    assert found == {"rating/accuracy": task_metrics(truth, said, kind="ordinal")["accuracy"]}


def test_shares_add_up_and_every_subset_is_told(predicted: Ablation) -> None:
    for mode, played in predicted.played.items():
        left = dict(played.subsets)
        assert len(left) == 8, mode
        for metric in predicted.whole:
            total = sum(share[metric].value for share in played.shares.values())
            assert np.isclose(total, left["noise", "table", "text"][metric] - left[()][metric])
            alone = played.alone["text"][metric]
            assert np.isclose(left["noise", "table"][metric], alone.second)


def test_a_tower_model_that_knows_nothing_is_at_chance(predicted: Ablation) -> None:
    for mode in ("absent", "mean"):
        assert dict(predicted.played[mode].subsets)[()]["recommended/auc"] == 0.5


def test_columns_are_shuffled_one_by_one(predicted: Ablation) -> None:
    assert {tower: list(columns) for tower, columns in predicted.columns.items()} == {
        "noise": ["noise_a", "noise_b"],
        "table": ["age", "category"],
        "text": ["title", "text"],
    }
    text = predicted.columns["text"]["text"]["recommended/auc"]
    noise = predicted.columns["noise"]["noise_a"]["recommended/auc"]
    assert text.is_clear
    assert text.difference < 0.0
    assert not noise.is_clear
    assert noise.low <= 0.0 <= noise.high


def test_verdicts_and_the_shape_of_the_json(found: Ablation) -> None:
    content = found.as_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["kind"] == "ablation"
    assert list(content["modes"]) == ["absent", "permute"]
    shelf = content["towers"]["candidate.shelf"]
    assert shelf["reads"] == ["shelf_code"]
    assert shelf["bytes"] == 4 * shelf["parameters"]
    assert shelf["ms_per_row"] > 0.0
    assert "ndcg@10 (within chance)" in shelf["verdict"]
    assert shelf["verdict"].endswith(f"{shelf['share']:.0%} of the time to embed a candidate [absent].")
    category = content["towers"]["candidate.category"]["verdict"]
    pair = found.played["absent"].alone["candidate.category"]["ndcg@10"]
    assert f"costs {-pair.difference:.4f} ± {(pair.high - pair.low) / 2:.4f} ndcg@10 and saves" in category
    total = sum(tower["share"] for name, tower in content["towers"].items() if name.startswith("candidate."))
    assert 0.5 < total <= 1.0


def test_the_same_call_gives_the_same_figures(two_tower: Trained, found: Ablation) -> None:
    again = ablate(two_tower.run, two_tower.dataset, modes=["permute"], towers=["candidate.brand"])
    assert again.played["permute"].subsets == []
    one = again.played["permute"].alone["candidate.brand"]["ndcg@10"]
    assert one.difference == found.played["permute"].alone["candidate.brand"]["ndcg@10"].difference
