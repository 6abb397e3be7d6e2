"""What is read off validation rows once a model is trained: temperatures first, then thresholds of what they give.

Temperature scaling changes no order and no most probable class, only how sure the model says it is; one number is too
little to fit the validation rows by heart.

Reference: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from towerkit.core.errors import DataError, SpecError
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.encoded import Encoded
from towerkit.features.labels import Truth, is_known
from towerkit.heads.decision import UNTOUCHED, Criterion, Decision, ThresholdChoice
from towerkit.heads.heads import Head, HeadSpec
from towerkit.metrics.weighted import ratio
from towerkit.models.tower_model import TowerModel

Floats = NDArray[np.float64]

_CHUNK = 4096
_RANGE = 20.0
"""A temperature lies between a twentieth and twenty."""


def decisions_of(heads: Mapping[str, HeadSpec], model: TowerModel, encoded: Encoded, rows: Rows) -> dict[str, Decision]:
    """How the logits of each task become an answer.

    Args:
        heads: Which tasks want a temperature or a threshold.
        model: Trained, in evaluation mode; it must not have learned from the rows.
        encoded: The arrays.
        rows: Validation rows; only these are read, and none if no head asks.

    Returns:
        Task -> decision.

    Raises:
        DataError: If a task has no labelled row among them, or a binary one only one class.
    """
    found = {}
    for task, head in heads.items():
        if not reads_validation(head):
            threshold = head.threshold_rule
            assert isinstance(threshold, float)
            found[task] = Decision(thresholds=(threshold,))
            continue
        answers = _answers(task, model, encoded, rows)
        _check(task, head, answers.labels.numpy())
        found[task] = _decided(head, model.head(task), answers)
    return found


def reads_validation(head: HeadSpec) -> bool:
    """Whether something of the head is chosen on validation rows."""
    return head.is_calibrated or isinstance(head.threshold_rule, ThresholdChoice)


def check_decidable(heads: Mapping[str, HeadSpec], dataset: Dataset) -> None:
    """Find out before training that a threshold or a temperature has no validation rows to be read off.

    Raises:
        SpecError: If the split has no validation part.
        DataError: If none of its rows has a label of the task, or all have the same.
    """
    rows = dataset.parts.validation
    for task, head in heads.items():
        if not reads_validation(head):
            continue
        if not len(rows):
            raise SpecError(
                f"The task '{task}' chooses {_what(head)} on validation rows, and the split holds none out. Set "
                "split.validation above 0, or give a fixed threshold and calibration: none."
            )
        labels = head.label().fit(dataset.labelled(head.column, dataset.parts.train))
        truth = labels.encode(dataset.labelled(head.column, rows))
        _check(task, head, truth[is_known(truth)])


@torch.no_grad()
def best_temperature(head: Head, logits: Tensor, labels: Tensor, weights: Tensor) -> float:
    """The number by which to divide the logits for the lowest mean loss.

    The loss is convex in the inverse temperature, so there is one best; it is looked for between 1/20 and 20. Where all rows
    are answered right by a margin, colder is always better and there is no best: the answer is 1, as where no row weighs anything.

    Args:
        head: Its loss is made low.
        logits: ``[rows, outputs]``.
        labels: ``[rows]`` class codes, or ``[rows, labels]``.
        weights: ``[rows]``.

    Returns:
        Above 0.
    """

    if not weights.sum() > 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        return float((weights * head.loss(logits / math.exp(log_temperature), labels)).sum() / weights.sum())

    end = math.log(_RANGE)
    found = minimize_scalar(loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-6})
    return 1.0 if found.x < -end + 1e-3 else math.exp(float(found.x))


def best_threshold(truth: NDArray[np.bool_], scores: Floats, weights: Floats, criterion: Criterion) -> float:
    """The threshold with the largest figure on some rows.

    It is put halfway to the next lower probability, where the answers of these rows are the same; of equally good ones it is
    the one nearest to a half. Without a positive row (for ``accuracy`` and ``balanced_accuracy``: without two classes) there
    is nothing to choose by, and it is a half.

    Args:
        truth: ``[rows]`` which rows are positive.
        scores: ``[rows]`` probabilities of the positive class.
        weights: ``[rows]``.
        criterion: What is made largest.

    Returns:
        In [0, 1].

    Example:
        >>> best_threshold(np.array([True, True, False]), np.array([0.4, 0.25, 0.125]), np.ones(3), "f1")
        0.1875
    """
    if not (weights @ truth > 0 and (criterion == "f1" or weights @ ~truth > 0)):
        return UNTOUCHED.thresholds[0]
    # From each cut on, rows are taken for positive; from 1 on none, unless the model is that sure.
    cuts, place = np.unique(np.append(scores, 1.0), return_inverse=True)
    right, wrong = (_from_the_end(place, np.append(weights * rows, 0.0)) for rows in (truth, ~truth))
    figures = _FIGURES[criterion](right, wrong, right[0], wrong[0])
    lower = np.append(0.0, cuts[:-1])
    thresholds = np.where((cuts + lower) / 2 > lower, (cuts + lower) / 2, cuts)  # neighbors among floats have no middle
    best = np.flatnonzero(figures >= figures.max() - 1e-12)
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def _from_the_end(place: NDArray[np.int64], weights: Floats) -> Floats:
    """The weight at each place and behind it."""
    return np.asarray(np.cumsum(np.bincount(place, weights)[::-1])[::-1], dtype=np.float64)


def _f1(right: Floats, wrong: Floats, positives: float, negatives: float) -> Floats:
    return ratio(2 * right, right + wrong + positives)


def _accuracy(right: Floats, wrong: Floats, positives: float, negatives: float) -> Floats:
    return (right + negatives - wrong) / (positives + negatives)


def _balanced_accuracy(right: Floats, wrong: Floats, positives: float, negatives: float) -> Floats:
    return (right / positives + 1 - wrong / negatives) / 2


_FIGURES = {"f1": _f1, "accuracy": _accuracy, "balanced_accuracy": _balanced_accuracy}


@dataclass(frozen=True)
class _Answers:
    """What the model says to the labelled validation rows of one task."""

    logits: Tensor
    """``[rows, outputs]``, in float64."""
    labels: Tensor
    weights: Tensor
    """``[rows]``."""


@torch.no_grad()
def _answers(task: str, model: TowerModel, encoded: Encoded, rows: Rows) -> _Answers:
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(rows), _CHUNK):
        batch = encoded.batch(rows[start : start + _CHUNK])
        known = batch.masks[task]
        weights = torch.ones(len(known)) if batch.weights is None else batch.weights
        parts.append((model(batch)[task][known].double(), batch.labels[task][known], weights[known].double()))
    if not parts:
        return _Answers(torch.empty(0, 1), torch.empty(0, dtype=torch.int64), torch.empty(0))
    logits, labels, weights = (torch.cat(each) for each in zip(*parts, strict=True))
    return _Answers(logits, labels, weights)


def _decided(head: HeadSpec, module: Head, answers: _Answers) -> Decision:
    found: dict[str, Any] = {"rows": len(answers.labels)}
    if head.is_calibrated:
        temperature = best_temperature(module, answers.logits, answers.labels, answers.weights)
        found |= {"calibration": "temperature", "temperature": temperature}
    rule = head.threshold_rule
    if not isinstance(rule, ThresholdChoice):
        return Decision(thresholds=(rule,), **found)
    scores = module.probabilities(answers.logits / found.get("temperature", 1.0)).numpy()
    truth, weights = answers.labels.numpy().astype(np.bool_), answers.weights.numpy()
    columns = zip(truth.T, scores.T, strict=True) if truth.ndim == 2 else [(truth, scores[:, 1])]
    thresholds = tuple(best_threshold(true, score, weights, rule.choose) for true, score in columns)
    return Decision(thresholds=thresholds, chosen_by=rule.choose, **found)


def _check(task: str, head: HeadSpec, labels: Truth) -> None:
    if not len(labels):
        raise DataError(
            f"The task '{task}' chooses {_what(head)} on validation rows, and none of them has a known value in its label column "
            f"'{head.column}'. Give labelled rows, another split, or a fixed threshold and calibration: none."
        )
    chooses = isinstance(head.threshold_rule, ThresholdChoice)
    if chooses and labels.ndim == 1 and (labels == labels[0]).all():
        raise DataError(
            f"The task '{task}' chooses a threshold on validation rows, and all {len(labels):,} labelled ones have the same class "
            f"in the column '{head.column}'. Give more validation rows, another split, or a fixed threshold."
        )


def _what(head: HeadSpec) -> str:
    return "a threshold" if isinstance(head.threshold_rule, ThresholdChoice) else "a temperature"
