"""Metrics of sets of labels: what their values mean, and that they are scikit-learn's.

Pinned here:
- hand-worked values;
- every metric equals scikit-learn's to 1e-9, with and without sample weights, over the labels (for ``samples`` the rows)
  that are there or were predicted; a label or row that is neither is left out, and where nothing is left it is nan;
- a weight is a repetition; many weightings at once equal each alone;
- each label has its own threshold; the confusion is a matrix per label;
- impossible input is refused, with row, label and value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.metrics.multilabel import (
    MULTILABEL_METRICS,
    MultilabelRows,
    multilabel_confusion,
    multilabel_precision_recall_f1,
)
from towerkit.metrics.tasks import task_metrics

Floats = NDArray[np.float64]
Case = tuple[NDArray[np.int8], Floats, Floats]


@st.composite
def predictions(draw: st.DrawFn, weights: str = "positive") -> Case:
    """Truth, probabilities on a coarse grid that avoids 0.5 and the edges of bins, and weights."""
    shape = draw(st.integers(1, 10)), draw(st.integers(2, 4))  # scikit-learn takes one column for two classes
    truth = draw(arrays(np.int8, shape, elements=st.integers(0, 1)))
    table = draw(arrays(np.float64, shape, elements=st.sampled_from([0.02, 0.15, 0.45, 0.55, 0.85])))
    weight = {"positive": st.sampled_from([0.25, 0.5, 1.0, 3.5]), "counts": st.sampled_from([0.0, 1.0, 2.0, 3.0])}
    return truth, table, draw(arrays(np.float64, shape[0], elements=weight[weights]))


def test_by_hand() -> None:
    truth = [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    table = [[0.9, 0.6, 0.1], [0.8, 0.3, 0.2], [0.2, 0.1, 0.1]]
    values = task_metrics(truth, table, kind="multilabel")
    assert tuple(values) == MULTILABEL_METRICS
    # Predicted at 0.5: {0, 1}, {0}, {}. Two of four labels right and one missed; only the third row is right as a whole.
    assert values["subset_accuracy"] == pytest.approx(1 / 3)
    assert values["hamming_loss"] == pytest.approx(2 / 9)
    assert values["precision_micro"] == pytest.approx(2 / 3)
    assert values["recall_micro"] == pytest.approx(2 / 3)
    assert values["f1_micro"] == pytest.approx(2 / 3)
    # Label 0 is right throughout, label 1 was predicted where it is not; label 2 is nowhere: left out.
    assert values["precision_macro"] == values["recall_macro"] == values["f1_macro"] == pytest.approx(1 / 2)
    # Label 0 has two rows, label 1 has one.
    assert values["f1_weighted"] == pytest.approx(2 / 3)
    # The rows: 1 of 2 predicted and 1 of 1 true; 1 of 1 and 1 of 2; the third has none and was predicted none: left out.
    assert values["precision_samples"] == pytest.approx((1 / 2 + 1) / 2)
    assert values["recall_samples"] == pytest.approx((1 + 1 / 2) / 2)
    assert values["f1_samples"] == pytest.approx(2 / 3)
    # Label 0: 0.9 and 0.8 above 0.2. Label 1: 0.3 below 0.6, above 0.1; its precision there is 1 of 2.
    assert values["auc"] == pytest.approx((1 + 1 / 2) / 2)
    assert values["average_precision"] == pytest.approx((1 + 1 / 2) / 2)
    losses = np.log([0.9, 0.4, 0.9, 0.8, 0.3, 0.8, 0.8, 0.9, 0.9])
    assert values["log_loss"] == pytest.approx(-losses.mean())
    assert values["brier"] == pytest.approx(np.mean(np.square([0.1, 0.6, 0.1, 0.2, 0.7, 0.2, 0.2, 0.1, 0.1])))
    # Bins: [0.1, 0.2) holds 0.1 three times, none true; [0.2, 0.3) 0.2 twice, none; 0.3, one of one; 0.6, none; 0.8 and 0.9 true.
    assert values["ece"] == pytest.approx((0.3 + 0.4 + 0.7 + 0.6 + 0.2 + 0.1) / 9)


def sklearn_metrics(case: Case, weight: Floats | None) -> dict[str, float]:
    truth, table, _ = case
    predicted, told = (table >= 0.5).astype(int), {"sample_weight": weight}
    seen = np.flatnonzero((truth + predicted).any(axis=0))
    found: dict[str, float] = {
        "subset_accuracy": sk.accuracy_score(truth, predicted, **told),
        "hamming_loss": sk.hamming_loss(truth, predicted, **told),
    }
    for average in ("micro", "macro", "weighted", "samples"):
        rows = (truth + predicted).any(axis=1) if average == "samples" else np.ones(len(truth), bool)
        one = {"average": average, "zero_division": 0, "sample_weight": None if weight is None else weight[rows]}
        one |= {} if average == "samples" else {"labels": seen}
        if not (rows.any() and len(seen)) or (average == "weighted" and not truth.any()):
            three = (math.nan,) * 3
        else:
            three = sk.precision_recall_fscore_support(truth[rows], predicted[rows], **one)
        found |= {f"{name}_{average}": v for name, v in zip(("precision", "recall", "f1"), three[:3], strict=True)}
    columns = [(truth[:, label], table[:, label]) for label in range(truth.shape[1])]
    aucs = [sk.roc_auc_score(t, p, **told) for t, p in columns if 0 < t.sum() < len(t)]
    precisions = [sk.average_precision_score(t, p, **told) for t, p in columns if t.any()]
    cells: dict[str, Any] = {"sample_weight": None if weight is None else np.repeat(weight, truth.shape[1])}
    found["auc"] = np.mean(aucs) if aucs else math.nan
    found["average_precision"] = np.mean(precisions) if precisions else math.nan
    found["log_loss"] = sk.log_loss(truth.ravel(), table.ravel(), labels=[0, 1], **cells)
    found["brier"] = sk.brier_score_loss(truth.ravel(), table.ravel(), labels=[0, 1], **cells)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@given(case=predictions())
def test_sklearn_agrees(case: Case, weighted: bool) -> None:
    weight = case[2] if weighted else None
    ours = task_metrics(case[0], case[1], kind="multilabel", weight=weight)
    ours.pop("ece")  # scikit-learn has none: see test_calibration.py
    assert ours == pytest.approx(sklearn_metrics(case, weight), abs=1e-9, nan_ok=True)


@given(case=predictions(), average=st.sampled_from(["micro", "macro", "weighted", "samples"]))
def test_single_functions_agree(case: Case, average: Any) -> None:
    truth, table, weight = case
    whole = task_metrics(truth, table, kind="multilabel", weight=weight)
    three = multilabel_precision_recall_f1(truth, table >= 0.5, average=average, weight=weight)
    assert list(three) == pytest.approx([whole[f"{n}_{average}"] for n in three._fields], abs=1e-12, nan_ok=True)
    theirs = sk.multilabel_confusion_matrix(truth, table >= 0.5, sample_weight=weight)
    assert multilabel_confusion(truth, table >= 0.5, weight) == pytest.approx(theirs, abs=1e-9)


@given(case=predictions("counts"))
def test_a_weight_is_a_repetition(case: Case) -> None:
    truth, table, weight = case
    assume(weight.any())
    rows = np.repeat(np.arange(len(truth)), weight.astype(int))
    repeated = task_metrics(truth[rows], table[rows], kind="multilabel")
    assert task_metrics(truth, table, kind="multilabel", weight=weight) == pytest.approx(
        repeated, abs=1e-12, nan_ok=True
    )


@given(case=predictions())
def test_many_weightings_equal_each_alone(case: Case) -> None:
    truth, table, weight = case
    weights = np.stack([weight, np.ones(len(weight)), weight[::-1]])
    together = MultilabelRows(truth, table).metrics(weights)
    for place, each in enumerate(weights):
        alone = task_metrics(truth, table, kind="multilabel", weight=each)
        assert {name: v[place] for name, v in together.items()} == pytest.approx(alone, abs=1e-12, nan_ok=True)


def test_each_label_has_its_threshold() -> None:
    truth, table = [[1, 0], [0, 1]], [[0.3, 0.6], [0.1, 0.7]]
    assert task_metrics(truth, table, kind="multilabel")["subset_accuracy"] == 0.5
    assert task_metrics(truth, table, kind="multilabel", threshold=[0.3, 0.65])["subset_accuracy"] == 1.0
    assert task_metrics(truth, table, kind="multilabel", threshold=0.65)["recall_micro"] == 0.5


def test_without_any_label_the_figures_are_undefined_and_not_0() -> None:
    values = task_metrics([[0, 0], [0, 0]], [[0.1, 0.2], [0.3, 0.1]], kind="multilabel")
    undefined = {name for name, value in values.items() if math.isnan(value)}
    figures = {
        f"{name}_{a}" for name in ("precision", "recall", "f1") for a in ("micro", "macro", "weighted", "samples")
    }
    assert undefined == {*figures, "auc", "average_precision"}
    assert values["subset_accuracy"] == 1.0 and values["hamming_loss"] == 0.0
    predicted = task_metrics([[0, 0], [0, 0]], [[0.9, 0.2], [0.3, 0.1]], kind="multilabel")
    assert predicted["precision_micro"] == predicted["f1_macro"] == predicted["f1_samples"] == 0.0


def test_impossible_input_is_refused() -> None:
    good = np.array([[0.1, 0.9], [0.2, 0.3]])
    with pytest.raises(
        DataError, match=r"truth must be 0 or 1 for each label; got 2 in row 1, label 0 \(1 such values\)"
    ):
        MultilabelRows([[0, 1], [2, 0]], good)
    with pytest.raises(DataError, match="truth must hold 0 or 1 for each label, got float64"):
        MultilabelRows(good, good)
    with pytest.raises(DataError, match=r"for each label; logits need a sigmoid first; got -0\.5 in row 0, label 1"):
        MultilabelRows([[0, 1]], [[0.5, -0.5]])
    with pytest.raises(DataError, match=r"got nan in row 0, label 0"):
        MultilabelRows([[0, 1]], [[np.nan, 0.5]])
    with pytest.raises(DataError, match="at least one row"):
        MultilabelRows(np.zeros((0, 2), int), np.zeros((0, 2)))
    with pytest.raises(ShapeError, match=r"\[rows, labels\] of a multilabel task, got \(2,\)"):
        MultilabelRows([0, 1], good)
    with pytest.raises(ShapeError, match=r"as truth is, \(1, 2\); got \(2, 2\)"):
        MultilabelRows([[0, 1]], good)
    with pytest.raises(ShapeError, match=r"of \(1, 2\); got \(3,\)"):
        MultilabelRows([[0, 1]], [[0.5, 0.5]], threshold=[0.1, 0.2, 0.3])
    with pytest.raises(SpecError, match=r"in \[0, 1\], got 1\.5"):
        MultilabelRows([[0, 1]], [[0.5, 0.5]], threshold=[0.1, 1.5])
    bad: Any = "sample"
    with pytest.raises(SpecError, match=r"got 'sample'; did you mean 'samples'\?"):
        multilabel_precision_recall_f1([[0, 1]], [[0, 1]], average=bad)
