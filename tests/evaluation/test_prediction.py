"""The prediction evaluator.

Pinned: rows without a label are left out, counted, and change no figure, whatever was predicted for them; each task
has its own rows; a task without a label is refused with its column; classes go by threshold or by the largest
probability, each label of a multilabel task by its own threshold; the rows come back from their table, those of two models with
their own thresholds; each value of a segment is measured as if its rows were all; the stored form comes back as it was.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from towerkit.core.errors import DataError, RunError
from towerkit.evaluation.prediction import evaluate_tasks
from towerkit.evaluation.result import Evaluation, protocol_line
from towerkit.evaluation.segments import Valued
from towerkit.evaluation.task_details import predicted_classes, stored_rows
from towerkit.features.labels import Labels
from towerkit.heads.decision import UNTOUCHED, Decision

LIKED = Labels("recommended", "binary", ("0", "1"))
STARS = Labels("rating", "ordinal", ("1", "2", "3"))
ABOUT: dict[str, Any] = {"part": "test", "split": {"kind": "random", "validation": 0.0, "test": 0.5, "seed": 4}}


def liked(*positive: float) -> NDArray[np.float64]:
    """Probabilities of both classes."""
    return np.array([[1.0 - p, p] for p in positive])


def test_masked_labels_are_left_out_and_counted() -> None:
    truth = np.array([1, -1, 0, 1, -1])
    for absurd in (0.0, 0.5, 1.0):
        found = evaluate_tasks(
            {"liked": liked(0.9, absurd, 0.2, 0.4, absurd)}, {"liked": truth}, {"liked": LIKED}, **ABOUT
        )
        assert found.metrics["accuracy"].value == pytest.approx(2 / 3) and found.metrics["accuracy"].n == 3
        assert found.protocol["tasks"]["liked"]["rows"] == 3
        assert found.protocol["tasks"]["liked"]["unknown_labels"] == 2
        assert found.details["liked"].column("row").to_pylist() == [0, 2, 3]
        assert found.confusion == {"liked": [[1, 0], [1, 1]]}
    same = evaluate_tasks({"liked": liked(0.9, 0.2, 0.4)}, {"liked": truth[[0, 2, 3]]}, {"liked": LIKED}, **ABOUT)
    assert found.metrics == same.metrics, "as if the rows without a label were not there"


def test_the_protocol_says_the_resamples_of_the_labelled_rows() -> None:
    truth = np.where(np.arange(20_001) < 10, np.arange(20_001) % 2, -1)
    found = evaluate_tasks({"liked": liked(*[0.5] * 20_001)}, {"liked": truth}, {"liked": LIKED}, **ABOUT)
    assert found.metrics["accuracy"].n == 10
    assert found.protocol["interval"].endswith("over rows, 1,000 resamples")


def test_each_task_has_its_own_rows() -> None:
    stars = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3]])
    found = evaluate_tasks(
        {"liked": liked(0.9, 0.1, 0.2), "stars": stars},
        {"liked": np.array([1, -1, -1]), "stars": np.array([-1, 2, 0])},
        {"liked": LIKED, "stars": STARS},
        **ABOUT,
    )
    assert found.metrics["liked/accuracy"].value == 1.0 and found.metrics["liked/accuracy"].n == 1
    assert found.metrics["stars/accuracy"].value == 0.5 and found.metrics["stars/accuracy"].n == 2
    line = protocol_line(found.protocol)
    assert "3 rows of the test part" in line and "liked: binary, 1 labelled rows, 2 labels missing or unknown" in line
    assert "split: random (test 0.5, seed 4)" in line


def test_a_task_without_a_label_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"The task 'liked' has no labelled row in the test part: the column 'recommended'"
    ):
        evaluate_tasks({"liked": liked(0.5)}, {"liked": np.array([-1])}, {"liked": LIKED}, **ABOUT)


def test_perfect_and_uninformed_predictions() -> None:
    truth = np.array([0, 1] * 20)
    perfect = evaluate_tasks(
        {"liked": liked(*truth.astype(float))}, {"liked": truth}, {"liked": LIKED}, **ABOUT
    ).metrics
    assert perfect["accuracy"].value == perfect["auc"].value == perfect["f1"].value == 1.0
    flat = evaluate_tasks({"liked": liked(*[0.5] * 40)}, {"liked": truth}, {"liked": LIKED}, **ABOUT).metrics
    assert flat["auc"].value == 0.5 and flat["log_loss"].value == pytest.approx(np.log(2))


def test_one_class_among_the_held_out_labels_has_no_auc_and_still_a_stored_form() -> None:
    found = evaluate_tasks({"liked": liked(0.9, 0.8)}, {"liked": np.array([1, 1])}, {"liked": LIKED}, **ABOUT)
    stored = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert stored["metrics"]["auc"]["value"] is None
    assert np.isnan(Evaluation.from_dict(stored, {}).metrics["auc"].value)


def test_predicted_classes() -> None:
    assert predicted_classes(liked(0.49, 0.5, 0.51), LIKED, UNTOUCHED).tolist() == [0, 1, 1]
    assert predicted_classes(np.array([[0.3, 0.4, 0.3], [0.4, 0.4, 0.2]]), STARS, UNTOUCHED).tolist() == [1, 0]


def test_the_stored_form_comes_back_and_a_damaged_one_is_refused() -> None:
    found = evaluate_tasks({"liked": liked(0.9, 0.3)}, {"liked": np.array([1, 0])}, {"liked": LIKED}, **ABOUT)
    stored = json.loads(json.dumps(found.as_dict()))
    assert Evaluation.from_dict(stored, found.details).as_dict() == found.as_dict()
    del stored["metrics"]["accuracy"]["low"]
    with pytest.raises(RunError, match=r"cannot be read \(KeyError\('low'\)\)"):
        Evaluation.from_dict(stored, {})


def test_the_positive_class_and_repeats_are_told() -> None:
    label = Labels("answer", "binary", ("Nein", "Ja"))
    found = evaluate_tasks(
        {"liked": liked(0.9, 0.2)}, {"liked": np.array([1, 0])}, {"liked": label}, repeats=3, **ABOUT
    )
    assert found.protocol["tasks"]["liked"]["positive"] == "Ja"
    assert found.protocol["repeats"] == 3
    line = protocol_line(found.protocol)
    assert "liked: binary, positive class Ja, 2 labelled rows" in line
    assert "3 rows equal a training row in all that is read" in line
    split = {"kind": "leave_last", "seed": 0, "left_out": {"events": 1234}, "warnings": ["careful"]}
    line = protocol_line({**found.protocol, "split": split, "repeats": 0})
    assert "split: leave_last (left_out [events 1,234]) · warning: careful · 95 %" in line


# ---------------------------------------------------------------- thresholds

GENRES = Labels("genres", "multilabel", ("drama", "war"))
PRICE = Labels("price", "regression", ())


def test_a_chosen_threshold_decides_and_is_told() -> None:
    truth, found = {"liked": np.array([1, 1, 0, 0])}, {"liked": liked(0.6, 0.4, 0.3, 0.1)}
    made = {"liked": Decision(2.0, (0.35,), "temperature", "f1", rows=40, before_refit=True)}
    half = evaluate_tasks(found, truth, {"liked": LIKED}, **ABOUT)
    chosen = evaluate_tasks(found, truth, {"liked": LIKED}, decisions=made, **ABOUT)
    assert (half.metrics["recall"].value, chosen.metrics["recall"].value) == (0.5, 1.0)
    assert (half.confusion["liked"], chosen.confusion["liked"]) == ([[2, 0], [1, 1]], [[2, 0], [0, 2]])
    assert half.metrics["auc"] == chosen.metrics["auc"] and half.metrics["log_loss"] == chosen.metrics["log_loss"]
    assert half.protocol["tasks"]["liked"]["threshold"] == 0.5
    assert "threshold" not in protocol_line(half.protocol)
    about = chosen.protocol["tasks"]["liked"]
    assert (about["threshold"], about["threshold_by"], about["temperature"]) == (0.35, "f1", 2.0)
    assert "threshold 0.35 (best f1), temperature 2.000, of 40 validation rows, before the refit" in protocol_line(
        chosen.protocol
    )


# ---------------------------------------------------------------- sets of labels and numbers


def test_sets_of_labels_have_a_threshold_each_and_a_matrix_each() -> None:
    truth = np.array([[1, 0], [-1, -1], [0, 1]], np.int8)
    found = np.array([[0.3, 0.2], [0.9, 0.9], [0.1, 0.8]])
    made = {"genres": Decision(thresholds=(0.25, 0.9), chosen_by="f1", rows=9)}
    result = evaluate_tasks({"genres": found}, {"genres": truth}, {"genres": GENRES}, decisions=made, **ABOUT)
    assert result.metrics["subset_accuracy"].value == 0.5 and result.metrics["subset_accuracy"].n == 2
    assert result.confusion["genres"] == [[[1, 0], [0, 1]], [[1, 0], [1, 0]]]
    assert result.details["genres"].column("truth").to_pylist() == [[1, 0], [0, 1]]
    assert result.details["genres"].column("row").to_pylist() == [0, 2]
    about = result.protocol["tasks"]["genres"]
    assert about["unknown_labels"] == 1 and about["threshold"] == [0.25, 0.9]
    assert "a threshold for each label, 0.25 to 0.9 (best f1), of 9 validation rows" in protocol_line(result.protocol)


def test_numbers_have_errors_and_neither_confusion_nor_calibration() -> None:
    truth, found = np.array([1.0, np.nan, 4.0]), np.array([[1.5], [9.0], [3.0]])
    result = evaluate_tasks({"price": found}, {"price": truth}, {"price": PRICE}, **ABOUT)
    assert result.metrics["mae"].value == 0.75 and result.metrics["mae"].n == 2
    assert (result.confusion, result.calibration) == ({}, {})
    assert "threshold" not in result.protocol["tasks"]["price"]
    with pytest.raises(DataError, match="the column 'price' is empty. Give rows with labels"):
        evaluate_tasks({"price": found}, {"price": np.full(3, np.nan)}, {"price": PRICE}, **ABOUT)


@pytest.mark.parametrize(
    ("label", "truth", "found"),
    [
        (LIKED, np.array([1, -1, 0, 1]), liked(0.9, 0.1, 0.4, 0.3)),
        (STARS, np.array([0, 2, 1, -1]), np.array([[0.5, 0.3, 0.2]] * 4)),
        (GENRES, np.array([[1, 0], [1, 1], [-1, -1], [0, 0]], np.int8), np.array([[0.6, 0.2]] * 4)),
        (PRICE, np.array([1.0, 2.0, np.nan, 5.0]), np.array([[1.0], [3.0], [0.0], [4.5]])),
    ],
)
def test_the_rows_come_back_from_their_table(label: Labels, truth: Any, found: Any) -> None:
    made = {"task": Decision(thresholds=(0.35,))}
    result = evaluate_tasks({"task": found}, {"task": truth}, {"task": label}, decisions=made, **ABOUT)
    rows = stored_rows([result.protocol["tasks"]["task"]], [result.details["task"]])
    again = rows.metrics(np.ones((1, rows.num_rows)))
    values = {name: interval.value for name, interval in result.metrics.items()}
    assert {name: float(value[0]) for name, value in again.items()} == pytest.approx(values, abs=1e-12, nan_ok=True)
    stored = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert Evaluation.from_dict(stored, {}).as_dict() == result.as_dict()


def test_rows_of_two_models_keep_their_own_thresholds() -> None:
    truth = {"liked": np.array([1, 0])}
    one, other = (
        evaluate_tasks({"liked": liked(0.4, 0.3)}, truth, {"liked": LIKED}, decisions=made, **ABOUT)
        for made in ({}, {"liked": Decision(thresholds=(0.35,))})
    )
    about = [each.protocol["tasks"]["liked"] for each in (one, other)]
    rows = stored_rows(about, [one.details["liked"], other.details["liked"]])
    accuracy = rows.metrics(np.array([[1.0, 1, 0, 0], [0, 0, 1, 1]]))["accuracy"]
    assert accuracy.tolist() == [0.5, 1.0]


# ---------------------------------------------------------------- segments and calibration


def test_each_value_of_a_segment_is_measured_apart() -> None:
    truth = {"liked": np.array([1, 0, 1, -1, -1])}
    by_city = Valued(("Oslo", "Rome", "Wien", "(missing)"), np.array([0, 0, 1, 1, 2]))
    found = evaluate_tasks(
        {"liked": liked(0.9, 0.1, 0.2, 0.9, 0.5)}, truth, {"liked": LIKED}, segments={"city": by_city}, **ABOUT
    )
    within = found.as_dict()["segments"]["city"]
    assert set(within) == {"Oslo", "Rome"}, "no figure where no row has a label"
    assert (within["Oslo"]["n"], within["Rome"]["n"]) == (2, 1)
    assert within["Oslo"]["metrics"]["accuracy"]["value"] == 1.0
    assert within["Rome"]["metrics"]["accuracy"]["value"] == 0.0 and within["Rome"]["metrics"]["auc"]["value"] is None
    told = {"segment": ["city"] * 4, "value": ["Oslo", "Oslo", "Rome", "Rome"], "row": [0, 1, 2, 3]}
    assert found.details["segments"].to_pydict() == told
    alone = evaluate_tasks({"liked": liked(0.9, 0.1)}, {"liked": np.array([1, 0])}, {"liked": LIKED}, **ABOUT)
    assert found.segments["city"]["Oslo"] == alone.metrics


def test_segments_that_the_rows_do_not_have_are_told() -> None:
    found = evaluate_tasks(
        {"liked": liked(0.9)},
        {"liked": np.array([1])},
        {"liked": LIKED},
        segments_left_out={"city": "no table"},
        **ABOUT,
    )
    assert "not by city: no table" in protocol_line(found.protocol)


def test_the_calibration_curve_is_stored() -> None:
    found = evaluate_tasks({"liked": liked(0.9, 0.95, 0.2)}, {"liked": np.array([1, 0, 0])}, {"liked": LIKED}, **ABOUT)
    low, high = found.as_dict()["calibration"]["liked"]
    assert low == {"low": 0.2, "high": 0.3, "predicted": 0.2, "observed": 0.0, "n": 1}
    assert (high["predicted"], high["observed"], high["n"]) == (pytest.approx(0.925), 0.5, 2)
    labels = evaluate_tasks(
        {"genres": np.array([[0.7, 0.1]])}, {"genres": np.array([[1, 0]], np.int8)}, {"genres": GENRES}, **ABOUT
    )
    assert [(each["low"], each["observed"]) for each in labels.calibration["genres"]] == [(0.1, 0.0), (0.7, 1.0)]
    interval = found.as_dict()["metrics"]["ece"]
    assert interval["value"] is not None and interval["low"] is None and interval["high"] is None
