"""Temperatures and thresholds, read off validation rows.

Invariants:
- the temperature is the one with the lowest loss: a planted over-confident model gets its factor back, a calibrated one keeps
  1, and the log-loss of rows that were not read falls; reading it off rows whose labels are shuffled does not help those;
- a temperature changes neither the order nor the most probable class; where every row is right by a margin it is 1;
- the threshold is as good as the best of all cuts, found by trying each; it is the same for any order of the rows;
- only validation rows are read: other test rows change no byte of the saved model, other validation rows do;
- with ``refit`` they are read off the first model, and the second keeps them; a training that was interrupted in the refit
  ends with the same ones;
- a label that only validation rows have is learned by the refit alone: its threshold is a half, and the others keep theirs;
- what cannot be read off is refused before the training: no validation rows, no labels, one class;
- a stored decision comes back, and one that no training stores is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from towerkit.core.errors import DataError, SpecError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.spec import DataSpec
from towerkit.data.splits import Parts
from towerkit.data.table import Table
from towerkit.experiment import checkpoints_of, recipe_of, train_and_evaluate
from towerkit.heads.decision import Decision
from towerkit.heads.heads import BinaryHead, Head, MulticlassHead, OrdinalHead
from towerkit.heads.multilabel import MultilabelHead
from towerkit.measurable import check_measurable
from towerkit.models.answer import TaskPredictor
from towerkit.spec import ModelingSpec
from towerkit.testing.leaks import fingerprint, replaced_rows
from towerkit.training import decisions
from towerkit.training.decisions import best_temperature, best_threshold
from towerkit.training.fit import fit_recipe
from towerkit.training.progress import Silent
from towerkit.training.state import seeded_torch

ROWS = 4000


def made(kind: str) -> Head:
    with seeded_torch(0):
        heads = {
            "binary": BinaryHead(1, (), 1),
            "multiclass": MulticlassHead(1, (), 4),
            "ordinal": OrdinalHead(1, (), 4),
        }
        return heads[kind] if kind in heads else MultilabelHead(1, (), 3)


@torch.no_grad()
def mean_loss(head: Head, logits: Tensor, labels: Tensor) -> float:
    return float(head.loss(logits, labels).mean())


@torch.no_grad()
def planted(kind: str, factor: float, seed: int = 0) -> tuple[Head, Tensor, Tensor]:
    """A head, logits that are ``factor`` times too large, and labels drawn from what they should have been."""
    generator = torch.Generator().manual_seed(seed)
    head = made(kind)
    if kind == "binary":
        logits = 1.5 * torch.randn(ROWS, 1, generator=generator, dtype=torch.float64)
    elif kind == "multiclass":
        logits = 1.5 * torch.randn(ROWS, 4, generator=generator, dtype=torch.float64)
    elif kind == "ordinal":
        cuts = torch.tensor([-1.0, 0.5, 1.5], dtype=torch.float64)
        logits = 2 * torch.randn(ROWS, 1, generator=generator, dtype=torch.float64) - cuts
    else:
        logits = 1.5 * torch.randn(ROWS, 3, generator=generator, dtype=torch.float64)
    true = head.probabilities(logits)
    if kind == "multilabel":
        return head, logits * factor, (torch.rand(true.shape, generator=generator) < true).to(torch.int8)
    return head, logits * factor, torch.multinomial(true, 1, generator=generator)[:, 0]


kinds = pytest.mark.parametrize("kind", ["binary", "multiclass", "ordinal", "multilabel"])


# --- temperature --------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_a_planted_factor_comes_back_and_unread_rows_gain(kind: str, factor: float) -> None:
    head, logits, labels = planted(kind, factor)
    half, ones = ROWS // 2, torch.ones(ROWS // 2)
    found = best_temperature(head, logits[:half], labels[:half], ones)
    assert found == pytest.approx(factor, rel=0.12)
    before, after = (mean_loss(head, logits[half:] / t, labels[half:]) for t in (1.0, found))
    if factor != 1.0:
        assert after < before - 0.005
    best = min(mean_loss(head, logits[:half] / t, labels[:half]) for t in np.geomspace(0.05, 20, 400))
    assert mean_loss(head, logits[:half] / found, labels[:half]) <= best + 1e-9, "no other one is better"
    with torch.no_grad():
        classes = [head.probabilities(logits / t).argmax(dim=1) for t in (1.0, found)]
    if kind != "ordinal":  # neighbors' differences may change places
        assert torch.equal(*classes)


@kinds
def test_shuffled_labels_do_not_help(kind: str) -> None:
    head, logits, labels = planted(kind, 3.0)
    half, ones = ROWS // 2, torch.ones(ROWS // 2)
    shuffled = labels[:half][torch.randperm(half, generator=torch.Generator().manual_seed(1))]
    right, wrong = (best_temperature(head, logits[:half], each, ones) for each in (labels[:half], shuffled))
    losses = [mean_loss(head, logits[half:] / t, labels[half:]) for t in (right, wrong)]
    assert wrong > 2 * right and losses[0] < losses[1] - 0.02


def test_rows_weigh() -> None:
    head, logits, labels = planted("binary", 2.0)
    other = planted("binary", 0.5)
    both = torch.cat([logits, other[1]]), torch.cat([labels, other[2]])
    for mine, factor in ((1.0, 2.0), (0.0, 0.5)):
        weights = torch.cat([torch.full((ROWS,), mine), torch.full((ROWS,), 1 - mine)])
        assert best_temperature(head, *both, weights) == pytest.approx(factor, rel=0.12)


def test_where_no_row_weighs_anything_there_is_nothing_to_choose_by() -> None:
    logits, labels = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1])
    assert best_temperature(made("binary"), logits, labels, torch.zeros(2)) == 1.0
    assert best_temperature(made("binary"), logits, labels, torch.tensor([0.0, 1.0])) > 1.0


def test_where_all_is_right_there_is_no_best_temperature() -> None:
    logits = torch.tensor([[2.0], [-1.0], [3.0]], dtype=torch.float64)
    assert best_temperature(made("binary"), logits, torch.tensor([1, 0, 1]), torch.ones(3)) == 1.0
    opposite = best_temperature(made("binary"), logits, torch.tensor([0, 1, 0]), torch.ones(3))
    assert opposite == pytest.approx(20.0, rel=1e-3), "as unsure as it may be"


# --- threshold ----------------------------------------------------------------------------------------------------


def figure(criterion: str, truth: Any, predicted: Any, weight: Any) -> float:
    """By its definition, on counts."""
    hit, wrong = weight[truth & predicted].sum(), weight[~truth & predicted].sum()
    missed, passed = weight[truth & ~predicted].sum(), weight[~truth & ~predicted].sum()
    if criterion == "f1":
        return float(2 * hit / max(2 * hit + wrong + missed, 1e-300))
    if criterion == "accuracy":
        return float((hit + passed) / weight.sum())
    return float((hit / (hit + missed) + passed / (passed + wrong)) / 2)


@given(
    rows=st.lists(
        st.tuples(
            st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.55, 0.9, 1.0]), st.sampled_from([0.5, 1.0, 2.0])
        ),
        min_size=2,
        max_size=12,
    ),
    criterion=st.sampled_from(["f1", "accuracy", "balanced_accuracy"]),
)
def test_no_cut_is_better(rows: list[tuple[bool, float, float]], criterion: Any) -> None:
    truth, scores, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = best_threshold(truth, scores, weight, criterion)
    if not truth.any() or (criterion != "f1" and truth.all()):
        assert found == 0.5
        return
    tried = [figure(criterion, truth, scores >= cut, weight) for cut in np.linspace(0, 1, 401)]
    if truth.all():
        assert (scores >= found).all()
    assert figure(criterion, truth, scores >= found, weight) == pytest.approx(max(tried), abs=1e-9)
    assert best_threshold(truth[::-1], scores[::-1], weight[::-1], criterion) == found


def test_of_equally_good_thresholds_the_one_nearest_to_a_half() -> None:
    truth, scores = np.array([True, False]), np.array([0.9, 0.1])
    assert best_threshold(truth, scores, np.ones(2), "f1") == 0.5
    neighbors = np.array([np.nextafter(0.3, 1), 0.3])
    found = best_threshold(truth, neighbors, np.ones(2), "f1")
    assert (neighbors >= found).tolist() == [True, False], "where no number lies between"


# --- trainings ----------------------------------------------------------------------------------------------------


def reviews(rows: int = 300) -> Dataset:
    random = np.random.default_rng(5)
    signal = random.normal(size=rows)
    columns = {
        "age": signal.tolist(),
        "liked": [None if n % 11 == 0 else bool(v) for n, v in enumerate(signal + random.normal(size=rows) > 1.0)],
        "stars": (1 + (signal > -0.5) + (signal > 0.7)).tolist(),
        "tags": ["|".join(["a"] * int(v > 0.8) + ["b"] * int(v < 0.2)) for v in signal + random.normal(size=rows)],
    }
    data = parse(DataSpec, {"examples": {"path": "p"}, "split": {"kind": "random", "validation": 0.3, "test": 0.3}})
    return make_dataset(data, Table(pa.table(columns), "p"))


HEADS: Mapping[str, Mapping[str, Any]] = {
    "liked": {"kind": "binary", "column": "liked", "threshold": {"choose": "f1"}, "calibration": "temperature"},
    "stars": {"kind": "ordinal", "column": "stars", "calibration": "temperature"},
    "tags": {
        **{"kind": "multilabel", "column": "tags", "missing": "none"},
        **{"threshold": {"choose": "balanced_accuracy"}, "calibration": "temperature"},
    },
}


def spec(heads: Mapping[str, Any] = HEADS, **training: Any) -> ModelingSpec:
    towers = {"table": {"kind": "table", "columns": ["age"], "layers": [8], "dim": 4}}
    optimizer = {"kind": "adam", "lr": 0.05}
    return ModelingSpec.model_validate(
        {
            "model": {"kind": "tower_model", "towers": towers, "heads": heads},
            "training": {"epochs": 3, "batch_size": 32, "optimizer": optimizer, **training},
        }
    )


def decided(dataset: Dataset, **training: Any) -> Mapping[str, Decision]:
    model = train_and_evaluate(spec(**training), dataset, Silent()).model
    assert isinstance(model, TaskPredictor)
    return model.decisions


def with_new_label(data: Dataset, label: str, part: str) -> Dataset:
    """The rows of a part, half of them with one more tag."""
    tags = data.examples.data.column("tags").to_pylist()
    for row in data.parts.get(part)[::2]:
        tags[row] = "|".join(filter(None, [label, tags[row]]))
    table = data.examples.data.drop_columns(["tags"]).append_column("tags", pa.array(tags))
    return replace(data, examples=replace(data.examples, data=table))


def test_a_label_that_only_the_refit_meets(tmp_path: Path) -> None:
    data = with_new_label(reviews(), "again", "validation")  # sorts between "a" and "b"
    heads = {"tags": {**HEADS["tags"], "calibration": "none"}}
    outcome = train_and_evaluate(spec(heads), data, Silent())
    model = outcome.model
    assert isinstance(model, TaskPredictor) and model.tasks["tags"].classes == ("a", "again", "b")
    alone = train_and_evaluate(spec(heads, refit=False), data, Silent()).model
    assert isinstance(alone, TaskPredictor) and alone.tasks["tags"].classes == ("a", "b")
    first, new, last = model.decisions["tags"].thresholds
    assert (first, last) == alone.decisions["tags"].thresholds and new == 0.5 and first != 0.5
    assert outcome.evaluation.protocol["tasks"]["tags"]["threshold"] == [first, 0.5, last]


def test_only_validation_rows_are_read() -> None:
    data, wanted = reviews(), spec()
    before = fingerprint(wanted, data)
    labels = {"liked", "stars", "tags"}
    assert fingerprint(wanted, replaced_rows(data, data.parts.test, among_known=labels)) == before
    moved = fingerprint(wanted, replaced_rows(data, data.parts.validation, among_known=labels))
    assert moved["model/model.json"] != before["model/model.json"], "the comparison can fail"


def test_the_rows_read_are_the_validation_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = reviews(), []
    real = decisions._answers

    def spy(task: str, model: Any, encoded: Any, rows: Any) -> Any:
        read.append(rows.tolist())
        return real(task, model, encoded, rows)

    monkeypatch.setattr(decisions, "_answers", spy)
    decided(data)
    assert read == [data.parts.validation.tolist()] * 3


def test_the_refit_keeps_what_the_first_model_said() -> None:
    data = reviews()
    alone, again = decided(data, refit=False), decided(data, refit=True)
    for task, decision in alone.items():
        assert decision.rows > 0 and not decision.before_refit
        assert again[task] == replace(decision, before_refit=True)
    assert 0 < alone["liked"].thresholds[0] < 0.5, "a third is liked: F1 wants a lower threshold"
    assert len(alone["tags"].thresholds) == 2 and alone["stars"].thresholds == (0.5,)
    assert {decision.calibration for decision in alone.values()} == {"temperature"}


def test_a_training_that_stopped_in_the_refit_decides_the_same(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    class Watch(Silent):
        def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
            if stage == "refit" and record["epoch"] == 2:
                raise Crash

    data, wanted = reviews(), spec(checkpoint_every=1)
    whole = fit_recipe(recipe_of(wanted, data), data, wanted.training, Silent())
    points = checkpoints_of(tmp_path / "run", wanted, data)
    with points.held(), pytest.raises(Crash):
        fit_recipe(recipe_of(wanted, data), data, wanted.training, Watch(), points)
    points = checkpoints_of(tmp_path / "run", wanted, data)
    saved = points.load()
    assert saved is not None and saved.stretch.stage == "refit"
    assert fit_recipe(recipe_of(wanted, data), data, wanted.training, Silent(), points).decisions == whole.decisions
    finished = points.load()
    assert finished is not None and finished.stretch.finished
    assert fit_recipe(recipe_of(wanted, data), data, wanted.training, Silent(), points).decisions == whole.decisions


def test_a_given_threshold_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "_answers", None)
    heads = {"liked": {"kind": "binary", "column": "liked", "threshold": 0.25}, "tags": {**HEADS["tags"]}}
    heads["tags"] |= {"threshold": 0.3, "calibration": "none"}
    wanted = spec(heads)
    model = train_and_evaluate(wanted, reviews(), Silent()).model
    assert isinstance(model, TaskPredictor)
    assert model.decisions == {"liked": Decision(thresholds=(0.25,)), "tags": Decision(thresholds=(0.3,))}


# --- refusals -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_off_is_refused_before_the_training() -> None:
    data = reviews()
    none = replace(data, parts=Parts(data.parts.train, data.parts.validation[:0], data.parts.test), uncut=None)
    with pytest.raises(
        SpecError, match=r"'liked' chooses a threshold on validation rows, and the split holds none out"
    ):
        check_measurable(spec(), none)
    with pytest.raises(SpecError, match="'stars' chooses a temperature on validation rows, and the split holds none"):
        check_measurable(spec({"stars": HEADS["stars"]}), none)
    check_measurable(spec({"liked": {**HEADS["liked"], "threshold": 0.4, "calibration": "none"}}), none)
    liked = data.examples.data.column("liked").to_pylist()
    for values, message in (
        ([None] * len(data.parts.validation), "none of them has a known value in its label column 'liked'"),
        ([True] * len(data.parts.validation), r"all 90 labelled ones have the same class in the column 'liked'"),
    ):
        column = list(liked)
        for row, value in zip(data.parts.validation.tolist(), values, strict=True):
            column[row] = value
        place = data.examples.data.column_names.index("liked")
        table = Table(data.examples.data.set_column(place, "liked", pa.array(column)), "p")
        with pytest.raises(DataError, match=message):
            check_measurable(spec(), replace(data, examples=table))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan, {"choose": "f2"}, {"by": "f1"}])
def test_a_threshold_is_a_probability_or_a_known_choice(threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold"):
        spec({"liked": {"kind": "binary", "column": "liked", "threshold": threshold}})


def test_a_stored_decision_comes_back_and_an_impossible_one_is_refused() -> None:
    decision = Decision(1.5, (0.2, 0.3), "temperature", "f1", 80, "validation", True)
    assert Decision.from_dict(decision.as_dict()) == decision
    for changed, message in (
        ({"temperature": 0.0}, "above 0, got 0.0"),
        ({"temperature": math.inf}, "above 0, got inf"),
        ({"thresholds": [0.2, 1.2]}, r"in 0 to 1, got \[0.2, 1.2\]"),
        ({"thresholds": []}, r"in 0 to 1, got \[\]"),
        ({"read_off": "test"}, "read off known rows, got 'test'"),
    ):
        with pytest.raises(ValueError, match=message):
            Decision.from_dict({**decision.as_dict(), **changed})
