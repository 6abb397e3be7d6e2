"""Late fusions within late fusions, and trained Runs as members.

Pinned: a planted leak does not get through two levels (what remembers its rows is at chance in the outer's out-of-fold
predictions); a fusion of fusions is the same arithmetic as its parts; it is trained, saved in folders within folders, loaded,
measured with the members of every level beside it; too many levels and a fusion of rankers inside another are refused. A Run
goes into a fusion with its files as they are, answers as it does alone, and is refused where it learned from rows that are held
out here, from rows that it does not tell, or where it was refitted on the rows that weights are fitted on.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit.api import fit, read
from towerkit.core.errors import RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.table import Table
from towerkit.ensembles.fit_late import fit_late_fusion, out_of_fold
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.features.labels import Labels
from towerkit.run import Run
from towerkit.run import load_run as load
from towerkit.spec import load_spec
from towerkit.storage.hashes import read_json, write_json
from towerkit.storage.manifest import write_manifest
from towerkit.training.progress import Silent
from towerkit.training.spec import TrainingSpec

UP = {"kind": "binary", "column": "up"}
SPLIT = {"kind": "random", "validation": 0.2, "test": 0.2}
TRAINING = {"epochs": 2, "optimizer": {"kind": "adam", "lr": 0.05}}
Nested = dict[str, Any]


def data(rows: int = 300, seed: int = 0) -> Dataset:
    """Two columns that know something, and a key of each row."""
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, rows))
    return read({"a": a, "b": b, "row": [f"r{n}" for n in range(rows)], "up": (a + b > 0).astype(int)}, split=SPLIT)


def trees(column: str) -> Nested:
    """A small, quick member."""
    forest = {"kind": "random_forest", "n_estimators": 10, "min_samples_leaf": 8, "max_features": 1.0}
    return {"kind": "sklearn", "estimator": forest, "columns": [column], "task": UP}


def towers(column: str) -> Nested:
    """A tower model of one column."""
    return {
        "kind": "tower_model",
        "towers": {"t": {"kind": "table", "columns": [column], "layers": [], "dim": 4}},
        "heads": {"up": UP},
    }


def fusion(members: Nested, **combine: Any) -> Nested:
    """A late fusion."""
    return {"kind": "late_fusion", "members": members, "combine": combine or {"kind": "average"}}


def fitted(model: Nested, dataset: Dataset, **training: Any) -> LateFusion:
    spec = parse(LateFusionSpec, model)
    return fit_late_fusion(spec, dataset, TrainingSpec.model_validate({**TRAINING, **training}), Silent())


def rows_of(dataset: Dataset, part: str = "test") -> Table:
    return Table(dataset.examples.data.take(dataset.parts.get(part)), part)


def test_a_fusion_of_fusions_is_the_arithmetic_of_its_parts() -> None:
    dataset = data()
    inner = fusion({"x": trees("a"), "y": trees("b")})
    found = fitted(fusion({"group": inner, "z": trees("a")}, kind="weighted", weights={"group": 3, "z": 1}), dataset)
    rows = rows_of(dataset)
    each = found.all_predictions(rows)
    assert set(each) == {"group", "group/x", "group/y", "z"}
    assert np.allclose(each["group"]["up"], (each["group/x"]["up"] + each["group/y"]["up"]) / 2)
    assert np.allclose(found.predict(rows)["up"], 0.75 * each["group"]["up"] + 0.25 * each["z"]["up"])


def test_a_planted_leak_does_not_get_through_two_levels() -> None:
    """Coin flips and a key of each row: a member that remembers keys is perfect on its rows, at every level."""
    draw = np.random.default_rng(5)
    table = {"row": [f"r{n}" for n in range(150)], "a": draw.random(150), "up": draw.permutation(np.arange(150) % 2)}
    dataset = read(table, split={**SPLIT, "validation": 0.0})
    memory = {"kind": "tower_model", "towers": {"id": {"kind": "id", "entity": "row", "dim": 4}}, "heads": {"up": UP}}
    inner = fusion({"memory": memory, "noise": trees("a")}, kind="stack", folds=2)
    spec = parse(LateFusionSpec, fusion({"group": inner, "more": memory}, kind="stack", folds=2))
    training = TrainingSpec.model_validate({"epochs": 40, "batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.1}})
    truth = np.asarray(table["up"])[dataset.parts.train]
    tasks = {"up": Labels("up", "binary", ("0", "1"))}
    held_out = out_of_fold(spec, dataset, training, Silent(), tasks)
    for name, answers in held_out.items():
        accuracy = (answers["up"].argmax(axis=1) == truth).mean()
        assert 0.3 < accuracy < 0.7, f"{name} must be at chance on rows that it has not seen"
    found = fit_late_fusion(spec, dataset, training, Silent())
    remembered = found.all_predictions(rows_of(dataset, "train"))["group/memory"]["up"]
    assert (remembered.argmax(axis=1) == truth).all(), "else there was nothing to leak"
    assert np.abs(found.combiners["up"].coefficients[:, 1]).max() < 0.7, "so the stacker trusts neither"  # type: ignore[union-attr]


def test_a_run_of_three_levels_is_measured_saved_and_loaded(tmp_path: Path) -> None:
    dataset = data()
    third = fusion({"p": trees("a"), "q": towers("b")}, kind="weighted")
    second = fusion({"deep": third, "x": trees("b")}, kind="stack", folds=2)
    model = fusion({"group": second, "z": trees("a")}, kind="weighted", calibrate="temperature")
    run = fit({"model": model, "training": {**TRAINING, "refit": True}}, dataset, run=tmp_path / "run")
    assert {name for name in run.baselines if name.startswith("member ")} == {
        f"member {name}" for name in ("group", "group/deep", "group/deep/p", "group/deep/q", "group/x", "z")
    }
    place = run.path / "model" / "members" / "group" / "members" / "deep" / "members"
    assert (place / "q" / "weights.safetensors").is_file() and (place / "p" / "estimator.safetensors").is_file()
    held = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("held-out.safetensors"))
    assert held == ["model/held-out.safetensors"], "what the combiners inside were fitted on is not kept"
    again = load(run.path)
    assert again.predict(rows_of(dataset).data).equals(run.predict(rows_of(dataset).data))


def test_too_many_levels_and_rankers_inside_are_refused() -> None:
    model = trees("a")
    for _ in range(4):
        model = fusion({"x": model, "y": trees("b")})
    with pytest.raises(SpecError, match="stand 4 deep within each other, and 3 are the most"):
        parse(LateFusionSpec, model)
    words = {name: {"kind": "bm25", "query": ["q"], "candidate": [name]} for name in ("m", "n")}
    with pytest.raises(SpecError, match="a fusion of rankers is no member of another; 'search' is one"):
        parse(LateFusionSpec, fusion({"search": {"kind": "late_fusion", "members": words}, "x": trees("a")}))
    with pytest.raises(
        SpecError, match=r"must all rank .* or all predict a label .*; received 'w', a bm25, beside 'x', a sklearn"
    ):
        parse(LateFusionSpec, fusion({"w": words["m"], "x": trees("a")}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A tower model on the rows of ``data()``, not refitted."""
    folder = tmp_path_factory.mktemp("trained")
    return fit({"model": towers("a"), "training": TRAINING | {"refit": False}}, data(), run=folder / "run")


