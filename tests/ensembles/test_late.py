"""Late fusion.

Pinned: folds are a partition of equal parts and a pure function of the seed; an out-of-fold prediction comes from
members that never saw its row, so what memorises ids is at chance there and perfect in sample; the average is the mean;
a class that a member never saw gets probability 0 and the rest still sums to one; members that predict other columns
are refused by name. Several labels per row and numbers are averaged and stacked too, the stacker ends near the better
member, and members that read one column in two ways are refused when the spec is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.api import read
from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.table import Table
from towerkit.ensembles import fit_late
from towerkit.ensembles.fit_late import fit_late_fusion, folds, out_of_fold
from towerkit.ensembles.late import LateFusion, aligned
from towerkit.ensembles.late_files import load_late_fusion, save_late_fusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.members import fit_member
from towerkit.ensembles.stackers import log_odds
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Labels
from towerkit.training.loop import Silent
from towerkit.training.spec import TrainingSpec

LABEL = {"kind": "binary", "column": "label"}
TREES = {"kind": "xgboost", "columns": ["number"], "task": LABEL, "rounds": 3}
MEMORY = {"kind": "tower_model", "towers": {"id": {"kind": "id", "entity": "row", "dim": 4}}, "heads": {"label": LABEL}}


def coin_flips(rows: int = 120) -> Dataset:
    """Rows with a key each and labels that nothing tells."""
    draw = np.random.default_rng(5)
    table = {
        "row": [f"r{n}" for n in range(rows)],
        "number": draw.random(rows),
        "label": draw.permutation(np.arange(rows) % 2),
    }
    return read(table, split={"kind": "random", "validation": 0.0, "test": 0.2})


def fusion_spec(members: Mapping[str, Any], **combine: Any) -> LateFusionSpec:
    """A late fusion of these members."""
    return parse(LateFusionSpec, {"members": members, "combine": combine or {"kind": "stack", "folds": 3}})


@dataclass(frozen=True)
class Remembers:
    """A member that knows the label of each row it was fitted on, and nothing else."""

    labels: Mapping[str, int]

    @property
    def encoder(self) -> Encoder:
        """Reads nothing."""
        return Encoder({}, self.tasks)

    @property
    def tasks(self) -> Mapping[str, Labels]:
        """The one task."""
        return {"label": Labels("label", "binary", ("0", "1"))}

    def predict(self, table: Table) -> dict[str, NDArray[np.float64]]:
        """0 or 1 for a known row, 0.5 for any other."""
        positive = np.array([self.labels.get(row, 0.5) for row in table.data.column("row").to_pylist()], np.float64)
        return {"label": np.stack([1 - positive, positive], axis=1)}


def remember(spec: Any, dataset: Dataset, training: TrainingSpec, progress: Any, checkpoints: Any = None) -> Remembers:
    """Stands in for ``fit_member``."""
    rows = dataset.examples.data.take(dataset.parts.train)
    return Remembers(dict(zip(rows.column("row").to_pylist(), rows.column("label").to_pylist(), strict=True)))


@given(st.integers(2, 200), st.integers(2, 12), st.integers(0, 2**40))
def test_folds_are_a_partition_of_equal_parts_and_a_function_of_the_seed(rows: int, parts: int, seed: int) -> None:
    found = folds(rows, parts, seed)
    sizes = np.bincount(found, minlength=parts)
    assert len(found) == rows and len(sizes) == parts and sizes.max() - sizes.min() <= 1
    assert np.array_equal(found, folds(rows, parts, seed))


def test_another_seed_draws_other_folds() -> None:
    assert not np.array_equal(folds(50, 5, 0), folds(50, 5, 1))


def test_out_of_fold_predictions_never_use_the_rows_own_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that remembers is perfect on its own rows and knows nothing out of fold."""
    data, spec = coin_flips(), fusion_spec({"a": MEMORY, "b": TREES})
    tasks = {"label": Labels("label", "binary", ("0", "1"))}
    monkeypatch.setattr(fit_late, "fit_member", remember)
    found = out_of_fold(spec, data, TrainingSpec(), Silent(), tasks)
    assert found.keys() == {"a", "b"}
    for predictions in found.values():
        assert predictions["label"].shape == (len(data.parts.train), 2)
        assert (predictions["label"] == 0.5).all(), "no row was in the training part of its own fold's member"
    everything = remember(None, data, TrainingSpec(), None)
    truth = np.asarray(data.examples.data.column("label").to_pylist())
    assert (everything.predict(data.examples)["label"].argmax(axis=1) == truth)[data.parts.train].all()


