"""Another member in a trained late fusion.

Pinned: the files of the members that stay are the same bytes; the new Run answers as one that was trained whole with the new
member, combiner included, for every combiner, with a refit and without; no member that stays is trained again; a trained Run can
come, and a member that came from a Run can stay when that Run is gone; lineage stands in the manifest and in the card; what
cannot be replaced, other rows and a Run that kept nothing are told.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towerkit import cli
from towerkit.api import fit, read
from towerkit.core.errors import RunError, SpecError
from towerkit.data.dataset import Dataset
from towerkit.ensembles import fit_late
from towerkit.replacement import member_from, replace_member
from towerkit.run import Run, load_run
from towerkit.testing.encoders import small_text_encoder
from towerkit.training.progress import Silent

UP = {"kind": "binary", "column": "up"}
TRAINING: dict[str, Any] = {"epochs": 2, "optimizer": {"kind": "adam", "lr": 0.05}}
FOREST = {"kind": "random_forest", "n_estimators": 10, "min_samples_leaf": 8, "max_features": 1.0}
OLD: dict[str, Any] = {"kind": "sklearn", "estimator": FOREST, "columns": ["a"], "task": UP}
NEW: dict[str, Any] = {**OLD, "estimator": {"kind": "knn", "n_neighbors": 9}, "columns": ["b"]}
TOWERS: dict[str, Any] = {
    "kind": "tower_model",
    "towers": {"t": {"kind": "table", "columns": ["c"], "layers": [], "dim": 4}},
    "heads": {"liked": UP},
}
GROUP: dict[str, Any] = {"kind": "late_fusion", "members": {"x": OLD, "y": TOWERS}, "combine": {"kind": "average"}}
COMBINES: list[dict[str, Any]] = [
    {"kind": "stack", "folds": 2},
    {"kind": "weighted", "calibrate": "temperature"},
    {"kind": "weighted", "weights": {"goes": 1, "group": 2, "stays": 1}},
    {"kind": "vote"},
]


def data(seed: int = 0) -> Dataset:
    """Three columns that know something."""
    draw = np.random.default_rng(seed)
    a, b, c = draw.normal(size=(3, 240))
    return read(
        {"a": a, "b": b, "c": c, "up": (a + b + c > 0).astype(int)},
        split={"kind": "random", "validation": 0.2, "test": 0.2},
    )


def trained(folder: Path, goes: dict[str, Any] = OLD, *, refit: bool = False, **combine: Any) -> Run:
    model = {"kind": "late_fusion", "members": {"goes": goes, "stays": TOWERS, "group": GROUP}, "combine": combine}
    return fit({"model": model, "training": TRAINING | {"refit": refit}}, data(), run=folder)


def member_files(run: Run, name: str) -> dict[str, bytes]:
    place = run.path / "model" / "members" / name
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("refit", [False, True], ids=["once", "refit"])
@pytest.mark.parametrize("combine", COMBINES, ids=lambda c: "-".join([*list(c)[:2], str(c["kind"])]))
def test_it_is_the_run_that_a_whole_training_gives(
    tmp_path: Path, combine: dict[str, Any], refit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = trained(tmp_path / "before", refit=refit, **combine)
    whole = trained(tmp_path / "whole", NEW, refit=refit, **combine)
    fitted: list[str] = []
    for name in ("fit_member", "fit_apart"):
        real = getattr(fit_late, name)
        monkeypatch.setattr(
            fit_late, name, lambda spec, *rest, real=real: (fitted.append(spec.kind), real(spec, *rest))[1]
        )
    run, _ = replace_member(tmp_path / "after", before, "goes", NEW, data(), Silent())
    assert set(fitted) == {"sklearn"}, "the tower model and the group stay"
    for name in ("stays", "group"):
        assert member_files(run, name) == member_files(before, name)
    assert member_files(run, "goes") != member_files(before, "goes")
    rows = data().examples.data
    assert load_run(run.path).predict(rows).equals(whole.predict(rows))
    assert run.evaluation.as_dict() == whole.evaluation.as_dict()
    for name in ("combiner.safetensors", "held-out.safetensors"):
        one, other = run.path / "model" / name, whole.path / "model" / name
        assert one.exists() == other.exists() and (not one.exists() or one.read_bytes() == other.read_bytes())


def test_lineage_stands_in_the_manifest_and_in_the_card(tmp_path: Path) -> None:
    before = trained(tmp_path / "before", kind="stack", folds=2)
    run, _ = replace_member(tmp_path / "after", before, "goes", NEW, data(), Silent())
    told = load_run(run.path).manifest.extra["replaces"]
    assert (told["run"], told["member"], len(told["sha256"])) == ("before", "goes", 64)
    assert "in the same 2 folds" in told["fitted"]
    card = (run.path / "card.md").read_text()
    assert "It is the Run `before`" in card and told["sha256"][:16] in card and "the same 2 folds" in card
    again, _ = replace_member(tmp_path / "again", run, "goes", OLD, data(), Silent())
    assert again.predict(data().examples.data).equals(before.predict(data().examples.data)), "there and back"


def test_a_run_can_come_and_one_that_came_can_stay_when_it_is_gone(tmp_path: Path) -> None:
    other = fit(
        {"model": {**TOWERS, "heads": {"up": UP}}, "training": TRAINING | {"refit": False}},
        data(),
        run=tmp_path / "other",
    )
    before = trained(tmp_path / "before", kind="weighted")
    came, _ = replace_member(tmp_path / "came", before, "goes", member_from(other.path), data(), Silent())
    files = {path.name: path.read_bytes() for path in (other.path / "model").iterdir()}
    assert member_files(came, "goes") == files
    shutil.rmtree(other.path)
    shutil.rmtree(before.path)
    kept, _ = replace_member(tmp_path / "kept", came, "stays", NEW, data(), Silent())
    assert member_files(kept, "goes") == files
    assert kept.spec["model"]["members"]["goes"]["kind"] == "tower_model"


def test_what_cannot_be_replaced_is_told(tmp_path: Path) -> None:
    before = trained(tmp_path / "before", kind="average")
    for name, message in (
        ("gos", r"has no member 'gos'; did you mean 'goes'\? Its members are 'goes', 'group', 'stays'"),
        ("group/x", r"no member 'group/x'.*Replace the group 'group' as a whole"),
    ):
        with pytest.raises(RunError, match=message):
            replace_member(tmp_path / "a", before, name, NEW, data(), Silent())
    with pytest.raises(RunError, match="was trained with other rows: its examples differ"):
        replace_member(tmp_path / "b", before, "goes", NEW, data(seed=3), Silent())
    with pytest.raises(
        SpecError, match=r"with another 'goes': model\.members\.goes.*unknown key 'column_s'; did you mean 'columns'"
    ):
        replace_member(tmp_path / "c", before, "goes", {**NEW, "column_s": []}, data(), Silent())
    with pytest.raises(SpecError, match="must all rank"):
        replace_member(
            tmp_path / "d", before, "goes", {"kind": "bm25", "query": ["a"], "candidate": ["b"]}, data(), Silent()
        )
    alone = fit({"model": TOWERS, "training": TRAINING}, data(), run=tmp_path / "alone")
    with pytest.raises(
        RunError, match=r"alone is a tower_model; a member can be replaced in a late fusion of members that predict"
    ):
        replace_member(tmp_path / "e", alone, "goes", NEW, data(), Silent())
    with pytest.raises(SpecError, match="neither a Run nor a file"):
        member_from(tmp_path / "nothing.yaml")


def test_a_member_that_reads_by_a_pretrained_encoder_keeps_it(tmp_path: Path) -> None:
    encoder = small_text_encoder(tmp_path / "encoder")
    words = ["good cloth", "bad cloth"]
    draw = np.random.default_rng(0)
    up, b = draw.integers(0, 2, 120), draw.normal(size=120)
    split = {"kind": "random", "validation": 0.2, "test": 0.2}
    dataset = read({"text": [f"{words[u]} {n}" for n, u in enumerate(up)], "b": b, "a": b, "up": up}, split=split)
    text = {"kind": "text", "columns": ["text"], "encoder": {"kind": "pretrained", "path": str(encoder)}, "dim": 4}
    reads = {"kind": "tower_model", "towers": {"text": text}, "heads": {"liked": UP}}
    group = {**GROUP, "members": {"inner": reads, "x": OLD}}
    model = {
        "kind": "late_fusion",
        "members": {"goes": OLD, "reads": reads, "group": group},
        "combine": {"kind": "average"},
    }
    before = fit({"model": model, "training": TRAINING}, dataset, run=tmp_path / "before")
    run, _ = replace_member(tmp_path / "after", before, "goes", NEW, dataset, Silent())
    shutil.rmtree(before.path)
    shutil.rmtree(encoder)
    rows = dataset.examples.data
    assert load_run(run.path).predict(rows).equals(run.predict(rows))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    lines = [f"{a},{b},{int(a + b > 0)}" for a, b in draw.normal(size=(200, 2)).round(4)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,up", *lines]))
    other = {**OLD, "columns": ["b"]}
    model = {"kind": "late_fusion", "members": {"one": OLD, "two": other}, "combine": {"kind": "weighted"}}
    (tmp_path / "spec.yaml").write_text(json.dumps({"data": {"examples": {"path": "rows.csv"}}, "model": model}))
    (tmp_path / "new.yaml").write_text(json.dumps(NEW))

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["towerkit", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    assert call("train", "spec.yaml", "--run", "before", "--json")[0] == 0
    status, out, _ = call("replace", "before", "two", "new.yaml", "--run", "after", "--json")
    assert status == 0 and json.loads(out)["replaces"]["member"] == "two"
    assert member_files(load_run("after"), "one") == member_files(load_run("before"), "one")
    assert "Fitted: weights and temperatures again" in call("replace", "before", "two", "new.yaml", "--run", "more")[1]
    status, _, err = call("replace", "before", "three", "new.yaml", "--run", "no")
    assert status == 1 and "has no member 'three'" in err
