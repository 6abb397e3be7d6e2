"""XGBoost's JSON, checked before XGBoost reads it.

Invariants: what XGBoost writes here (numbers, categories, several classes) is read, and answers as before to the last bit; every
place, length or type that XGBoost would trust is refused when it is wrong, with the file and the place in it; brackets nested
without end, which end the process in XGBoost, are told; unknown keys never reach XGBoost.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit.core.errors import RunError
from towerkit.ensembles.trees import read_trees

xgboost = pytest.importorskip("xgboost")


def grown(classes: int, rows: int = 300) -> tuple[Any, Any]:
    """A booster over a number and a category with gaps, and its rows."""
    draw = np.random.default_rng(3)
    values = np.stack([draw.normal(size=rows), draw.integers(0, 12, rows)], axis=1).astype(np.float32)
    values[::7, 1] = np.nan
    labels = (values[:, 0] > 0).astype(int) + (np.nan_to_num(values[:, 1]) > 6) * (classes > 2)
    data = xgboost.DMatrix(values, label=labels, feature_types=["q", "c"], enable_categorical=True)
    objective = (
        {"objective": "binary:logistic"} if classes == 2 else {"objective": "multi:softprob", "num_class": classes}
    )
    return xgboost.train({**objective, "max_depth": 3, "verbosity": 0, "nthread": 1}, data, 4), data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The content of a file of trees."""
    path = tmp_path_factory.mktemp("trees") / "trees.json"
    grown(3)[0].save_model(str(path))
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_the_checked_trees_answer_as_the_grown_ones(tmp_path: Path, classes: int) -> None:
    booster, data = grown(classes)
    booster.save_model(str(tmp_path / "trees.json"))
    again = xgboost.Booster()
    again.load_model(read_trees(tmp_path / "trees.json"))
    np.testing.assert_array_equal(booster.predict(data), again.predict(data))


def tree(content: Any) -> Any:
    """The first tree that splits by a category."""
    return next(each for each in content["learner"]["gradient_booster"]["model"]["trees"] if each["categories"])


def put(place: str, value: Any) -> Callable[[Any], None]:
    """Set a value in that tree: ``name`` or ``name[position]``."""
    name, _, position = place.rstrip("]").partition("[")

    def change(content: Any) -> None:
        if position:
            tree(content)[name][int(position)] = value
        else:
            tree(content)[name] = value

    return change


def model(content: Any) -> Any:
    return content["learner"]["gradient_booster"]["model"]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a child beyond the nodes": put("left_children[0]", 10**6),
    "a negative child": put("right_children[0]", -7),
    "a child before its parent": put("left_children[0]", 0),
    "twins": lambda c: put("left_children[0]", tree(c)["right_children"][0])(c),
    "a wrong parent": put("parents[1]", 5),
    "a parent of the root": put("parents[0]", 0),
    "a feature beyond the features": put("split_indices[0]", 9),
    "a negative feature": put("split_indices[0]", -1),
    "too few weights": lambda c: tree(c)["base_weights"].pop(),
    "too few splits": lambda c: tree(c)["split_conditions"].pop(),
    "a text for a number": put("split_conditions[0]", "1"),
    "a fraction for a place": put("left_children[0]", 1.0),
    "true for a place": put("left_children[0]", True),
    "many nodes": lambda c: tree(c)["tree_param"].update(num_nodes="999999999"),
    "nodes that were deleted": lambda c: tree(c)["tree_param"].update(num_deleted="1"),
    "a vector in each leaf": lambda c: tree(c)["tree_param"].update(size_leaf_vector="9"),
    "a huge category": put("categories[0]", 2**30),
    "a negative category": put("categories[0]", -1),
    "categories of no node": put("categories_nodes", [10**6]),
    "a segment from elsewhere": put("categories_segments[0]", 4),
    "a size beyond": put("categories_sizes[0]", 10**6),
    "no tree": lambda c: model(c)["trees"].clear(),
    "more trees than it says": lambda c: model(c)["gbtree_model_param"].update(num_trees="1"),
    "trees of no class": lambda c: model(c).update(tree_info=[7] * len(model(c)["tree_info"])),
    "steps beyond the trees": lambda c: model(c).update(iteration_indptr=[0, 10**6]),
    "another booster": lambda c: c["learner"]["gradient_booster"].update(name="dart"),
    "another objective": lambda c: c["learner"]["objective"].update(name="rank:ndcg"),
    "many classes": lambda c: c["learner"]["learner_model_param"].update(num_class="999999999"),
    "classes of the objective": lambda c: c["learner"]["objective"]["softmax_multiclass_param"].update(num_class="7"),
    "many features": lambda c: c["learner"]["learner_model_param"].update(num_feature="999999999"),
    "a type of no feature": lambda c: c["learner"].update(feature_types=["q", "x"]),
    "a base that is no number": lambda c: c["learner"]["learner_model_param"].update(base_score="[1,,2]"),
    "a base of other classes": lambda c: c["learner"]["learner_model_param"].update(base_score="[1,2]"),
    "a huge base": lambda c: c["learner"]["learner_model_param"].update(base_score="9e99"),
    "no learner": lambda c: c.pop("learner"),
    "no version": lambda c: c.pop("version"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_xgboost_would_trust_is_refused_when_it_is_wrong(whole: dict[str, Any], tmp_path: Path, what: str) -> None:
    content = copy.deepcopy(whole)
    CHANGES[what](content)
    (tmp_path / "trees.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"trees\.json: (learner|version).*; these are no trees that can be read"):
        read_trees(tmp_path / "trees.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b'{"a":' * 10**6, "nests 1,000,000 levels deep"), (b"", "is not valid JSON"), (b"[]", "no trees")],
)
def test_what_is_no_such_json_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "trees.json").write_bytes(data)
    with pytest.raises(RunError, match=rf"trees\.json: .*{message}"):
        read_trees(tmp_path / "trees.json")


def test_unknown_keys_never_reach_xgboost(whole: dict[str, Any], tmp_path: Path) -> None:
    content = copy.deepcopy(whole)
    content["learner"]["attributes"] = {"x": "y" * 1000}
    content["more"] = content["learner"]["more"] = tree(content)["more"] = [1]
    (tmp_path / "trees.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "whole.json").write_text(json.dumps(whole), encoding="utf-8")
    assert read_trees(tmp_path / "trees.json") == read_trees(tmp_path / "whole.json")
