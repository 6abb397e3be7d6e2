"""XGBoost as a member.

Pinned: the saved trees answer as the fitted ones, also rows with unseen categories and missing values; it learns from
labelled rows only, by their weights; a number comes back in its own unit, by either loss; several labels per row are
refused when the spec is read; without the package the error names the extra; a bad value, column or file is a typed error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit.api import read
from towerkit.core.errors import DataError, MissingExtraError, RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.table import Table
from towerkit.ensembles.xgboost import XgboostMember, XgboostSpec
from towerkit.training.loop import Silent
from towerkit.training.spec import TrainingSpec

SPLIT = {"kind": "random", "validation": 0.2, "test": 0.2}


def table(rows: int = 300) -> dict[str, list[Any]]:
    """The color decides between small and large sizes; one label in ten is missing."""
    draw = np.random.default_rng(1)
    color, size = draw.integers(0, 3, rows), draw.normal(size=rows)
    grade = np.where(color == 0, 0, np.where(size > 0, 2, 1))
    return {
        "color": [["red", "green", "blue"][c] for c in color],
        "size": [None if n % 17 == 0 else float(s) for n, s in enumerate(size)],
        "grade": [None if n % 10 == 0 else int(g) for n, g in enumerate(grade)],
        "is_red": [int(c == 0) for c in color],
    }


def spec_of(column: str = "grade", kind: str = "multiclass", **more: Any) -> XgboostSpec:
    """Trees on both columns."""
    task = {"kind": kind, "column": column}
    return parse(XgboostSpec, {"columns": ["color", "size"], "task": task, "rounds": 12, "depth": 3, **more})


def fitted(spec: XgboostSpec, **training: Any) -> tuple[XgboostMember, Dataset]:
    """The member and its data."""
    data = read(table(), split=SPLIT)
    return spec.fit(data, parse(TrainingSpec, training), Silent()), data


ROWS = Table(
    pa.table({"size": [0.5, None, -2.0, 1.0], "color": ["green", "blue", "mauve", None], "more": [1, 2, 3, 4]}), "rows"
)


@pytest.mark.parametrize(
    ("column", "kind", "classes"), [("grade", "multiclass", 3), ("grade", "ordinal", 3), ("is_red", "binary", 2)]
)
def test_saved_trees_answer_as_the_fitted_ones(tmp_path: Path, column: str, kind: str, classes: int) -> None:
    member, _ = fitted(spec_of(column, kind))
    member.save(tmp_path / "member")
    again = member.spec.load(tmp_path / "member")
    before, after = member.predict(ROWS)[column], again.predict(ROWS)[column]
    assert before.shape == (4, classes) and np.array_equal(before, after)
    assert np.allclose(before.sum(axis=1), 1.0)
    assert again.spec == member.spec and again.tasks == member.tasks
    single = np.concatenate([again.predict(Table(ROWS.data.slice(n, 1), "one"))[column] for n in range(4)])
    assert np.array_equal(single, before)


@pytest.mark.parametrize("refit", [True, False])
def test_it_learns_the_rule_from_the_labelled_rows(refit: bool) -> None:
    member, data = fitted(spec_of(), refit=refit)
    rows = Table(data.examples.data.take(data.parts.test), "test")
    truth = data.examples.data.column("grade").take(data.parts.test).to_pylist()
    found = member.predict(rows)["grade"].argmax(axis=1)
    known = [(int(f), t) for f, t in zip(found, truth, strict=True) if t is not None]
    assert len(known) < len(truth), "some labels are missing"
    assert np.mean([f == t for f, t in known]) > 0.9


def test_the_same_seed_grows_the_same_trees() -> None:
    one, other = (fitted(spec_of(subsample=0.5), seed=seed)[0].predict(ROWS)["grade"] for seed in (3, 3))
    third = fitted(spec_of(subsample=0.5), seed=4)[0].predict(ROWS)["grade"]
    assert np.array_equal(one, other) and not np.array_equal(one, third)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    member, data = fitted(spec_of())
    member.save(tmp_path / "member")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    for call in (
        lambda: spec_of().fit(data, TrainingSpec(), Silent()),
        lambda: spec_of().load(tmp_path / "member"),
        lambda: member.predict(ROWS),
    ):
        with pytest.raises(
            MissingExtraError, match=r"'xgboost', which is not installed .* pip install 'towerkit\[trees\]'"
        ):
            call()


def test_bad_rows_columns_and_specs_are_typed_errors() -> None:
    member, data = fitted(spec_of())
    with pytest.raises(DataError, match="rows: .*'size' must hold numbers; row 2 has 'large'"):
        member.predict(Table(pa.table({"size": ["1.5", "large"], "color": ["red", "red"]}), "rows"))
    with pytest.raises(DataError, match="'size'"):
        member.predict(Table(pa.table({"color": ["red"]}), "rows"))
    with pytest.raises(DataError, match="no column 'colour'; did you mean 'color'"):
        spec_of(columns=["colour"]).fit(data, TrainingSpec(), Silent())
    with pytest.raises(DataError, match="'grade' is the label of the task 'grade' and also a feature"):
        spec_of(columns=["grade", "size"]).fit(data, TrainingSpec(), Silent())
    with pytest.raises(SpecError, match=r"task\.layers: trees have no layers"):
        spec_of(task={"kind": "binary", "column": "is_red", "layers": [4]}).fit(data, TrainingSpec(), Silent())


def test_damaged_trees_are_a_run_error(tmp_path: Path) -> None:
    member, _ = fitted(spec_of())
    member.save(tmp_path / "member")
    trees = tmp_path / "member" / "trees.json"
    for content in ("", "{", "[]", "not trees", "{}", '{"learner": 3, "version": [2, 0, 0]}', trees.read_text()[:-200]):
        trees.write_text(content)
        with pytest.raises(RunError, match=r"trees\.json"):
            spec_of().load(tmp_path / "member")


def test_a_row_of_weight_zero_is_not_learned_from_and_one_of_weight_two_counts_twice() -> None:
    color = ["red"] * 90 + ["blue"] * 90
    label = [0, 1, 1] * 60
    weight = [0.0, 1.0, 1.0] * 30 + [2.0, 1.0, 0.0] * 30
    spec = parse(
        XgboostSpec, {"columns": ["color"], "task": {"kind": "binary", "column": "y"}, "rounds": 40, "lr": 0.5}
    )
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    data = read({"color": color, "y": label, "w": weight}, weight="w", split=split)
    member = spec.fit(data, TrainingSpec(), Silent())
    red, blue = member.predict(Table(pa.table({"color": ["red", "blue"]}), "rows"))["y"][:, 1]
    assert red > 0.95  # only ones count
    assert blue == pytest.approx(1 / 3, abs=0.03)  # zeros count twice, every second one not at all


@pytest.mark.parametrize(("loss", "transform"), [("mse", "none"), ("huber", "none"), ("mse", "log")])
def test_a_number_comes_back_in_its_own_unit(tmp_path: Path, loss: str, transform: str) -> None:
    draw = np.random.default_rng(2)
    size = draw.normal(size=400)
    price: list[float | None] = np.exp(6 + size).tolist()
    price[::11] = [None] * len(price[::11])
    data = read({"color": ["red"] * 400, "size": size, "price": price}, split=SPLIT)
    task = {"kind": "regression", "column": "price", "loss": loss, "transform": transform}
    spec = parse(XgboostSpec, {"columns": ["color", "size"], "task": task, "rounds": 60, "depth": 3, "lr": 0.3})
    member = spec.fit(data, TrainingSpec(), Silent())
    rows = Table(data.examples.data.take(data.parts.test), "test")
    found, truth = member.predict(rows)["price"], np.exp(6 + np.asarray(rows.data.column("size")))
    assert found.shape == (len(truth), 1)
    assert np.abs(found[:, 0] - truth).mean() < 0.3 * np.abs(truth - truth.mean()).mean()
    member.save(tmp_path)
    assert np.array_equal(member.spec.load(tmp_path).predict(rows)["price"], found)


def test_several_labels_per_row_are_refused_when_the_spec_is_read() -> None:
    with pytest.raises(SpecError, match="one class or one number per row; received the multilabel task of 'tags'"):
        spec_of("tags", "multilabel")


def test_a_spec_with_every_default_written_out_is_the_same_spec() -> None:
    """As a Run stores it."""
    spec = spec_of()
    assert parse(XgboostSpec, spec.model_dump(mode="json")) == spec
