"""Estimators of scikit-learn as members.

Pinned: what is stored answers as scikit-learn's own object does, for every estimator of the menu, for classes and numbers; it
comes back from its files to the bit, and no file holds anything but arrays, JSON and vocabularies; a row alone is a row among
others; weights and missing labels count as they should; several labels are each predicted by themselves; arrays that are
damaged, or made up so that a row would never leave a tree, are a RunError; an estimator that cannot do a task, a column that
it cannot read and a row too few are refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.api import read
from towerkit.core.errors import DataError, RunError, SpecError, TrainingError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.table import Table
from towerkit.ensembles.estimators import base
from towerkit.ensembles.estimators.base import Goal, agreeing
from towerkit.ensembles.estimators.linear import Linear
from towerkit.ensembles.estimators.neighbors import KNNSpec
from towerkit.ensembles.estimators.trees import restored_trees
from towerkit.ensembles.sklearn import SklearnMember, SklearnSpec
from towerkit.features.labels import is_known
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.progress import Silent
from towerkit.training.spec import TrainingSpec

pytest.importorskip("sklearn")
SPLIT = {"kind": "random", "validation": 0.0, "test": 0.25}
CLASSIFIERS: list[dict[str, Any]] = [
    {"kind": "logistic_regression"},
    {"kind": "random_forest", "n_estimators": 20},
    {"kind": "extra_trees", "n_estimators": 20, "max_depth": 6},
    {"kind": "hist_gradient_boosting", "max_iter": 20},
    {"kind": "knn", "n_neighbors": 7, "weights": "distance"},
    {"kind": "svm"},
    {"kind": "svm", "kernel": "linear"},
    {"kind": "naive_bayes"},
]
REGRESSORS: list[dict[str, Any]] = [
    {"kind": "ridge"},
    {"kind": "random_forest", "n_estimators": 20},
    {"kind": "extra_trees", "n_estimators": 20},
    {"kind": "hist_gradient_boosting", "max_iter": 20},
    {"kind": "knn"},
    {"kind": "svm"},
    {"kind": "svm", "kernel": "linear"},
]


def data(rows: int = 300, seed: int = 1) -> Dataset:
    """Numbers with holes, a color, tags, and labels that they tell."""
    draw = np.random.default_rng(seed)
    size, height = draw.normal(size=(2, rows))
    color = draw.choice(["red", "green", "blue"], rows)
    score = size + (color == "red") + 0.2 * draw.normal(size=rows)
    names = np.array(["low", "mid", "top"])
    tags = [
        [n for n, has in (("a", s > 0), ("b", c == "red"), ("all", True)) if has]
        for s, c in zip(size, color, strict=True)
    ]
    return read(
        {
            "size": [None if n % 17 == 0 else value for n, value in enumerate(size.tolist())],
            "height": height,
            "color": color,
            "words": [f"a {c} thing of some make, number {n % 40}" for n, c in enumerate(color.tolist())],
            "is_up": (score > 0.3).astype(int),
            "level": names[np.digitize(score, [0.0, 1.0])],
            "price": 100 + 30 * score,
            "tags": tags,
            "w": draw.choice([0.0, 1.0, 2.0], rows),
        },
        split=SPLIT,
    )  # fmt: skip


def member_of(
    estimator: dict[str, Any], dataset: Dataset, column: str = "is_up", kind: str = "binary", **more: Any
) -> SklearnMember:
    """A fitted member."""
    plain = {
        "estimator": estimator,
        "columns": ["size", "height", "color"],
        "task": {"kind": kind, "column": column},
        **more,
    }
    return parse(SklearnSpec, plain).fit(dataset, TrainingSpec(), Silent())


def held_out(dataset: Dataset) -> Table:
    """The test rows."""
    return Table(dataset.examples.data.take(dataset.parts.test), "test")


def tasks_of(estimator: dict[str, Any]) -> list[tuple[str, str]]:
    """What it can predict."""
    classes = [("is_up", "binary"), ("level", "ordinal"), ("level", "multiclass"), ("tags", "multilabel")]
    return [
        *(classes if estimator in CLASSIFIERS else []),
        *([("price", "regression")] if estimator in REGRESSORS else []),
    ]


@pytest.mark.parametrize("estimator", [*CLASSIFIERS, {"kind": "ridge"}], ids=lambda e: "-".join(map(str, e.values())))
def test_every_estimator_learns_and_comes_back_from_its_files(estimator: dict[str, Any], tmp_path: Path) -> None:
    dataset = data()
    rows = held_out(dataset)
    for column, kind in tasks_of(estimator):
        member = member_of(estimator, dataset, column, kind)
        ((task, found),) = member.predict(rows).items()
        labels = member.tasks[task]
        truth = labels.encode(rows.data.column(column).combine_chunks())
        assert found.shape == (len(truth), labels.num_outputs) and np.isfinite(found).all()
        if kind == "regression":
            assert np.abs(found[:, 0] - truth).mean() < 0.7 * np.abs(truth - truth.mean()).mean()
        elif kind == "multilabel":
            assert ((found > 0.5) == truth).mean() > 0.85
            assert (found[:, labels.classes.index("all")] == 1.0).all(), "every training row has it"
        else:
            assert np.allclose(found.sum(axis=1), 1.0) and (found >= 0).all()
            assert (found.argmax(axis=1) == truth).mean() > 0.65
        folder = tmp_path / f"{column}-{kind}"
        member.save(folder)
        again = member.spec.load(folder)
        assert np.array_equal(again.predict(rows)[task], found)
        alone = Table(rows.data.slice(3, 1), "one row")
        assert np.allclose(again.predict(alone)[task][0], found[3], atol=1e-12)
        names = {path.name for path in folder.iterdir()}
        assert names <= {"encoder.json", "estimator.safetensors", *(f"vocabulary-{n}.arrow" for n in range(4))}


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 4), st.booleans())
def test_what_was_read_off_answers_as_scikit_learn_does(seed: int, classes: int, weighted: bool) -> None:
    """On rows that were not fitted; ``agreeing`` has compared it on those that were."""
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(90, 4)).astype(np.float32)
    truth = np.concatenate([np.arange(classes), draw.integers(0, classes, 90 - classes)])
    weight = draw.random(90) + 0.1 if weighted else None
    kept: list[Any] = []
    watched = base.agreeing

    def keep(found: Any, theirs: Any, *rest: Any) -> Any:
        kept.append(theirs)
        return watched(found, theirs, *rest)

    asked = draw.normal(size=(50, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("linear", "trees", "bayes"):
            patch.setattr(f"towerkit.ensembles.estimators.{module}.agreeing", keep)
        for estimator in (CLASSIFIERS[0], CLASSIFIERS[1], CLASSIFIERS[3], CLASSIFIERS[7]):
            spec = parse(
                SklearnSpec, {"estimator": estimator, "columns": ["x"], "task": {"kind": "multiclass", "column": "y"}}
            )
            found = spec.estimator.fit(features, truth, weight, Goal(4, classes), seed)
            assert np.allclose(found.predict(asked), kept[-1].predict_proba(asked), atol=1e-9)
        for estimator in REGRESSORS[:4]:
            spec = parse(
                SklearnSpec, {"estimator": estimator, "columns": ["x"], "task": {"kind": "regression", "column": "y"}}
            )
            found = spec.estimator.fit(features, features[:, 0] * 2.0, weight, Goal(4, 0), seed)
            assert np.allclose(found.predict(asked)[:, 0], kept[-1].predict(asked), atol=1e-6)


def test_machines_have_the_margins_of_scikit_learn() -> None:
    from sklearn.svm import SVC

    draw = np.random.default_rng(0)
    features, asked = (draw.normal(size=(80, 3)).astype(np.float32) for _ in range(2))
    truth = (features[:, 0] > 0).astype(int)
    spec = parse(
        SklearnSpec,
        {"estimator": {"kind": "svm", "gamma": 0.3}, "columns": ["x"], "task": {"kind": "binary", "column": "y"}},
    )
    found = spec.estimator.fit(features, truth, None, Goal(3, 2), 0)
    wanted = SVC(gamma=0.3, random_state=0).fit(features, truth == 1).decision_function(asked)
    assert np.allclose(found.machines[0].margin(asked), wanted)  # type: ignore[attr-defined]
    order = np.argsort(wanted)
    assert (np.diff(found.predict(asked)[order, 1]) >= 0).all(), "a sigmoid keeps the order"


def test_the_nearest_rows_are_those_of_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    draw = np.random.default_rng(0)
    features, asked = draw.normal(size=(60, 3)).astype(np.float32), draw.normal(size=(30, 3)).astype(np.float32)
    truth = draw.integers(0, 3, 60)
    for weights in ("uniform", "distance"):
        spec = KNNSpec(n_neighbors=5, weights=weights)
        asked[0] = features[7]  # a row that is known is answered by itself where distances count
        wanted = KNeighborsClassifier(5, weights=weights).fit(features, truth).predict_proba(asked)
        assert np.allclose(spec.fit(features, truth, None, Goal(3, 3), 0).predict(asked), wanted)


def test_a_weight_counts_as_often_and_a_row_of_weight_zero_not_at_all() -> None:
    rows = {"x": ["a"] * 90 + ["b"] * 90, "y": [0, 1, 1] * 60, "w": [0.0, 1.0, 1.0] * 30 + [2.0, 1.0, 0.0] * 30}
    dataset = read(rows, weight="w", split={"kind": "random", "validation": 0.0, "test": 0.0})
    for estimator in (
        {"kind": "knn", "n_neighbors": 60},
        {"kind": "random_forest", "max_depth": 2, "max_features": 1.0},
    ):
        spec = parse(SklearnSpec, {"estimator": estimator, "columns": ["x"], "task": {"kind": "binary", "column": "y"}})
        found = spec.fit(dataset, TrainingSpec(), Silent()).predict(
            Table(dataset.examples.data.take([0, 100]), "rows")
        )["y"][:, 1]
        assert found[0] > 0.6 and found[1] == pytest.approx(1 / 3, abs=0.1)


def test_texts_are_read_by_linear_estimators_and_refused_by_others(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    good = draw.integers(0, 2, 200)
    texts = [f"really {('awful', 'lovely')[g]} cloth number {draw.integers(0, 50)} of this sort" for g in good]
    dataset = read({"text": texts, "good": good}, split=SPLIT)
    task = {"kind": "binary", "column": "good"}
    for estimator in ({"kind": "logistic_regression"}, {"kind": "svm", "kernel": "linear"}):
        spec = parse(SklearnSpec, {"estimator": estimator, "columns": ["text"], "task": task})
        member = spec.fit(dataset, TrainingSpec(), Silent())
        found = member.predict(held_out(dataset))["good"]
        assert (found.argmax(axis=1) == good[dataset.parts.test]).mean() > 0.95
        member.save(tmp_path / str(estimator["kind"]))
        assert np.array_equal(spec.load(tmp_path / str(estimator["kind"])).predict(held_out(dataset))["good"], found)
    for estimator in ({"kind": "random_forest"}, {"kind": "svm"}):
        spec = parse(SklearnSpec, {"estimator": estimator, "columns": ["text"], "task": task})
        with pytest.raises(
            SpecError, match=f"'text' holds texts, and {estimator['kind']} reads no texts; use logistic_regression"
        ):
            spec.fit(dataset, TrainingSpec(), Silent())


def test_what_an_estimator_cannot_do_is_told_when_the_spec_is_read() -> None:
    plain = {"columns": ["x"], "task": {"kind": "regression", "column": "y"}}
    with pytest.raises(
        SpecError, match="logistic_regression predicts classes, and the task of 'y' is regression; use ridge"
    ):
        parse(SklearnSpec, {**plain, "estimator": {"kind": "logistic_regression"}})
    with pytest.raises(SpecError, match="ridge predicts numbers, and the task of 'y' is ordinal"):
        parse(SklearnSpec, {**plain, "estimator": {"kind": "ridge"}, "task": {"kind": "ordinal", "column": "y"}})
    with pytest.raises(SpecError, match=r"learns from each row alike; received 'focal' in the task of 'y'"):
        focal = {"kind": "binary", "column": "y", "focal": 2.0}
        parse(SklearnSpec, {**plain, "estimator": {"kind": "knn"}, "task": focal})
    with pytest.raises(SpecError, match=r"unknown kind 'ada_boost'.*'extra_trees', 'hist_gradient_boosting'"):
        parse(SklearnSpec, {**plain, "estimator": {"kind": "ada_boost"}})
    with pytest.raises(SpecError, match=r"unknown key 'n_estimator'; did you mean 'n_estimators'"):
        parse(SklearnSpec, {**plain, "estimator": {"kind": "random_forest", "n_estimator": 3}})


def test_a_class_of_one_row_and_too_few_neighbors_are_told() -> None:
    rows = {"x": np.arange(20.0), "y": ["a"] * 10 + ["b"] * 9 + ["c"]}
    dataset = read(rows, split={"kind": "random", "validation": 0.0, "test": 0.0})
    task = {"kind": "multiclass", "column": "y"}
    with pytest.raises(DataError, match="calibrated on folds and needs two training rows of each class; one has 1"):
        parse(SklearnSpec, {"estimator": {"kind": "svm"}, "columns": ["x"], "task": task}).fit(
            dataset, TrainingSpec(), Silent()
        )
    with pytest.raises(DataError, match="50 need as many training rows; there are 20"):
        knn = {"kind": "knn", "n_neighbors": 50}
        parse(SklearnSpec, {"estimator": knn, "columns": ["x"], "task": task}).fit(dataset, TrainingSpec(), Silent())
    with pytest.raises(DataError, match="no column 'z'"):
        parse(SklearnSpec, {"estimator": {"kind": "knn"}, "columns": ["z"], "task": task}).fit(
            dataset, TrainingSpec(), Silent()
        )
    with pytest.raises(SpecError, match=r"task\.layers"):
        layered = {**task, "layers": [4]}
        parse(SklearnSpec, {"estimator": {"kind": "knn"}, "columns": ["x"], "task": layered}).fit(
            dataset, TrainingSpec(), Silent()
        )


def test_a_version_that_keeps_its_numbers_otherwise_is_noticed() -> None:
    class Theirs:
        def predict(self, features: Any) -> Any:
            return np.full(len(features), 0.5)

    found = Linear(Goal(1, 0), np.zeros((1, 1)), np.array([0.6]))
    with pytest.raises(TrainingError, match=r"Theirs of scikit-learn .* differ by 0\.1 on the training rows"):
        agreeing(found, Theirs(), np.zeros((3, 1), np.float32), Goal(1, 0))


def test_what_scikit_learn_refuses_is_told_in_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("Input X is odd.\nSee the manual.")

    monkeypatch.setattr("towerkit.ensembles.estimators.neighbors.KNNSpec.fit", fails)
    with pytest.raises(
        TrainingError, match=r"scikit-learn could not fit knn on 225 rows and 8 columns: Input X is odd\.\. Change"
    ):
        member_of({"kind": "knn"}, data())


def test_missing_labels_are_left_out() -> None:
    dataset = data()
    values = dataset.examples.data.column("is_up").to_pylist()
    holes = [None if n % 3 else value for n, value in enumerate(values)]
    table = {name: dataset.examples.data.column(name) for name in ("size", "height", "color")} | {"is_up": holes}
    member = member_of({"kind": "random_forest", "n_estimators": 5}, read(table, split=SPLIT))
    assert is_known(member.tasks["is_up"].encode(dataset.examples.data.column("is_up").combine_chunks())).all()


def test_refit_learns_from_validation_rows_too() -> None:
    rows = {"x": np.arange(40.0), "y": np.arange(40) % 2}
    dataset = read(rows, split={"kind": "random", "validation": 0.25, "test": 0.25})
    spec = parse(
        SklearnSpec, {"estimator": {"kind": "knn"}, "columns": ["x"], "task": {"kind": "binary", "column": "y"}}
    )
    sizes = [
        len(spec.fit(dataset, TrainingSpec(refit=refit), Silent()).estimators[0].arrays()["rows"])
        for refit in (False, True)
    ]
    assert sizes == [len(dataset.parts.train), len(dataset.parts.train) + len(dataset.parts.validation)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda a: a.pop("0.value"),
        lambda a: a["0.children"].__setitem__(0, [0, 0]),
        lambda a: a["0.children"].__setitem__((0, 0), 10**6),
        lambda a: a["0.feature"].__setitem__(0, 99),
        lambda a: a["0.threshold"].__setitem__(0, np.nan),
        lambda a: a["0.starts"].__setitem__(1, 0),
        lambda a: a.__setitem__("0.value", a["0.value"][:, :1]),
        lambda a: a.__setitem__("0.children", a["0.children"].astype(np.float64)),
    ],
)
def test_arrays_that_are_no_trees_are_a_run_error(tmp_path: Path, damage: Any) -> None:
    member = member_of({"kind": "random_forest", "n_estimators": 3}, data())
    member.save(tmp_path)
    arrays = {name: array.copy() for name, array in load_tensors(tmp_path / "estimator.safetensors").items()}
    damage(arrays)
    save_tensors(tmp_path / "estimator.safetensors", arrays)
    with pytest.raises(RunError, match=r"estimator\.safetensors: these are no numbers of a random_forest"):
        member.spec.load(tmp_path)


@pytest.mark.parametrize("estimator", [*CLASSIFIERS], ids=lambda e: "-".join(map(str, e.values())))
def test_arrays_of_another_estimator_are_a_run_error(tmp_path: Path, estimator: dict[str, Any]) -> None:
    member = member_of(estimator, data())
    member.save(tmp_path)
    save_tensors(tmp_path / "estimator.safetensors", {"0.nothing": np.zeros(3)})
    with pytest.raises(RunError, match=rf"no numbers of a {estimator['kind']}"):
        member.spec.load(tmp_path)
    (tmp_path / "estimator.safetensors").write_bytes(b"not an estimator")
    with pytest.raises(RunError, match=r"estimator\.safetensors"):
        member.spec.load(tmp_path)


def test_a_child_in_another_tree_is_refused() -> None:
    arrays = {
        "starts": np.array([0, 3, 6]),
        "children": np.array([[1, 4], [-1, -1], [-1, -1], [4, 5], [-1, -1], [-1, -1]]),
        "feature": np.zeros(6, np.int64),
        "threshold": np.zeros(6),
        "value": np.ones((6, 1)),
    }
    with pytest.raises(ValueError, match="another tree"):
        restored_trees(arrays, Goal(1, 0), 1)
