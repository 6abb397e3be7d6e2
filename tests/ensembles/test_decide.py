"""Thresholds and temperatures of a late fusion.

Pinned: they are what the same few lines read off the merged held-out predictions (of a stack those of the training rows, stacked
across its folds); test rows change none, and of a stack validation rows neither; with ``refit`` they come from members that had not
seen the validation rows; every answer goes through them, and they come back from the files to the bit; a given threshold
reads nothing, and a fusion without ``decide`` is as before; replacing a member reads them anew; planted rare labels gain F1; what
cannot be decided is told by name before a training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ensembles.test_mixtures import SPLIT, changed, data, forest, test_rows

from towerkit.api import read
from towerkit.core.errors import DataError, RunError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.ensembles.fit_late import Known, fit_late_fusion
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.late_files import load_late_fusion, save_late_fusion
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.member_files import MemberFiles
from towerkit.ensembles.mixtures import cooled, fit_temperature
from towerkit.ensembles.stackers import fit_stacker, folds, stacked
from towerkit.evaluation.prediction import evaluate_tasks
from towerkit.measurable import check_measurable
from towerkit.spec import ModelingSpec
from towerkit.training.decisions import best_threshold
from towerkit.training.progress import Silent
from towerkit.training.spec import TrainingSpec

CHOSEN = {"threshold": {"choose": "f1"}, "calibration": "temperature"}
STACK = {"kind": "stack", "folds": 3}
AVERAGE = {"kind": "average"}


def fusion(
    target: str = "up",
    kind: str = "binary",
    dataset: Dataset | None = None,
    refit: bool = False,
    decide: dict[str, Any] | None = None,
    known: dict[str, Known] | None = None,
    combine: Any = AVERAGE,
) -> LateFusion:
    members = {"one": forest("a", target, kind), "two": forest("b", target, kind)}
    rules = {target: CHOSEN} if decide is None else decide
    spec = parse(LateFusionSpec, {"members": members, "combine": combine, "decide": rules})
    return fit_late_fusion(spec, dataset or data(), TrainingSpec(refit=refit), Silent(), known=known)


def labels_of(dataset: Dataset, found: LateFusion, task: str, part: str) -> Any:
    labels = found.tasks[task]
    return labels.encode(dataset.labelled(labels.column, dataset.parts.get(part)))


@pytest.mark.parametrize("combine", [AVERAGE, {"kind": "weighted"}, STACK], ids=lambda c: c["kind"])
@pytest.mark.parametrize(("target", "kind"), [("up", "binary"), ("tags", "multilabel")])
def test_they_are_read_off_the_merged_held_out_answers(target: str, kind: str, combine: dict[str, Any]) -> None:
    dataset = data()
    found = fusion(target, kind, dataset, combine=combine)
    assert found.held_out is not None
    labels, each = found.tasks[target], [np.asarray(found.held_out[name][target]) for name in ("one", "two")]
    if combine is STACK:
        truth = labels_of(dataset, found, target, "train")
        merged, fold_of = np.zeros_like(each[0]), folds(len(truth), 3, TrainingSpec().seed)
        for fold in range(3):
            apart = fit_stacker(labels, [one[fold_of != fold] for one in each], truth[fold_of != fold], l2=1.0)
            merged[fold_of == fold] = stacked(labels, apart, [one[fold_of == fold] for one in each])
    else:
        truth = labels_of(dataset, found, target, "validation")
        weights = getattr(found.combiners[target], "weights", np.full(2, 0.5))
        merged = np.tensordot(weights, np.stack(each), axes=1)
    ones, decision = np.ones(len(truth)), found.decisions[target]
    assert decision.temperature == pytest.approx(fit_temperature(labels, merged, truth, ones), rel=1e-9)
    scores = cooled(labels, merged, decision.temperature)
    columns = zip(truth.T == 1, scores.T, strict=True) if kind == "multilabel" else [(truth == 1, scores[:, 1])]
    wanted = [best_threshold(true, score, ones, "f1") for true, score in columns]
    assert decision.thresholds == pytest.approx(wanted) and (decision.chosen_by, decision.rows) == ("f1", len(truth))
    assert decision.read_off == ("folds" if combine is STACK else "validation") and not decision.before_refit


def test_test_rows_change_none_and_a_stack_does_not_read_validation_rows() -> None:
    dataset = data()
    for combine in ({"kind": "weighted"}, STACK):
        before = fusion(dataset=dataset, combine=combine).decisions
        assert fusion(dataset=changed(dataset, "test"), combine=combine).decisions == before
        other = fusion(dataset=changed(dataset, "validation"), combine=combine).decisions
        assert (other == before) == (combine is STACK)


def test_with_refit_they_come_from_members_that_had_not_seen_the_validation_rows() -> None:
    before, after = (fusion(refit=refit).decisions["up"] for refit in (False, True))
    assert after == before.refitted() and after.before_refit and not before.before_refit
    folded = fusion(refit=True, combine=STACK).decisions["up"]
    assert folded.read_off == "folds" and not folded.before_refit, "out of fold: the refit changes nothing about it"


def test_every_answer_goes_through_them_and_they_come_back(tmp_path: Path) -> None:
    dataset = data()
    rows, found = test_rows(dataset), fusion("tags", "multilabel", combine={"kind": "weighted"})
    merged = found.merged("tags", found.member_predictions(rows))
    answer, temperature = found.predict(rows)["tags"], found.decisions["tags"].temperature
    assert temperature != 1.0 and np.allclose(answer, cooled(found.tasks["tags"], merged, temperature))
    save_late_fusion(tmp_path, found)
    again = load_late_fusion(tmp_path)
    assert again.decisions == found.decisions and np.array_equal(again.predict(rows)["tags"], answer)
    content = json.loads((tmp_path / "model.json").read_text())
    content["decisions"]["tags"]["thresholds"] = [0.1] * 3
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="the task 'tags' has 2 outputs and 3 thresholds"):
        load_late_fusion(tmp_path)
    del content["decisions"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert load_late_fusion(tmp_path).decisions == {}, "as towerkit wrote it before there were any"


def test_a_given_threshold_reads_nothing_and_none_changes_nothing() -> None:
    dataset = data()
    given = fusion(dataset=dataset, decide={"up": {"threshold": 0.25}})
    assert given.held_out is None and given.decisions["up"].thresholds == (0.25,) and given.decisions["up"].rows == 0
    plain = fusion(dataset=dataset, decide={})
    assert plain.decisions == {} and plain.held_out is None
    assert np.array_equal(plain.predict(test_rows(dataset))["up"], given.predict(test_rows(dataset))["up"])


def test_a_threshold_finds_rare_labels() -> None:
    """Planted: a label of one row in ten that no member is ever half sure of."""
    draw = np.random.default_rng(3)
    a, b = draw.normal(size=(2, 1500))
    rare = ((a + b + draw.normal(size=1500) * 1.5) > 2.6).astype(int)
    dataset = read({"a": a, "b": b, "rare": rare}, split=SPLIT)
    found = fusion("rare", dataset=dataset, decide={"rare": {"threshold": {"choose": "f1"}}})
    rows, truth = test_rows(dataset), {"rare": labels_of(dataset, found, "rare", "test")}
    about = {"part": "test", "split": dataset.split, "seed": 0}
    f1 = [
        evaluate_tasks(found.predict(rows), truth, found.tasks, decisions=made, **about).metrics["f1"].value
        for made in ({}, found.decisions)
    ]
    assert f1[1] > f1[0] + 0.2 and found.decisions["rare"].thresholds[0] < 0.4


def test_replacing_a_member_reads_them_anew_from_what_was_kept() -> None:
    for combine in (AVERAGE, STACK):
        whole = fusion(combine=combine)
        assert whole.held_out is not None
        kept = Known(whole.members["one"], whole.held_out["one"], MemberFiles(Path(), ()))
        again = fusion(known={"one": kept}, combine=combine)
        assert again.decisions == whole.decisions


def test_what_cannot_be_decided_is_told_when_the_spec_is_read() -> None:
    members = {"one": forest("a"), "two": forest("b")}
    inner = {"kind": "late_fusion", "members": members, "decide": {"up": {"threshold": 0.3}}}
    ranks = {name: {"kind": "bm25", "query": ["q"], "candidate": [name]} for name in ("one", "two")}
    towers = {"kind": "tower_model", "towers": {"t": {"kind": "table", "columns": ["a"], "dim": 4}}}
    head = {"kind": "binary", "column": "up", "threshold": 0.3}
    for model, message in (
        ({"members": {"in": inner, "two": forest("c")}}, "the outermost fusion decides; the one called 'in' is a member"),
        ({"members": ranks, "decide": {"up": {}}}, "decide is for members that predict, and these rank; received 'up'"),
        ({"members": {**members, "t": {**towers, "heads": {"up": head}}}}, r"as decide: \{up: \{threshold: …\}\}"),
        ({"members": members, "decide": {"up": {"threshold": 2}}}, r"threshold.*received 2"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=message):
            parse(LateFusionSpec, model)


@pytest.mark.parametrize(
    ("target", "kind", "decide", "message"),
    [
        ("up", "binary", {"down": {}}, "there is no 'down'. They predict 'up'"),
        ("price", "regression", {"price": {"threshold": 0.3}}, r"'price' is a number \(regression\)"),
        (
            "level",
            "multiclass",
            {"level": {"threshold": 0.3}},
            "the task 'level' is multiclass, where the most probable",
        ),
    ],
)
def test_what_cannot_be_decided_of_the_data_is_told(target: str, kind: str, decide: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fusion(target, kind, decide=decide, combine=STACK)


def measurable(dataset: Dataset, **model: Any) -> None:
    members = {"one": forest("a"), "two": forest("b")}
    own = {"kind": "late_fusion", "members": members, "decide": {"up": CHOSEN}, **model}
    check_measurable(parse(ModelingSpec, {"model": own}), dataset)


def test_rows_that_decide_nothing_are_told_before_a_training() -> None:
    columns = {"a": np.arange(40.0), "b": np.arange(40.0)}
    none = read({**columns, "up": np.arange(40) % 2}, split={**SPLIT, "validation": 0.0})
    with pytest.raises(SpecError, match="what 'up' chooses is read off validation rows, and the split holds none out"):
        measurable(none, combine=AVERAGE)
    measurable(none, combine=STACK)
    parts = np.repeat(["train", "validation", "test"], [20, 10, 10])
    split = {"kind": "given", "column": "part"}
    for labels, message in (
        (np.where(parts == "validation", 1, np.arange(40) % 2), "all 10 labelled ones have the same class in the column 'up'"),
        ([None if p == "validation" else n % 2 for n, p in enumerate(parts)], "none of them has a known value in the column 'up'"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            measurable(read({**columns, "part": parts, "up": labels}, split=split), combine=AVERAGE)
