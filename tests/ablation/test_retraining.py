"""Training again without a tower.

- The variants are the spec without one tower, with the plainest backbone, without the layers of a head; what cannot be is told why.
- The figures are those of a training of that spec by hand, under each seed; the Run itself stands for its own seed.
- What was trained is kept: a second call trains nothing, another seed only what is new, a file that is cut off is trained again.
- The useless tower may go, the best one may not; a Run that went on from another is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import towerkit as tk
from towerkit.ablation import retraining
from towerkit.ablation.study import ablate
from towerkit.ablation.variants import variants, without
from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import parse
from towerkit.spec import ModelingSpec

from .conftest import ADAM, TOWER_MODEL, TWO_TOWER, Trained, table

QUICK = {"epochs": 2, "batch_size": 256, "optimizer": ADAM}


def modeling(spec: Mapping[str, Any]) -> ModelingSpec:
    return parse(ModelingSpec, dict(spec), "the test")


def test_the_variants_of_a_tower_model() -> None:
    found = {each.name: each for each in variants(modeling(TOWER_MODEL))}
    assert list(found) == ["noise", "table", "text", "backbone", "head rating"]
    assert found["text"].spec is not None
    assert set(found["text"].spec.model.towers) == {"noise", "table"}  # type: ignore[union-attr]
    plain = found["backbone"].spec
    assert plain is not None
    assert plain.model.backbone.kind == "concat"  # type: ignore[union-attr]
    assert plain.model.heads["rating"].layers == ()  # type: ignore[union-attr]
    assert found["head rating"].spec is not None
    assert found["head rating"].spec.model.backbone.kind == "gated"  # type: ignore[union-attr]


def test_what_cannot_be_trained_says_why() -> None:
    found = {each.name: each for each in variants(modeling(TWO_TOWER))}
    assert found["query.id"].spec is None
    assert "no other tower, so that without query.id nothing is left" in found["query.id"].why_not
    assert found["candidate.shelf"].spec is not None
    with pytest.raises(SpecError, match=r"cannot be trained without query.id: it has no other tower"):
        without(modeling(TWO_TOWER), "query.id")
    bare = {"kind": "concat"}
    head = {"recommended": {"kind": "binary", "column": "recommended"}}
    model = {"kind": "tower_model", "towers": {"a": table("age"), "b": table("b")}, "backbone": bare, "heads": head}
    assert {each.name: each.why_not for each in variants(modeling({"model": model}))}["backbone"].startswith(
        "it already is a concat"
    )


def test_members_of_a_late_fusion() -> None:
    head = {"recommended": {"kind": "binary", "column": "recommended"}}
    towers = {
        name: {"kind": "tower_model", "towers": {name: table(name)}, "heads": head} for name in ("age", "category")
    }
    trees = {"kind": "xgboost", "columns": ["age"], "task": {"kind": "binary", "column": "recommended"}}
    weights = {"age": 1.0, "category": 2.0, "trees": 1.0}
    combine = {"kind": "weighted", "weights": weights}
    spec = modeling({"model": {"kind": "late_fusion", "members": {**towers, "trees": trees}, "combine": combine}})
    left = without(spec, "trees").model
    assert left.kind == "late_fusion"
    assert left.combine.weights == {"age": 1.0, "category": 2.0}  # type: ignore[union-attr]
    two = modeling({"model": {"kind": "late_fusion", "members": towers, "combine": {"kind": "average"}}})
    assert without(two, "age").model.kind == "tower_model"
    with_trees = modeling(
        {
            "model": {
                "kind": "late_fusion",
                "members": {"age": towers["age"], "trees": trees},
                "combine": {"kind": "average"},
            }
        }
    )
    with pytest.raises(SpecError, match="what is left is one xgboost"):
        without(with_trees, "age")


@pytest.fixture(scope="module")
def quick(tower_model: Trained, folder: Path) -> Trained:
    """A tower model that is trained fast."""
    spec = {**TOWER_MODEL, "training": {**QUICK, "epochs": 4, "batch_size": 64}}
    spec["model"] = {**spec["model"], "heads": {"recommended": {"kind": "binary", "column": "recommended"}}}
    return Trained(tk.fit(spec, tower_model.dataset, run=folder / "quick"), tower_model.dataset)


def test_training_again_is_what_a_training_by_hand_gives_and_is_kept(
    quick: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"modes": ["retrain"], "towers": ["noise", "text"], "kept": tmp_path / "parts"}
    found = ablate(quick.run, quick.dataset, **settings)
    spec = without(modeling(quick.run.spec), "text")
    by_hand = tk.fit(spec, quick.dataset, run=tmp_path / "by_hand").evaluation.metrics["auc"].value
    text = found.retrained["text"].metrics["auc"]
    assert text.second == by_hand
    assert text.first == quick.run.evaluation.metrics["auc"].value
    assert text.is_clear
    assert text.difference < 0.0
    assert found.retrained["noise"].metrics["auc"].low > 0.0  # of so few rows, a model without noise learns more
    assert found.verdict("noise").startswith("dropping noise gains 0.0")
    assert found.retrained["text"].by_seed == {0: {"auc": text.difference}}
    assert found.verdict("text").endswith("[retrain].")
    assert len(list((tmp_path / "parts").iterdir())) == 2

    trainings = []

    def counted(*given: Any, **named: Any) -> Any:
        trainings.append(given[0].training.seed)
        return original(*given, **named)

    original = retraining.train_and_evaluate
    monkeypatch.setattr(retraining, "train_and_evaluate", counted)
    again = ablate(quick.run, quick.dataset, **settings)
    assert trainings == []
    assert again.as_dict()["retrain"] == found.as_dict()["retrain"]
    first = sorted((tmp_path / "parts").iterdir())[0]
    first.write_text(first.read_text()[:100])
    settings["towers"] = ["text"]
    both = ablate(quick.run, quick.dataset, seeds=[0, 1], **settings)
    assert trainings in (
        [1, 1],
        [1, 0, 1],
    )  # the whole model and that without the text; the cut file, if it was the text's
    each = both.retrained["text"].by_seed
    assert list(each) == [0, 1]
    assert both.retrained["text"].metrics["auc"].difference == pytest.approx((each[0]["auc"] + each[1]["auc"]) / 2)


def test_a_run_that_went_on_is_refused(quick: Trained) -> None:
    extra = {**quick.run.manifest.extra, "continues": {"run": "before", "sha256": "0"}}
    later = replace(quick.run, manifest=replace(quick.run.manifest, extra=extra))
    with pytest.raises(RunError, match="went on from another Run"):
        ablate(later, quick.dataset, modes=["retrain"])
