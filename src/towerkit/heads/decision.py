"""From logits to an answer: the temperature of the probabilities, and the threshold from which a class is predicted.

Both are read off validation rows, since a model knows its training rows too well. They belong to the model: they are
saved with it, and every answer goes through them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from towerkit.core.spec import Spec, short
from towerkit.features.labels import Labels

Calibration = Literal["none", "temperature"]
"""``temperature`` divides the logits by one number per task, chosen for the lowest loss on validation rows."""
Criterion = Literal["f1", "accuracy", "balanced_accuracy"]
ReadOff = Literal["validation", "folds"]
"""Rows that a decision is read off: validation rows, or training rows that the members of a stack answered out of fold."""


class ThresholdChoice(Spec):
    """The threshold that is best on validation rows."""

    choose: Criterion
    """What it makes largest: ``f1`` of the positive class, ``accuracy``, or the mean recall of both classes."""


Threshold = Annotated[float, Field(ge=0.0, le=1.0)] | ThresholdChoice
"""A probability, or how to choose one."""


@dataclass(frozen=True)
class Decision:
    """How one task's logits become an answer; the defaults change nothing."""

    temperature: float = 1.0
    """The logits are divided by it: above 1 the probabilities move towards each other."""
    thresholds: tuple[float, ...] = (0.5,)
    """The probability from which the positive class is predicted; of a multilabel task one for all labels, or one for each."""
    calibration: Calibration = "none"
    chosen_by: Criterion | None = None
    """What the thresholds were chosen by; None for a given one."""
    rows: int = 0
    """How many rows it was read off."""
    read_off: ReadOff = "validation"
    """Which rows these are."""
    before_refit: bool = False
    """Read off a model that had not seen the validation rows; the final one learned from them too."""

    def __post_init__(self) -> None:
        """Refuse what no training stores.

        Raises:
            ValueError: If a number is out of range.
        """
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"a temperature is above 0, got {self.temperature}")
        if not self.thresholds or not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise ValueError(f"a threshold lies in 0 to 1, got {list(self.thresholds)}")
        if not (isinstance(self.rows, int) and self.rows >= 0 and isinstance(self.before_refit, bool)):
            raise ValueError(f"rows are counted, got {short(self.rows)} and before_refit {short(self.before_refit)}")
        if self.calibration not in get_args(Calibration) or self.chosen_by not in (None, *get_args(Criterion)):
            raise ValueError(
                f"it is read off in a known way, got {short(self.calibration)} and {short(self.chosen_by)}"
            )
        if self.read_off not in get_args(ReadOff):
            raise ValueError(f"it is read off known rows, got {short(self.read_off)}")

    def refitted(self) -> Decision:
        """The same one, for a model that was then trained on the validation rows too."""
        return replace(self, before_refit=self.rows > 0)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**vars(self), "thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        """The inverse of :meth:`as_dict`.

        Raises:
            ValueError: If a number is out of range.
        """
        return cls(**{**data, "thresholds": tuple(data["thresholds"])})


def told_of(decision: Decision, labels: Labels) -> dict[str, Any]:
    """A decision in plain data, with the classes that its thresholds are of.

    Args:
        decision: Read off validation rows.
        labels: Of its task, as the model had them then.
    """
    return {**decision.as_dict(), "classes": list(labels.classes)}


def after_refit(told: Mapping[str, Any], labels: Labels) -> Decision:
    """A decision for a model that was then trained on the validation rows too, which may have brought labels of their own.

    Args:
        told: From :func:`told_of`; without classes, as once stored, they are as they were.
        labels: Of the task, as the model has them now. A label that is new has a threshold of a half.
    """
    classes = told.get("classes", labels.classes)
    decision = Decision.from_dict({key: value for key, value in told.items() if key != "classes"}).refitted()
    if len(decision.thresholds) == 1 or tuple(classes) == labels.classes:
        return decision
    known = dict(zip(classes, decision.thresholds, strict=True))
    return replace(decision, thresholds=tuple(known.get(each, UNTOUCHED.thresholds[0]) for each in labels.classes))


UNTOUCHED = Decision()
"""Probabilities as the head gives them, and a threshold of a half."""
