"""Classification metrics: what their values mean, and that they are scikit-learn's.

Pinned here:
- hand-worked values;
- every metric equals scikit-learn's to 1e-9, with and without sample weights, with ties in the scores and with classes
  that no row has or that are never predicted;
- a weight is a repetition: integer weights, zero included, equal repeating the rows;
- many weightings at once equal each alone;
- the order of rows does not matter, AUC does not change under monotone maps of the scores, values are in bounds;
- AUC of one class is nan (macro: such classes are left out), without a warning;
- impossible input is refused, with the first bad row and its value in the message.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning

from towerkit.core.errors import DataError, ShapeError, SpecError
from towerkit.core.random import generator
from towerkit.metrics import areas, calibration, confusion, scoring
from towerkit.metrics.checks import ClassKind
from towerkit.metrics.classification import CLASSIFICATION_METRICS, ClassificationRows
from towerkit.metrics.ranking import RANKING_METRICS
from towerkit.metrics.tasks import TASK_METRICS, higher_is_better, task_metrics

Case = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


@st.composite
def predictions(draw: st.DrawFn, classes: int | None = None, weights: str = "positive") -> Case:
    """Truth, probabilities on a coarse grid (so that scores tie) and weights of up to 12 rows."""
    width = draw(st.integers(2, 5)) if classes is None else classes
    rows = draw(st.integers(1, 12))
    truth = draw(arrays(np.int64, rows, elements=st.integers(0, width - 1)))
    parts = draw(arrays(np.int64, (rows, width), elements=st.integers(1, 4))).astype(np.float64)
    weight = {
        "positive": st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.5]),
        "counts": st.sampled_from([0.0, 1.0, 2.0, 3.0]),
    }[weights]
    return truth, parts / parts.sum(axis=1, keepdims=True), draw(arrays(np.float64, rows, elements=weight))


# ---------------------------------------------------------------- hand-worked values


def test_binary_by_hand() -> None:
    truth = [1, 0, 1, 0, 1]
    p = np.array([0.9, 0.6, 0.6, 0.2, 0.3])
    values = task_metrics(truth, np.stack([1 - p, p], axis=1), kind="binary")
    # Predicted at 0.5: 1 1 1 0 0, so 2 true positives, 1 false positive, 1 false negative, 1 true negative.
    assert values["accuracy"] == pytest.approx(3 / 5)
    assert values["precision"] == pytest.approx(2 / 3)
    assert values["recall"] == pytest.approx(2 / 3)
    assert values["f1"] == pytest.approx(2 / 3)
    # Pairs (positive, negative): 0.9 beats both; 0.6 ties one and beats one; 0.3 beats 0.2 only: 2 + 1.5 + 1 of 6.
    assert values["auc"] == pytest.approx(4.5 / 6)
    assert values["log_loss"] == pytest.approx(-math.log(0.9 * 0.4 * 0.6 * 0.8 * 0.3) / 5)
    assert tuple(values) == CLASSIFICATION_METRICS["binary"]


def test_ordinal_by_hand() -> None:
    truth = [0, 2, 1]
    table = np.array([[0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.2, 0.5, 0.3]])
    values = task_metrics(truth, table, kind="ordinal", weight=[1.0, 1.0, 2.0])
    # Predicted 0 0 1: the second row, of weight 1 out of 4, is off by two classes.
    assert values["accuracy"] == pytest.approx(3 / 4)
    assert values["mae"] == pytest.approx(2 / 4)
    assert values["recall_macro"] == pytest.approx((1 + 1 + 0) / 3)
    assert values["precision_macro"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert values["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    # Class 0: 0.6 against 0.5 and 0.2: 1. Class 1: 0.5 against 0.3 and 0.3: 1. Class 2: 0.2 against 0.1 (weight 1) and
    # 0.3 (weight 2): 1/3.
    assert values["auc"] == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert values["log_loss"] == pytest.approx(-(math.log(0.6) + math.log(0.2) + 2 * math.log(0.5)) / 4)
    assert tuple(values) == CLASSIFICATION_METRICS["ordinal"]


def test_confusion_matrix_has_truth_in_rows() -> None:
    matrix = confusion.confusion_matrix([0, 2, 2], [1, 2, 0], 3, [1.0, 2.0, 0.5])
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 0], [0.5, 0, 2]]


def test_the_threshold_is_included_and_ties_take_the_lower_class() -> None:
    at_threshold = task_metrics([1], [[0.25, 0.75]], kind="binary", threshold=0.75)
    above = task_metrics([1], [[0.25, 0.75]], kind="binary", threshold=0.76)
    tied = task_metrics([0], [[0.5, 0.5]], kind="multiclass")
    assert (at_threshold["recall"], above["recall"], tied["accuracy"]) == (1.0, 0.0, 1.0)


def test_log_loss_is_clipped() -> None:
    assert scoring.log_loss([0], [[0.0, 1.0]]) == pytest.approx(-math.log(1e-15))
    perfect = scoring.log_loss([0], [[1.0, 0.0]])
    assert perfect == 0.0
    assert math.copysign(1, perfect) == 1.0  # not "-0.0"


# ---------------------------------------------------------------- scikit-learn


def sklearn_metrics(
    truth: NDArray[np.int64], table: NDArray[np.float64], kind: ClassKind, weight: NDArray[np.float64] | None
) -> dict[str, float]:
    binary, classes = kind == "binary", range(table.shape[1])
    predicted = (table[:, 1] >= 0.5).astype(int) if binary else table.argmax(axis=1)
    told: dict[str, Any] = {"sample_weight": weight}
    threes = [
        sk.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0, **told)[:3]
        for average in (["binary"] if binary else ["macro", "weighted"])
    ]
    present = [code for code in ([1] if binary else classes) if (truth == code).any()]
    aucs = [sk.roc_auc_score(truth == code, table[:, code], **told) for code in present if (truth != code).any()]
    precisions = [sk.average_precision_score(truth == code, table[:, code], **told) for code in present]
    steps = sk.mean_absolute_error(truth, predicted, **told)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # of kappa, where all rows are of one class
        kappa = sk.cohen_kappa_score(truth, predicted, labels=classes, weights="quadratic", **told)
    values = [
        sk.accuracy_score(truth, predicted, **told),
        *(value for three in threes for value in three[:3] if binary or three is threes[0]),
        *(() if binary else (threes[1][0], threes[1][2])),  # the weighted recall is the accuracy
        np.mean(aucs) if aucs else np.nan,
        np.mean(precisions) if precisions else np.nan,
        sk.log_loss(truth, table, labels=list(classes), **told),
        sk.brier_score_loss(truth, table, labels=list(classes), **told),
        calibration_error(truth, table, kind, weight),
        *([steps, kappa] if kind == "ordinal" else []),
    ]
    return dict(zip(CLASSIFICATION_METRICS[kind], map(float, values), strict=True))


def calibration_error(
    truth: NDArray[np.int64], table: NDArray[np.float64], kind: ClassKind, weight: NDArray[np.float64] | None
) -> float:
    """Of one bin at a time, as the formula has it; scikit-learn has no such figure."""
    stated = table[:, 1] if kind == "binary" else table.max(axis=1)
    right = truth == 1 if kind == "binary" else truth == table.argmax(axis=1)
    weights = np.ones(len(truth)) if weight is None else weight
    total = 0.0
    for place in range(10):
        low, high = place / 10, (place + 1) / 10
        inside = (stated >= low) & ((stated < high) | (place == 9))
        if inside.any():
            predicted = np.average(stated[inside], weights=weights[inside])
            observed = np.average(right[inside], weights=weights[inside])
            total += weights[inside].sum() / weights.sum() * abs(predicted - observed)
    return total


@pytest.mark.parametrize("weighted", [False, True])
@given(case=predictions(classes=2))
def test_sklearn_agrees_on_binary(case: Case, weighted: bool) -> None:
    truth, table, weight = case
    given_weight = weight if weighted else None
    ours = task_metrics(truth, table, kind="binary", weight=given_weight)
    assert ours == pytest.approx(sklearn_metrics(truth, table, "binary", given_weight), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
@given(case=predictions())
def test_sklearn_agrees_on_several_classes(case: Case, weighted: bool, kind: Literal["multiclass", "ordinal"]) -> None:
    truth, table, weight = case
    given_weight = weight if weighted else None
    ours = task_metrics(truth, table, kind=kind, weight=given_weight)
    assert ours == pytest.approx(sklearn_metrics(truth, table, kind, given_weight), abs=1e-9, nan_ok=True)


@given(case=predictions())
def test_sklearn_agrees_on_single_functions(case: Case) -> None:
    truth, table, weight = case
    width, predicted = table.shape[1], table.argmax(axis=1)
    matrix = sk.confusion_matrix(truth, predicted, labels=range(width), sample_weight=weight)
    assert confusion.confusion_matrix(truth, predicted, width, weight) == pytest.approx(matrix, abs=1e-9)
    ours = [
        confusion.accuracy(truth, predicted, weight),
        confusion.mean_absolute_class_error(truth, predicted, weight),
        scoring.log_loss(truth, table, weight),
        *confusion.precision_recall_f1(truth, predicted, width, average="macro", weight=weight),
    ]
    theirs = sklearn_metrics(truth, table, "ordinal", weight)
    names = ["accuracy", "mae", "log_loss", "precision_macro", "recall_macro", "f1_macro"]
    assert ours == pytest.approx([theirs[name] for name in names], abs=1e-9)
    kappa = confusion.quadratic_kappa(truth, predicted, weight)
    assert kappa == pytest.approx(theirs["quadratic_kappa"], abs=1e-9, nan_ok=True)
    if 0 < np.count_nonzero(truth == 1) < len(truth):
        area = sk.roc_auc_score(truth == 1, table[:, 1], sample_weight=weight)
        assert areas.roc_auc(truth == 1, table[:, 1], weight) == pytest.approx(area, abs=1e-9)
        steps = sk.average_precision_score(truth == 1, table[:, 1], sample_weight=weight)
        assert areas.average_precision(truth == 1, table[:, 1], weight) == pytest.approx(steps, abs=1e-9)
    assert scoring.brier_score(truth, table, weight) == pytest.approx(theirs["brier"], abs=1e-9)


def test_sklearn_agrees_on_many_rows() -> None:
    random = generator(0, "test", "many rows")
    table, truth, weight = random.dirichlet(np.ones(4), 3_000), random.integers(0, 4, 3_000), random.random(3_000)
    ours = task_metrics(truth, table, kind="ordinal", weight=weight)
    assert ours == pytest.approx(sklearn_metrics(truth, table, "ordinal", weight), abs=1e-9)
    whole = sk.roc_auc_score(truth, table, multi_class="ovr", sample_weight=None)
    assert task_metrics(truth, table, kind="multiclass")["auc"] == pytest.approx(whole, abs=1e-9)


# ---------------------------------------------------------------- properties


@pytest.mark.parametrize("kind", ["binary", "ordinal"])
@given(case=predictions(classes=2, weights="counts"))
def test_a_weight_is_a_repetition(case: Case, kind: ClassKind) -> None:
    truth, table, weight = case
    assume(weight.any())
    times = weight.astype(int)
    repeated = task_metrics(np.repeat(truth, times), np.repeat(table, times, axis=0), kind=kind)
    weighted = task_metrics(truth, table, kind=kind, weight=weight)
    assert weighted == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@given(case=predictions(weights="counts"))
def test_a_class_of_weight_zero_is_as_if_absent(case: Case) -> None:
    truth, table, weight = case
    assume(weight.any())
    kept = weight > 0
    weighted = task_metrics(truth, table, kind="multiclass", weight=weight)
    removed = task_metrics(truth[kept], table[kept], kind="multiclass", weight=weight[kept])
    assert weighted == pytest.approx(removed, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("kind", ["binary", "ordinal"])
@given(case=predictions(classes=2), seed=st.integers(0, 99))
def test_many_weightings_equal_each_alone(case: Case, seed: int, kind: ClassKind) -> None:
    truth, table, _ = case
    weights = generator(seed, "test", "weights").integers(1, 4, size=(3, len(truth))).astype(np.float64)
    together = ClassificationRows(truth, table, kind=kind).metrics(weights)
    for i, weight in enumerate(weights):
        alone = task_metrics(truth, table, kind=kind, weight=weight)
        assert {name: value[i] for name, value in together.items()} == pytest.approx(alone, abs=1e-12, nan_ok=True)


@given(case=predictions(), data=st.data())
def test_the_order_of_rows_does_not_matter(case: Case, data: st.DataObject) -> None:
    truth, table, weight = case
    order = np.array(data.draw(st.permutations(range(len(truth)))))
    before = task_metrics(truth, table, kind="ordinal", weight=weight)
    after = task_metrics(truth[order], table[order], kind="ordinal", weight=weight[order])
    assert after == pytest.approx(before, abs=1e-12, nan_ok=True)


@given(case=predictions())
def test_values_are_in_bounds(case: Case) -> None:
    truth, table, weight = case
    values = task_metrics(truth, table, kind="ordinal", weight=weight)
    assert 0 <= values.pop("mae") <= table.shape[1] - 1
    assert 0 <= values.pop("log_loss") <= -math.log(1e-15)
    assert 0 <= values.pop("brier") <= 2
    assert not abs(values.pop("quadratic_kappa")) > 1 + 1e-12
    assert all(math.isnan(value) or 0 <= value <= 1 + 1e-12 for value in values.values())


@given(truth=st.lists(st.integers(0, 1), min_size=2, max_size=12), data=st.data())
def test_auc_sees_only_the_order_of_scores(truth: list[int], data: st.DataObject) -> None:
    assume(0 < sum(truth) < len(truth))
    scores = np.array(data.draw(st.lists(st.integers(-5, 5), min_size=len(truth), max_size=len(truth))))
    value = areas.roc_auc(truth, scores)
    assert areas.roc_auc(truth, scores**3 - 64) == value  # small integers, so that no two scores merge
    assert areas.roc_auc(truth, -scores) == pytest.approx(1 - value)
    assert areas.roc_auc(truth, np.zeros(len(truth))) == 0.5


def test_a_random_score_has_auc_one_half() -> None:
    random = generator(0, "test", "chance")
    truth, scores = random.integers(0, 2, 20_000), random.random(20_000)
    assert areas.roc_auc(truth, scores) == pytest.approx(0.5, abs=0.015)  # standard error 0.004


@pytest.mark.parametrize("code", [0, 1])
def test_auc_of_one_class_is_nan(code: int) -> None:
    assert math.isnan(areas.roc_auc([code, code], [0.1, 0.9]))
    values = task_metrics([code, code], [[0.9, 0.1], [0.1, 0.9]], kind="binary")
    assert math.isnan(values.pop("auc"))
    assert values.pop("average_precision") == 1.0 if code else math.isnan(values.pop("average_precision"))
    assert not any(math.isnan(value) for value in values.values())


def test_macro_auc_leaves_out_classes_without_rows() -> None:
    table = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    # Class 0 has 0.7 and 0.6 against 0.2, class 1 has 0.7 against 0.2 and 0.3; class 2 has no row.
    assert task_metrics([0, 1, 0], table, kind="multiclass")["auc"] == 1.0
    assert math.isnan(task_metrics([0, 0, 0], table, kind="multiclass")["auc"])


# ---------------------------------------------------------------- direction


LOSSES = ["log_loss", "brier", "ece", "mae", "rmse", "medae", "deviance", "hamming_loss"]


@pytest.mark.parametrize("name", [*LOSSES, "rating/mae", "a/b/log_loss"])
def test_losses_are_better_when_lower(name: str) -> None:
    assert higher_is_better(name) is False


@pytest.mark.parametrize("name", [*RANKING_METRICS, "task/ndcg@20", "recall@5", "auc", "click/f1", "f1_macro"])
def test_the_others_are_better_when_higher(name: str) -> None:
    assert higher_is_better(name) is True


def test_every_metric_has_a_direction() -> None:
    names = {name for names in TASK_METRICS.values() for name in names}
    assert {name for name in names if not higher_is_better(name)} == set(LOSSES)


def test_an_unknown_metric_has_no_direction() -> None:
    with pytest.raises(SpecError, match=r"'task/ndgc@20'; did you mean 'ndcg'\?"):
        higher_is_better("task/ndgc@20")


# ---------------------------------------------------------------- refusals

TRUTH, TABLE = np.array([0, 1, 1]), np.array([[0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])


def with_row(row: list[float]) -> NDArray[np.float64]:
    table = TABLE.copy()
    table[1] = row
    return table


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 0.5], r"\[nan, 0\.5\] in row 1 \(sum nan; 1 such rows\)"),
        ([0.5, 0.6], r"\[0\.5, 0\.6\] in row 1 \(sum 1\.1; 1 such rows\)"),
        ([-0.5, 1.5], r"\[-0\.5, 1\.5\] in row 1 \(sum 1; 1 such rows\)"),
        ([np.inf, -np.inf], r"\[inf, -inf\] in row 1"),
    ],
)
def test_bad_probabilities_name_the_row(row: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task_metrics(TRUTH, with_row(row), kind="binary")
    with pytest.raises(DataError, match=message):
        scoring.log_loss(TRUTH, with_row(row))


def test_probabilities_rounded_to_half_precision_are_accepted() -> None:
    rounded = generator(0, "test", "half").dirichlet(np.ones(20), 200).astype(np.float16)
    assert np.abs(rounded.astype(np.float64).sum(axis=1) - 1).max() > 1e-5  # the rounding shows
    task_metrics(np.arange(200) % 20, rounded, kind="multiclass")


@pytest.mark.parametrize(("code", "rule"), [(2, "0 to 1, got 2 in row 1"), (-1, "0 to 1, got -1 in row 1")])
def test_labels_out_of_range_name_the_row(code: int, rule: str) -> None:
    truth = np.array([0, code, 1])
    with pytest.raises(DataError, match=rf"truth must hold class codes of {rule} \(1 such rows\)"):
        task_metrics(truth, TABLE, kind="binary")
    with pytest.raises(DataError, match=rf"predicted must hold class codes of {rule}"):
        confusion.confusion_matrix(TRUTH, truth, 2)


def test_areas_and_calibration_know_two_classes() -> None:
    for call in (areas.roc_auc, areas.average_precision, calibration.calibration_curve):
        with pytest.raises(DataError, match="truth must hold class codes of 0 to 1, got 2 in row 1"):
            call([0, 2], [0.1, 0.2])


def test_labels_must_be_codes() -> None:
    with pytest.raises(DataError, match="truth must hold integer class codes, got float64"):
        task_metrics(TRUTH * 1.0, TABLE, kind="binary")
    with pytest.raises(DataError, match="predicted must hold class codes of 0 or more, got -3 in row 0"):
        confusion.accuracy([1], [-3])


def test_no_rows() -> None:
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(DataError, match="at least one row"):
        task_metrics(empty, np.zeros((0, 2)), kind="binary")
    with pytest.raises(DataError, match="at least one row"):
        confusion.accuracy(empty, empty)
    with pytest.raises(DataError, match="at least one row"):
        areas.roc_auc(empty, np.zeros(0))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"truth must be \[rows\] with 3 rows, got \(2,\)"):
        task_metrics(TRUTH[:2], TABLE, kind="binary")
    with pytest.raises(ShapeError, match=r"\[rows, classes\], got \(3,\)"):
        task_metrics(TRUTH, TABLE[:, 1], kind="binary")
    with pytest.raises(ShapeError, match="'binary' needs exactly 2 columns of probabilities, got 3"):
        task_metrics(TRUTH, np.full((3, 3), 1 / 3), kind="binary")
    with pytest.raises(ShapeError, match="'multiclass' needs 2 or more columns of probabilities, got 1"):
        task_metrics(np.zeros(3, dtype=int), np.ones((3, 1)), kind="multiclass")
    with pytest.raises(ShapeError, match=r"got \(2,\) for \(3,\)"):
        areas.roc_auc(TRUTH, [0.1, 0.2])
    with pytest.raises(ShapeError, match=r"weight must be \[rows\] with 3 rows, got \(1,\)"):
        task_metrics(TRUTH, TABLE, kind="binary", weight=[1.0])


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_bad_weight_names_the_row(bad: float) -> None:
    with pytest.raises(DataError, match=f"zero or more, got {bad} in row 2"):
        confusion.accuracy(TRUTH, TRUTH, [1.0, 1.0, bad])


def test_weights_that_are_all_zero() -> None:
    with pytest.raises(DataError, match="zero in all 3 rows"):
        task_metrics(TRUTH, TABLE, kind="binary", weight=np.zeros(3))


def test_a_score_that_is_no_number() -> None:
    with pytest.raises(DataError, match="got nan in row 1"):
        areas.roc_auc(TRUTH, [0.1, np.nan, 0.3])


def test_impossible_settings() -> None:
    bad: Any = "ordnal"
    with pytest.raises(SpecError, match=r"kind of task 'ordnal'; did you mean 'ordinal'\?"):
        task_metrics(TRUTH, TABLE, kind=bad)
    with pytest.raises(SpecError, match=r"in \[0, 1\], got 1\.5"):
        task_metrics(TRUTH, TABLE, kind="binary", threshold=1.5)
    with pytest.raises(SpecError, match="got 'ordnal'"):
        confusion.precision_recall_f1(TRUTH, TRUTH, 2, average=bad)
    with pytest.raises(SpecError, match="needs 2 classes, got num_classes=3"):
        confusion.precision_recall_f1(TRUTH, TRUTH, 3, average="binary")