@pytest.mark.parametrize(
    "combine", [{"kind": "average"}, {"kind": "weighted"}, {"kind": "stack", "folds": 2}], ids=lambda c: c["kind"]
)
def test_a_run_goes_in_as_it_is_and_the_new_run_needs_it_no_more(
    tmp_path: Path, trained: Run, combine: dict[str, Any]
) -> None:
    dataset, other = data(), tmp_path / "other"
    shutil.copytree(trained.path, other)
    model = fusion({"old": {"kind": "run", "path": str(other)}, "new": trees("b")}, **combine)
    run = fit({"model": model, "training": TRAINING | {"refit": False}}, dataset, run=tmp_path / "run")
    shutil.rmtree(other)
    again = load(run.path)
    for path in (trained.path / "model").iterdir():
        assert (run.path / "model" / "members" / "old" / path.name).read_bytes() == path.read_bytes()
    rows = rows_of(dataset)
    assert isinstance(again.model, LateFusion)
    alone = trained.model.predict(rows)["up"]  # type: ignore[union-attr]
    assert np.allclose(again.model.member_predictions(rows)["old"]["up"], alone, rtol=1e-12)
    assert again.predict(rows.data).equals(run.predict(rows.data))


def test_a_fusion_is_a_member_too(tmp_path: Path) -> None:
    dataset = data()
    first = fit(
        {"model": fusion({"x": trees("a"), "y": trees("b")}, kind="stack", folds=2)}, dataset, run=tmp_path / "first"
    )
    model = fusion({"old": {"kind": "run", "path": str(first.path)}, "new": trees("b")})
    run = fit({"model": model}, dataset, run=tmp_path / "second")
    assert {"member old", "member old/x", "member new"} <= set(run.baselines)
    assert load(run.path).predict(rows_of(dataset).data).equals(run.predict(rows_of(dataset).data))