def test_a_member_that_memorises_ids_is_perfect_in_sample_and_at_chance_out_of_fold() -> None:
    data, spec = coin_flips(), fusion_spec({"memory": MEMORY, "trees": TREES})
    training = parse(TrainingSpec, {"epochs": 40, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.1}})
    fusion_tasks = {"label": Labels("label", "binary", ("0", "1"))}
    truth = np.asarray(data.examples.data.column("label").to_pylist())[data.parts.train]
    member = fit_member(spec.members["memory"], data, training, Silent())
    in_sample = member.predict(Table(data.examples.data.take(data.parts.train), "train"))["label"]
    assert (in_sample.argmax(axis=1) == truth).all(), "else there is nothing to leak"
    held_out = out_of_fold(spec, data, training, Silent(), fusion_tasks)["memory"]["label"]
    assert np.unique(held_out[:, 1].round(6)).size <= 3, "unknown ids: one answer per fold"
    assert 0.3 < (held_out.argmax(axis=1) == truth).mean() < 0.7
    stacked = fit_late_fusion(spec, data, training, Silent())
    assert abs(stacked.combiners["label"].coefficients[0, 1]) < 0.5, "so the stacker does not trust it"


def test_the_average_is_the_mean_and_rows_keep_their_places() -> None:
    spec = fusion_spec({"a": MEMORY, "b": TREES}, kind="average")
    members = {"a": Remembers({"r0": 1, "r1": 0}), "b": Remembers({"r1": 1})}
    fusion = LateFusion(spec, members, members["a"].tasks, {})
    found = fusion.predict(Table(pa.table({"row": ["r0", "r1", "r2"]}), "rows"))["label"]
    assert found[:, 1].tolist() == [0.75, 0.5, 0.5]
    assert np.allclose(found.sum(axis=1), 1.0)


def test_a_class_that_a_member_never_saw_gets_zero() -> None:
    """The member knows the classes 3 and 1, in its own order and under its own task name; the fusion knows 1, 2, 3."""

    class Narrow(Remembers):
        @property
        def tasks(self) -> Mapping[str, Labels]:
            return {"mine": Labels("stars", "multiclass", ("3", "1"))}

    shared = {"stars": Labels("stars", "multiclass", ("1", "2", "3"))}
    found = aligned(Narrow({}), {"mine": np.array([[0.25, 0.75], [1.0, 0.0]])}, shared)
    assert found["stars"].tolist() == [[0.75, 0.0, 0.25], [0.0, 0.0, 1.0]]


def test_a_class_that_only_the_member_saw_is_left_out_and_the_rest_sums_to_one() -> None:
    class Wide(Remembers):
        @property
        def tasks(self) -> Mapping[str, Labels]:
            return {"stars": Labels("stars", "multiclass", ("1", "2", "3"))}

    found = aligned(Wide({}), {"stars": np.array([[0.2, 0.6, 0.2]])}, {"stars": Labels("stars", "binary", ("1", "3"))})
    assert found["stars"].tolist() == [[0.5, 0.5]]


def test_log_odds_by_hand() -> None:
    two = log_odds([np.array([[0.2, 0.8]]), np.array([[1.0, 0.0]])])
    assert two[0].tolist() == pytest.approx([np.log(4), np.log(1e-6)]), "a sure member is clipped, not infinite"
    three = log_odds([np.array([[0.5, 0.25, 0.25]])])
    assert three[0].tolist() == pytest.approx(np.log([0.5, 0.25, 0.25]).tolist())


