"""The prediction evaluator.

Pinned: rows without a label are left out, counted, and change no figure, whatever was predicted for them; each task
has its own rows; a task without a label is refused with its column; classes go by threshold or by the largest
probability; the stored form comes back as it was.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from towerkit.core.errors import DataError, RunError
from towerkit.evaluation.prediction import evaluate_tasks, predicted_classes
from towerkit.evaluation.result import Evaluation, protocol_line
from towerkit.features.labels import Labels

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
    assert predicted_classes(liked(0.49, 0.5, 0.51), LIKED).tolist() == [0, 1, 1]
    assert predicted_classes(np.array([[0.3, 0.4, 0.3], [0.4, 0.4, 0.2]]), STARS).tolist() == [1, 0]


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
