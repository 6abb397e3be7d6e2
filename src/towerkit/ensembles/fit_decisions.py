"""Read a late fusion's temperatures and thresholds off what it says of rows that no member had learned from.

Where weights or nothing are fitted these are the validation rows. A stack has the training rows, each predicted by members of
other folds; it is stacked once more across these folds, so that what decides a row has not learned from it either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from towerkit.data.dataset import Dataset
from towerkit.ensembles.decide import DecideSpec
from towerkit.ensembles.late import Answers, LateFusion
from towerkit.ensembles.late_spec import StackSpec
from towerkit.ensembles.mixtures import Floats, cooled, fit_temperature
from towerkit.ensembles.stackers import Probabilities, fit_stacker, folds, stacked
from towerkit.features.encoded import example_weights
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.heads.decision import Decision, ThresholdChoice
from towerkit.training.decisions import best_threshold


def fit_decisions(fusion: LateFusion, held_out: Answers, dataset: Dataset, seed: int) -> dict[str, Decision]:
    """How the merged probabilities of each task that the spec names become an answer.

    Args:
        fusion: Members and fitted combiners, undecided.
        held_out: Member -> task -> ``[rows, classes]``, as the combiners were fitted on; not read where nothing is chosen.
        dataset: Has the labels.
        seed: That of the training, which also drew the folds of a stack.

    Returns:
        Task -> decision.
    """
    stacks = isinstance(fusion.spec.combine, StackSpec)
    rows, weights = dataset.parts.train if stacks else dataset.parts.validation, example_weights(dataset)
    weight = np.ones(len(rows)) if weights is None else weights[rows].astype(np.float64)
    found = {}
    for task, rule in fusion.spec.decide.items():
        if not rule.is_chosen:
            assert isinstance(rule.threshold, float)
            found[task] = Decision(thresholds=(rule.threshold,))
            continue
        labels = fusion.tasks[task]
        truth = labels.encode(dataset.labelled(labels.column, rows))
        merged = _across(fusion, task, held_out, truth, weight, seed) if stacks else fusion.merged(task, held_out)
        known = is_known(truth)
        decision = decided(rule, labels, merged[known], truth[known], weight[known])
        found[task] = replace(decision, read_off="folds") if stacks else decision
    return found


def decided(rule: DecideSpec, labels: Labels, values: Probabilities, truth: Truth, weight: Floats) -> Decision:
    """The temperature first, then thresholds of what it gives.

    Args:
        rule: What is wanted.
        labels: Of the task.
        values: ``[rows, classes]`` merged probabilities of rows that nothing here learned from.
        truth: Their labels, all known.
        weight: ``[rows]``.
    """
    found: dict[str, Any] = {"rows": len(truth)}
    if rule.calibration == "temperature":
        temperature = fit_temperature(labels, values, truth, weight)
        values = cooled(labels, values, temperature)
        found |= {"calibration": "temperature", "temperature": temperature}
    if not isinstance(rule.threshold, ThresholdChoice):
        return Decision(thresholds=(rule.threshold,), **found)
    positive = truth.astype(np.bool_)
    columns = zip(positive.T, values.T, strict=True) if truth.ndim == 2 else [(positive, values[:, 1])]
    criterion = rule.threshold.choose
    thresholds = tuple(best_threshold(true, scores, weight, criterion) for true, scores in columns)
    return Decision(thresholds=thresholds, chosen_by=criterion, **found)


def _across(fusion: LateFusion, task: str, held_out: Answers, truth: Truth, weight: Floats, seed: int) -> Probabilities:
    """``[training rows, classes]``: each row stacked by what was fitted on the rows of the other folds."""
    combine, labels = fusion.spec.combine, fusion.tasks[task]
    assert isinstance(combine, StackSpec)
    each = [held_out[name][task] for name in fusion.members if task in held_out[name]]
    fold_of, found = folds(len(truth), combine.folds, seed), np.zeros_like(each[0])
    for fold in range(combine.folds):
        inside, outside = fold_of != fold, fold_of == fold
        stacker = fit_stacker(
            labels, [one[inside] for one in each], truth[inside], l2=combine.l2, weight=weight[inside]
        )
        found[outside] = stacked(labels, stacker, [one[outside] for one in each])
    return found