def test_tasks_are_named_by_heads_and_several_keep_their_own_stacker_on_disk(tmp_path: Path) -> None:
    """The two members call the two columns by names that sort differently than their columns."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 200))
    table = {"x": x, "y": y, "up": (x > 0).astype(int), "right": (y > 0).astype(int)}
    data = read(table, split={"kind": "random", "validation": 0.0, "test": 0.2})
    up, right = ({"kind": "binary", "column": column} for column in ("up", "right"))
    tower = {"kind": "table", "columns": ["x", "y"], "layers": [8], "dim": 4}
    model: dict[str, Any] = {"kind": "tower_model", "towers": {"table": tower}}
    members = {"a": {**model, "heads": {"m": up, "n": right}}, "b": {**model, "heads": {"q": up, "p": right}}}
    training = parse(TrainingSpec, {"epochs": 5, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.05}})
    fusion = fit_late_fusion(fusion_spec(members), data, training, Silent())
    assert {task: label.column for task, label in fusion.tasks.items()} == {"q": "up", "p": "right"}
    save_late_fusion(tmp_path / "fusion", fusion)
    again = load_late_fusion(tmp_path / "fusion")
    rows = Table(data.examples.data.take(data.parts.test), "test")
    before, after = fusion.predict(rows), again.predict(rows)
    assert not np.allclose(before["p"], before["q"])
    assert all(np.array_equal(before[task], after[task]) for task in before)
    assert (before["q"].argmax(axis=1) == table["up"][data.parts.test]).mean() > 0.8


def test_members_that_predict_other_columns_are_refused_by_name() -> None:
    other = {**TREES, "task": {"kind": "binary", "column": "number"}, "columns": ["label"]}
    with pytest.raises(SpecError, match=r"'memory' predicts \['label'\], the others predict \['number'\]"):
        fit_late_fusion(fusion_spec({"memory": MEMORY, "trees": other}), coin_flips(), TrainingSpec(), Silent())


def test_more_folds_than_rows_are_refused() -> None:
    spec = fusion_spec({"a": TREES, "b": TREES}, kind="stack", folds=50)
    with pytest.raises(DataError, match=r"50 folds need at least 50 training rows; there are 32"):
        fit_late_fusion(spec, coin_flips(40), TrainingSpec(), Silent())


def test_stacking_beats_its_weaker_member_and_ignores_a_constant() -> None:
    draw = np.random.default_rng(2)
    signal = draw.normal(size=400)
    label = (signal + 0.3 * draw.normal(size=400) > 0).astype(int)
    data = read(
        {"signal": signal, "noise": draw.normal(size=400), "label": label},
        split={"kind": "random", "validation": 0.0, "test": 0.25},
    )
    members = {
        "good": {**TREES, "columns": ["signal"], "rounds": 20},
        "bad": {**TREES, "columns": ["noise"], "rounds": 20},
    }
    fusion = fit_late_fusion(fusion_spec(members), data, TrainingSpec(), Silent())
    coefficients = dict(zip(fusion.members, fusion.combiners["label"].coefficients[:, 1], strict=True))
    assert coefficients["good"] > 3 * abs(coefficients["bad"])
    test = Table(data.examples.data.take(data.parts.test), "test")
    truth = label[data.parts.test]
    accuracy = {
        name: (values.argmax(axis=1) == truth).mean()
        for name, values in {
            "fusion": fusion.predict(test)["label"],
            **{name: values["label"] for name, values in fusion.member_predictions(test).items()},
        }.items()
    }
    assert accuracy["fusion"] >= accuracy["bad"] + 0.2


def test_the_stacker_learns_by_the_weights_of_the_rows() -> None:
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 200)
    rows = {"x": draw.normal(size=200), "z": draw.normal(size=200), "y": label, "w": np.where(label == 1, 1.0, 0.0001)}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    member = {"kind": "tower_model", "heads": {"y": {"kind": "binary", "column": "y"}}}
    members = {n: {**member, "towers": {"t": {"kind": "table", "columns": [n]}}} for n in ("x", "z")}
    spec = fusion_spec(members, kind="stack", folds=2)
    training = TrainingSpec(epochs=1)
    plain = fit_late_fusion(spec, read(rows, split=split), training, Silent())
    weighted = fit_late_fusion(spec, read(rows, weight="w", split=split), training, Silent())
    asked = Table(pa.table({"x": [0.0], "z": [0.0]}), "rows")
    assert 0.3 < plain.predict(asked)["y"][0, 1] < 0.7
    assert weighted.predict(asked)["y"][0, 1] > 0.99


def tagged(rows: int = 300) -> Dataset:
    """Two tags, each told by a column of its own, and a price told by both."""
    draw = np.random.default_rng(3)
    a, b = draw.normal(size=(2, rows))
    tags = [[name for name, value in (("a", one), ("b", two)) if value > 0] for one, two in zip(a, b, strict=True)]
    return read(
        {"one": a, "two": b, "tags": tags, "price": 1000 + 300 * a + 200 * b},
        split={"kind": "random", "validation": 0.0, "test": 0.2},
    )


def reads(column: str, head: Mapping[str, Any]) -> dict[str, Any]:
    """A member that sees one column."""
    table = {"kind": "table", "columns": [column], "layers": [], "dim": 4}
    return {"kind": "tower_model", "towers": {"table": table}, "heads": {str(head["column"]): head}}


TAGS = {"kind": "multilabel", "column": "tags"}
PRICE = {"kind": "regression", "column": "price"}


@pytest.mark.parametrize("combine", [{"kind": "average"}, {"kind": "stack", "folds": 2}])
@pytest.mark.parametrize("head", [TAGS, PRICE], ids=["tags", "price"])
def test_tags_and_numbers_are_combined_and_come_back(
    tmp_path: Path, head: dict[str, Any], combine: dict[str, Any]
) -> None:
    data = tagged()
    spec = fusion_spec({"one": reads("one", head), "two": reads("two", head)}, **combine)
    training = TrainingSpec.model_validate({"epochs": 15, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.05}})
    fusion = fit_late_fusion(spec, data, training, Silent())
    rows = Table(data.examples.data.take(data.parts.test), "test")
    task = str(head["column"])
    found = fusion.predict(rows)[task]
    members = fusion.member_predictions(rows)
    if combine["kind"] == "average":
        assert np.allclose(found, (members["one"][task] + members["two"][task]) / 2)
    else:
        truth = fusion.tasks[task].encode(rows.data.column(task).combine_chunks())
        errors = {name: np.abs(values[task].squeeze() - truth).mean() for name, values in members.items()}
        assert np.abs(found.squeeze() - truth).mean() < 0.6 * min(errors.values())  # each knows what the other does not
    save_late_fusion(tmp_path, fusion)
    assert np.array_equal(load_late_fusion(tmp_path).predict(rows)[task], found)


def test_a_tag_that_a_member_never_saw_leaves_the_others_as_they_are() -> None:
    class Member:
        tasks: Mapping[str, Labels] = {"t": Labels("tags", "multilabel", ("a", "c"))}

    shared = {"tags": Labels("tags", "multilabel", ("a", "b", "c"))}
    found = aligned(Member(), {"t": np.array([[0.9, 0.8]])}, shared)  # type: ignore[arg-type]
    assert found["tags"].tolist() == [[0.9, 0.0, 0.8]]


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (PRICE, {"kind": "ordinal", "column": "price"}, "'one' reads it as regression, 'two' as ordinal"),
        (TAGS, {**TAGS, "separator": ";"}, "'one' reads it as multilabel, 'two' as multilabel written otherwise"),
    ],
)
def test_members_that_read_a_column_in_two_ways_are_refused(one: Any, other: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fusion_spec({"one": reads("one", one), "two": reads("two", other)})
    fusion_spec({"one": reads("one", LABEL), "two": reads("two", {**LABEL, "kind": "ordinal"})})
    fusion_spec({"one": reads("one", PRICE), "two": reads("two", {**PRICE, "transform": "log"})})


def test_a_threshold_of_a_member_would_decide_nothing() -> None:
    def member(**head: Any) -> dict[str, Any]:
        towers = {"table": {"kind": "table", "columns": ["age"], "layers": [], "dim": 4}}
        heads = {"liked": {"kind": "binary", "column": "liked", **head}}
        return {"kind": "tower_model", "towers": towers, "heads": heads}

    LateFusionSpec.model_validate({"members": {"a": member(calibration="temperature"), "b": member(threshold=0.5)}})
    for threshold in (0.3, {"choose": "f1"}):
        with pytest.raises(ValueError, match="the threshold of the task 'liked' of 'b' would decide nothing"):
            LateFusionSpec.model_validate({"members": {"a": member(), "b": member(threshold=threshold)}})