def test_a_run_that_learned_from_other_rows_is_refused(tmp_path: Path, trained: Run) -> None:
    model = fusion({"old": {"kind": "run", "path": str(trained.path)}, "new": trees("b")})
    with pytest.raises(
        RunError,
        match="learned from other rows than this training: its examples, test, train, validation differ|its examples differ",
    ):
        fit({"model": model}, data(seed=1), run=tmp_path / "a")
    other_split = read(data().examples.data, split=SPLIT, seed=7)
    with pytest.raises(RunError, match="its test, train, validation differ"):
        fit({"model": model}, other_split, run=tmp_path / "b")
    with pytest.raises(RunError, match=r"There is no folder .*no; check the path"):
        fit(
            {"model": fusion({"old": {"kind": "run", "path": str(tmp_path / "no")}, "new": trees("b")})},
            data(),
            run=tmp_path / "c",
        )


def test_a_run_that_does_not_say_its_rows_is_refused(tmp_path: Path, trained: Run) -> None:
    old = tmp_path / "old"
    shutil.copytree(trained.path, old)
    write_json(
        old / "data.json", {key: value for key, value in read_json(old / "data.json").items() if key != "fingerprint"}
    )
    (old / "manifest.json").unlink()
    write_manifest(old, kind="tower_model")
    model = fusion({"old": {"kind": "run", "path": str(old)}, "new": trees("b")})
    with pytest.raises(RunError, match="does not say which rows it learned from"):
        fit({"model": model}, data(), run=tmp_path / "run")


def test_a_run_that_was_refitted_does_not_choose_weights(tmp_path: Path) -> None:
    dataset = data()
    refitted = fit({"model": towers("a"), "training": TRAINING | {"refit": True}}, dataset, run=tmp_path / "refitted")
    member = {"kind": "run", "path": str(refitted.path)}
    with pytest.raises(RunError, match=r"refitted on the validation rows .* give combine\.weights"):
        fit({"model": fusion({"old": member, "new": trees("b")}, kind="weighted")}, dataset, run=tmp_path / "a")
    given = fusion({"old": member, "new": trees("b")}, kind="weighted", weights={"old": 1, "new": 1})
    fit({"model": given}, dataset, run=tmp_path / "b")


def test_a_run_that_ranks_is_no_member(tmp_path: Path) -> None:
    ids = {"kind": "two_tower", "query": {"kind": "id", "dim": 4}, "candidate": {"kind": "id", "dim": 4}}
    draw = np.random.default_rng(0)
    pairs = read(
        {"u": draw.integers(0, 9, 80).astype(str), "i": draw.integers(0, 12, 80).astype(str)}, query="u", candidate="i"
    )
    ranker = fit({"model": ids, "training": {"epochs": 1}}, pairs, run=tmp_path / "ranker")
    model = fusion({"old": {"kind": "run", "path": str(ranker.path)}, "new": trees("b")})
    with pytest.raises(SpecError, match=r"ranks \(two_tower\); a member of kind run must predict"):
        fit({"model": model}, data(), run=tmp_path / "run")


def test_the_path_of_a_run_starts_at_the_spec_file(tmp_path: Path, trained: Run) -> None:
    shutil.copytree(trained.path, tmp_path / "runs" / "old")
    spec = tmp_path / "fusion.yaml"
    lines = [
        "data: {examples: {path: x.csv}}",
        "model:",
        "  kind: late_fusion",
        "  combine: {kind: average}",
        "  members:",
    ]
    lines += ["    old: {kind: run, path: runs/old}", "    group: {kind: late_fusion, members: {"]
    lines += ["      in: {kind: run, path: runs/old}, afar: {kind: run, path: /elsewhere}}}"]
    spec.write_text("\n".join(lines))
    model = load_spec(spec).model
    assert isinstance(model, LateFusionSpec)
    assert model.members["old"].path == str(tmp_path / "runs" / "old")  # type: ignore[union-attr]
    inner = model.members["group"].members  # type: ignore[union-attr]
    assert (inner["in"].path, inner["afar"].path) == (str(tmp_path / "runs" / "old"), "/elsewhere")  # type: ignore[union-attr]
