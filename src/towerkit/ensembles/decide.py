"""How the answers of a late fusion are decided: the temperature and the threshold of a task, given or read off held-out rows."""

from __future__ import annotations

from collections.abc import Mapping

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.core.spec import Spec
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.encoder import LabelSpec
from towerkit.features.labels import is_known
from towerkit.heads.decision import UNTOUCHED, Calibration, Threshold, ThresholdChoice

_NUMBERS = ("regression", "count")
_WITH_THRESHOLD = ("binary", "multilabel")


class DecideSpec(Spec):
    """How the fusion's probabilities of one task become an answer; the keys are those of a head."""

    calibration: Calibration = "none"
    """``temperature``: one number for the merged probabilities, after the temperatures of the members."""
    threshold: Threshold = UNTOUCHED.thresholds[0]
    """A probability, or ``{choose: f1}``, ``accuracy`` or ``balanced_accuracy``: what is best on held-out rows."""

    @property
    def is_chosen(self) -> bool:
        """Whether something of it is chosen on held-out rows."""
        return self.calibration == "temperature" or isinstance(self.threshold, ThresholdChoice)


def check_decided(decide: Mapping[str, DecideSpec], labels: Mapping[str, LabelSpec]) -> None:
    """Refuse decisions of tasks that are not there, or that have nothing to decide.

    Args:
        decide: Task -> how it is decided.
        labels: Task -> its label column, of all that the members predict.

    Raises:
        SpecError: Naming the task.
    """
    for task, rule in decide.items():
        if task not in labels:
            raise SpecError(
                f"decide names a task of the members; there is no '{task}'{nearest(task, labels) or '.'} They predict "
                f"{listed(labels)}."
            )
        kind = labels[task].kind
        if kind in _NUMBERS:
            raise SpecError(f"decide: '{task}' is a number ({kind}), which has nothing to decide. Remove it.")
        if kind not in _WITH_THRESHOLD and rule.threshold != UNTOUCHED.thresholds[0]:
            raise SpecError(
                f"decide: a threshold is for yes or no and for sets of labels; the task '{task}' is {kind}, where the most "
                "probable class is the answer. Remove it; calibration may stay."
            )


def check_held_out_labels(
    decide: Mapping[str, DecideSpec], labels: Mapping[str, LabelSpec], dataset: Dataset, rows: Rows, part: str
) -> None:
    """Find out before training that a threshold or a temperature has nothing to be read off.

    Args:
        decide: Task -> how it is decided.
        labels: Task -> its label column.
        dataset: Raw tables.
        rows: Those that are held out from the members: the validation rows, or of a stack the training rows.
        part: What they are called.

    Raises:
        SpecError: If there are no such rows.
        DataError: If none of them has a label of the task, or all have the same where a threshold is chosen.
    """
    for task, rule in decide.items():
        if not rule.is_chosen:
            continue
        if not len(rows):
            raise SpecError(
                f"decide: what '{task}' chooses is read off {part} rows, and the split holds none out. Set split.validation "
                "above 0, give a fixed threshold and calibration: none, or use combine: {kind: stack}."
            )
        label = labels[task]
        fitted = label.fit(dataset.labelled(label.column, dataset.parts.train))
        truth = fitted.encode(dataset.labelled(label.column, rows))
        truth = truth[is_known(truth)]
        if not len(truth):
            raise DataError(
                f"decide: what '{task}' chooses is read off {part} rows, and none of them has a known value in the column "
                f"'{label.column}'. Give labelled rows, another split, or a fixed threshold and calibration: none."
            )
        if truth.ndim == 1 and isinstance(rule.threshold, ThresholdChoice) and (truth == truth[0]).all():
            raise DataError(
                f"decide: the threshold of '{task}' is chosen on {part} rows, and all {len(truth):,} labelled ones have the "
                f"same class in the column '{label.column}'. Give more of them, another split, or a fixed threshold."
            )
