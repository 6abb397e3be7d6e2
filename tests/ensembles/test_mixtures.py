"""Weighted means and votes of members.

Pinned: weights lie on the simplex and no point of a fine grid has a lower loss; a member that says the same of every row, or is
a copy of another, does no harm; a temperature undoes a known one; a hard vote is the share of the members, ties are decided
by their mean, and no tie-break outweighs a vote; given weights count by their proportions; the fusion reads validation rows for
weights and temperatures and never test rows; with ``refit`` weights come from members that had not seen the validation
rows; a fusion comes back from its files to the bit; members may share some tasks only; what cannot be is told by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.api import read
from towerkit.core.errors import DataError, RunError, SpecError, TrainingError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.table import Table
from towerkit.ensembles import fit_late
from towerkit.ensembles.fit_late import fit_late_fusion
from towerkit.ensembles.late import LateFusion, asked
from towerkit.ensembles.late_files import load_late_fusion, save_late_fusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.mixtures import Mixture, chance_of_truth, cooled, fit_temperature, fit_weights, vote
from towerkit.features.label_scale import Scale
from towerkit.features.labels import Labels
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.progress import Silent
from towerkit.training.spec import TrainingSpec

THREE = Labels("y", "multiclass", ("a", "b", "c"))
TWO = Labels("y", "binary", ("0", "1"))
TAGS = Labels("y", "multilabel", ("a", "b"))
NUMBER = Labels("y", "regression", (), scale=Scale(10.0, 2.0))
SPLIT = {"kind": "random", "validation": 0.3, "test": 0.2}


def sayings(labels: Labels, rows: int, members: int, seed: int) -> tuple[list[Any], Any]:
    """Members that are right more or less often, and the truth."""
    draw = np.random.default_rng(seed)
    if labels.kind == "regression":
        truth: Any = draw.normal(10, 2, rows)
        return [truth[:, None] + draw.normal(0, 1 + n, (rows, 1)) for n in range(members)], truth
    shape = (rows, len(labels.classes))
    if labels.kind == "multilabel":
        truth = draw.integers(0, 2, shape).astype(np.int8)
        logits = [(2 * truth - 1) / (n + 1) + draw.normal(size=shape) for n in range(members)]
        return [1 / (1 + np.exp(-each)) for each in logits], truth
    truth = draw.integers(0, shape[1], rows)
    logits = [2 * np.eye(shape[1])[truth] / (n + 1) + draw.normal(size=shape) for n in range(members)]
    return [np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits], truth


def loss_of(labels: Labels, weights: Any, predictions: list[Any], truth: Any) -> float:
    mixed = np.tensordot(np.asarray(weights), np.stack(predictions), axes=1)
    if labels.kind == "regression":
        return float(((mixed[:, 0] - truth) ** 2).mean())
    return float(-np.log(chance_of_truth(labels, mixed, truth)).mean())


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([TWO, THREE, TAGS, NUMBER]), st.integers(0, 2**32))
def test_no_weights_of_a_grid_are_better(labels: Labels, seed: int) -> None:
    predictions, truth = sayings(labels, 60, 2, seed)
    found = fit_weights(labels, predictions, truth)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    grid = [loss_of(labels, [share, 1 - share], predictions, truth) for share in np.linspace(0, 1, 101)]
    assert loss_of(labels, found, predictions, truth) <= min(grid) + 1e-7


@pytest.mark.parametrize("labels", [TWO, THREE, TAGS, NUMBER], ids=lambda labels: labels.kind)
def test_a_member_that_says_the_same_of_every_row_gets_nearly_nothing(labels: Labels) -> None:
    predictions, truth = sayings(labels, 400, 1, 0)
    same = np.tile(predictions[0].mean(axis=0), (400, 1))
    found = fit_weights(labels, [*predictions, same], truth)
    assert found[0] > 0.6 and np.isfinite(found).all()
    twins = fit_weights(labels, [*predictions, *predictions], truth)
    assert twins.sum() == pytest.approx(1)


def test_rows_without_a_label_or_weight_are_left_out_and_none_leaves_all_alike() -> None:
    predictions, truth = sayings(THREE, 100, 2, 1)
    unknown = np.where(np.arange(100) < 50, truth, -1)
    half = fit_weights(THREE, [one[:50] for one in predictions], truth[:50])
    assert np.allclose(fit_weights(THREE, predictions, unknown), half, atol=1e-6)
    weight = (np.arange(100) < 50).astype(np.float64)
    assert np.allclose(fit_weights(THREE, predictions, truth, weight), half, atol=1e-6)
    assert fit_weights(THREE, predictions, np.full(100, -1)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("labels", [TWO, THREE, TAGS], ids=lambda labels: labels.kind)
def test_a_temperature_undoes_a_known_one(labels: Labels) -> None:
    draw = np.random.default_rng(0)
    shape = (4000, len(labels.classes))
    logits = draw.normal(size=shape) * 1.5
    if labels.kind == "multilabel":
        right = 1 / (1 + np.exp(-logits))
        truth: Any = (draw.random(shape) < right).astype(np.int8)
    else:
        right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        truth = (right.cumsum(axis=1) < draw.random((4000, 1))).sum(axis=1)
    too_sure = cooled(labels, right, 1 / 3)
    assert fit_temperature(labels, too_sure, truth, np.ones(4000)) == pytest.approx(3, rel=0.12)
    assert np.allclose(cooled(labels, too_sure, 3.0), right, atol=1e-6)
    assert fit_temperature(NUMBER, right, truth, np.ones(4000)) == 1.0


def test_votes_by_hand() -> None:
    said = [np.array([[0.6, 0.4, 0.0]]), np.array([[0.0, 0.9, 0.1]]), np.array([[0.5, 0.2, 0.3]])]
    alike = Mixture(np.full(3, 1 / 3), np.ones(3), "hard").combined(THREE, said)
    assert alike.round(4).tolist() == [[0.6667, 0.3333, 0.0]], "b has the higher mean, and one vote"
    tie = Mixture(np.full(2, 1 / 2), np.ones(2), "hard").combined(THREE, said[:2])
    assert tie.argmax() == 1 and tie.round(4).tolist() == [[0.5, 0.5, 0.0]], "b has the higher mean"
    heavy = Mixture(np.array([0.2, 0.6, 0.2]), np.ones(3), "hard").combined(THREE, said)
    assert heavy.round(4).tolist() == [[0.4, 0.6, 0.0]]
    soft = Mixture(np.full(3, 1 / 3), np.ones(3)).combined(THREE, said)
    assert soft.round(4).tolist() == [[0.3667, 0.5, 0.1333]]
    assert vote(TAGS, np.array([[0.5, 0.49]])).tolist() == [[1.0, 0.0]]
    assert vote(TWO, np.array([[0.5, 0.5]])).tolist() == [[0.0, 1.0]], "as a binary answer is decided"


def data(rows: int = 400, seed: int = 0) -> Dataset:
    """Two columns that each know half of the answer, one that knows nothing."""
    draw = np.random.default_rng(seed)
    a, b, c = draw.normal(size=(3, rows))
    score = a + 0.7 * b
    return read(
        {
            "a": a, "b": b, "c": c, "up": (score > 0).astype(int), "level": np.digitize(score, [-0.8, 0.8]),
            "price": 50 + 10 * score,
            "tags": [[n for n, has in (("x", s > 0.5), ("y", t > 0)) if has] for s, t in zip(a, b, strict=True)],
        },
        split=SPLIT,
    )  # fmt: skip


def forest(column: str, target: str = "up", kind: str = "binary") -> dict[str, Any]:
    """A small, quick member."""
    estimator = {"kind": "random_forest", "n_estimators": 15, "min_samples_leaf": 8, "max_features": 1.0}
    return {"kind": "sklearn", "estimator": estimator, "columns": [column], "task": {"kind": kind, "column": target}}


def fusion(members: dict[str, Any], dataset: Dataset | None = None, refit: bool = True, **combine: Any) -> LateFusion:
    spec = parse(LateFusionSpec, {"members": members, "combine": combine})
    return fit_late_fusion(spec, dataset or data(), TrainingSpec(refit=refit), Silent())


def test_rows(dataset: Dataset) -> Table:
    return Table(dataset.examples.data.take(dataset.parts.test), "test")


test_rows.__test__ = False  # type: ignore[attr-defined]
TARGETS = [
    ("up", "binary"),
    ("level", "ordinal"),
    ("level", "multiclass"),
    ("tags", "multilabel"),
    ("price", "regression"),
]
COMBINES: list[dict[str, Any]] = [
    {"kind": "average"},
    {"kind": "average", "calibrate": "temperature"},
    {"kind": "weighted"},
    {"kind": "weighted", "calibrate": "temperature"},
    {"kind": "weighted", "weights": {"one": 3, "two": 1}},
    {"kind": "vote"},
    {"kind": "vote", "votes": "soft", "weights": {"one": 1, "two": 2}, "calibrate": "temperature"},
    {"kind": "stack", "folds": 2},
]


@pytest.mark.parametrize(
    "combine", COMBINES, ids=lambda c: "-".join(str(v) for v in c.values() if not isinstance(v, dict))
)
@pytest.mark.parametrize(("target", "kind"), TARGETS)
def test_every_combiner_answers_every_kind_of_task_and_comes_back(
    tmp_path: Path, target: str, kind: str, combine: dict[str, Any]
) -> None:
    members = {"one": forest("a", target, kind), "two": forest("b", target, kind)}
    if kind == "regression" and (combine["kind"] == "vote" or combine.get("calibrate")):
        with pytest.raises(SpecError, match=r"is for classes, and 'price' are numbers"):
            fusion(members, **combine)
        return
    dataset = data()
    found = fusion(members, dataset, **combine)
    rows = test_rows(dataset)
    answer = found.predict(rows)[target]
    assert np.isfinite(answer).all() and answer.shape == (len(dataset.parts.test), found.tasks[target].num_outputs)
    if kind not in ("regression", "multilabel"):
        assert np.allclose(answer.sum(axis=1), 1.0)
    save_late_fusion(tmp_path, found)
    assert np.array_equal(load_late_fusion(tmp_path).predict(rows)[target], answer)


def test_given_weights_count_by_their_proportions() -> None:
    dataset = data()
    members = {"one": forest("a"), "two": forest("b")}
    found = fusion(members, dataset, kind="weighted", weights={"one": 6, "two": 2})
    each = found.member_predictions(test_rows(dataset))
    wanted = 0.75 * each["one"]["up"] + 0.25 * each["two"]["up"]
    assert np.allclose(found.predict(test_rows(dataset))["up"], wanted)


def test_fitted_weights_prefer_the_member_that_knows_and_beat_the_mean() -> None:
    dataset = data(1200)
    members = {"knows": forest("a"), "noise": forest("c")}
    found = fusion(members, dataset, kind="weighted")
    mixture = found.combiners["up"]
    assert isinstance(mixture, Mixture) and mixture.weights[0] > 0.8
    truth = dataset.examples.data.column("up").to_numpy()[dataset.parts.test]
    answers = {
        name: fusion(members, dataset, kind=name).predict(test_rows(dataset))["up"] for name in ("weighted", "average")
    }
    losses = {name: -np.log(values[np.arange(len(truth)), truth]).mean() for name, values in answers.items()}
    assert losses["weighted"] < losses["average"]


def changed(dataset: Dataset, part: str) -> Dataset:
    """The labels of one part turned around."""
    values = dataset.examples.data.column("up").to_numpy().copy()
    rows = dataset.parts.get(part)
    values[rows] = 1 - values[rows]
    place = dataset.examples.data.column_names.index("up")
    return replace(
        dataset,
        examples=replace(dataset.examples, data=dataset.examples.data.set_column(place, "up", pa.array(values))),
    )


def test_weights_and_temperatures_come_from_validation_rows_and_never_from_test_rows() -> None:
    members, combine = {"one": forest("a"), "two": forest("b")}, {"kind": "weighted", "calibrate": "temperature"}
    dataset = data()

    def numbers(changed_data: Dataset) -> list[float]:
        mixture = fusion(members, changed_data, refit=False, **combine).combiners["up"]
        assert isinstance(mixture, Mixture)
        return [*mixture.weights, *mixture.temperatures]

    before = numbers(dataset)
    assert numbers(changed(dataset, "test")) == before
    assert numbers(changed(dataset, "validation")) != before


def test_with_refit_the_combiner_reads_members_that_had_not_seen_the_validation_rows() -> None:
    """Planted: once refitted, a member that remembers rows is perfect on validation rows; it must not get the weight."""
    dataset = data(600)
    remembers = {
        "kind": "sklearn",
        "estimator": {"kind": "knn", "n_neighbors": 1},
        "columns": ["c"],
        "task": {"kind": "binary", "column": "up"},
    }
    found = fusion({"honest": forest("a"), "remembers": remembers}, dataset, kind="weighted")
    mixture = found.combiners["up"]
    assert isinstance(mixture, Mixture) and mixture.weights[1] < 0.2
    rows = Table(dataset.examples.data.take(dataset.parts.validation), "validation")
    truth = dataset.examples.data.column("up").to_numpy()[dataset.parts.validation]
    leaked = found.member_predictions(rows)["remembers"]["up"]
    assert (leaked.argmax(axis=1) == truth).all(), "the member that answers was refitted: there was something to leak"


def test_members_may_share_some_tasks_only(tmp_path: Path) -> None:
    dataset = data()
    table = {"kind": "table", "columns": ["a"], "layers": [], "dim": 4}
    both = {"up": {"kind": "binary", "column": "up"}, "cost": {"kind": "regression", "column": "price"}}
    towers = {"kind": "tower_model", "towers": {"t": table}, "heads": both}
    for combine in (
        {"kind": "weighted", "calibrate": "temperature"},
        {"kind": "stack", "folds": 2},
        {"kind": "average"},
    ):
        found = fusion({"towers": towers, "trees": forest("b")}, dataset, **combine)
        assert set(found.tasks) == {"up", "cost"}
        each = found.member_predictions(test_rows(dataset))
        assert set(each["towers"]) == {"up", "cost"} and set(each["trees"]) == {"up"}
        answers = found.predict(test_rows(dataset))
        if combine["kind"] != "stack":
            assert np.allclose(answers["cost"], each["towers"]["cost"]), "alone in its task"
        save_late_fusion(tmp_path / str(combine["kind"]), found)
        again = load_late_fusion(tmp_path / str(combine["kind"])).predict(test_rows(dataset))
        assert all(np.array_equal(again[task], answers[task]) for task in answers)


def test_what_cannot_be_combined_is_told_when_the_spec_is_read() -> None:
    members = {"one": forest("a"), "two": forest("b")}
    for combine, message in (
        ({"kind": "weighted", "weights": {"one": 0, "two": 0}}, r"must not all be 0; received \{'one': 0.0, 'two': 0.0\}"),
        ({"kind": "weighted", "weights": {"one": 1}}, r"name every member \('one', 'two'\) and no other; received 'one'"),
        ({"kind": "vote", "weights": {"one": 1, "three": 1}}, r"received 'one', 'three'"),
        ({"kind": "weighted", "weights": {"one": -1, "two": 1}}, r"weights\.one: .*greater than or equal to 0.*received -1"),
        ({"kind": "rrf"}, r"'rrf' is not for members that predict; use 'average', 'stack', 'vote', 'weighted'"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=message):
            parse(LateFusionSpec, {"members": members, "combine": combine})
    ranks = {name: {"kind": "bm25", "query": ["q"], "candidate": [name]} for name in ("one", "two")}
    with pytest.raises(SpecError, match="'vote' is not for members that rank"):
        parse(LateFusionSpec, {"members": ranks, "combine": {"kind": "vote"}})
    with pytest.raises(SpecError, match=r"combine\.calibrate is for probabilities, and the members rank"):
        parse(LateFusionSpec, {"members": ranks, "combine": {"kind": "average", "calibrate": "temperature"}})


def test_weights_need_validation_rows() -> None:
    dataset = read(
        {"a": np.arange(40.0), "b": np.arange(40.0), "up": np.arange(40) % 2}, split={**SPLIT, "validation": 0.0}
    )
    with pytest.raises(
        SpecError, match=r"weighted fits weights or temperatures on validation rows, and the split holds none"
    ):
        fusion({"one": forest("a"), "two": forest("b")}, dataset, kind="weighted")


def test_a_member_that_fails_is_named() -> None:
    with pytest.raises(DataError, match=r"no column 'nowhere'"):
        fusion({"one": forest("a"), "two": forest("nowhere")}, kind="average")
    few = {**forest("a"), "estimator": {"kind": "knn", "n_neighbors": 5000}}
    with pytest.raises(DataError, match=r"The member 'near': estimator\.n_neighbors: 5000 need as many training rows"):
        fusion({"near": few, "two": forest("b")}, kind="average")


def test_a_member_that_answers_no_number_is_named_with_its_row() -> None:
    class Broken:
        tasks: Any = None

        def predict(self, table: Table) -> dict[str, Any]:
            return {"up": np.array([[0.5, 0.5], [np.nan, np.nan]])}

    labels = {"up": replace(TWO, column="up")}
    broken: Any = Broken()
    broken.tasks = labels
    with pytest.raises(
        TrainingError, match=r"The member 'wild' answers the task 'up' of rows.* with \[nan, nan\] \(1 such rows\)"
    ):
        asked("wild", broken, Table(pa.table({"x": [1, 2]}), "rows"), labels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.pop("0/weights"), r"combiner\.safetensors lacks '0/weights'"),
        (lambda t: t.__setitem__("0/weights", np.ones(3)), "needs a weight and a temperature of each of its 2 members"),
        (lambda t: t.__setitem__("0/weights", np.array([0.0, 0.0])), "needs a weight"),
        (lambda t: t.__setitem__("0/temperatures", np.array([0.0, 1.0])), "needs a weight"),
        (lambda t: t.__setitem__("0/weights", np.array([np.nan, 1.0])), "needs a weight"),
    ],
)
def test_a_damaged_combiner_is_a_run_error(tmp_path: Path, damage: Callable[[Any], Any], message: str) -> None:
    save_late_fusion(tmp_path, fusion({"one": forest("a"), "two": forest("b")}, kind="weighted"))
    tensors = load_tensors(tmp_path / "combiner.safetensors")
    damage(tensors)
    save_tensors(tmp_path / "combiner.safetensors", tensors)
    with pytest.raises(RunError, match=message):
        load_late_fusion(tmp_path)


def test_the_first_fit_of_a_tower_model_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """With refit: one training that chooses the epoch, one on all rows."""
    calls: list[str] = []
    for name in ("fit_recipe", "refit_recipe"):
        import towerkit.ensembles.members as members_module

        real = getattr(members_module, name)
        monkeypatch.setattr(
            members_module, name, lambda *a, real=real, name=name, **k: (calls.append(name), real(*a, **k))[1]
        )
    table = {"kind": "table", "columns": ["a"], "layers": [], "dim": 4}
    towers = {"kind": "tower_model", "towers": {"t": table}, "heads": {"up": {"kind": "binary", "column": "up"}}}
    spec = parse(LateFusionSpec, {"members": {"towers": towers, "trees": forest("b")}, "combine": {"kind": "weighted"}})
    fit_late.fit_late_fusion(spec, data(), TrainingSpec(epochs=2, refit=True), Silent())
    assert calls == ["fit_recipe", "refit_recipe"]
