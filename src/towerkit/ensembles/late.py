"""Late fusion: members fitted apart, their probabilities combined. Stacking learns from out-of-fold predictions only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from towerkit.artifact.models import check_labels
from towerkit.core.errors import DataError, RunError
from towerkit.core.random import generator
from towerkit.core.remarks import collecting
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.data.splits import Rows
from towerkit.ensembles.late_spec import LateFusionSpec, StackSpec
from towerkit.ensembles.members import Member, fit_member, load_member, save_member
from towerkit.ensembles.stackers import Probabilities, Stacker, fit_stacker, restored_stacker, stacked
from towerkit.features.encoded import example_weights
from towerkit.features.labels import Labels
from towerkit.heads.decision import Decision
from towerkit.models.answer import TaskPredictor
from towerkit.storage.documents import read_document
from towerkit.storage.hashes import write_json
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.progress import Progress, Staged
from towerkit.training.spec import TrainingSpec

_SMALLEST = 1e-6
LATE_FUSION_KEYS = ("spec", "tasks")
"""Of ``model.json``, where the members predict."""


@dataclass(frozen=True, eq=False)
class LateFusion:
    """Fitted members and their combiner: a predictor, not a module."""

    spec: LateFusionSpec
    members: Mapping[str, Member]
    tasks: Mapping[str, Labels]
    combiners: Mapping[str, Stacker]
    """Task -> the stacker; empty for an average."""

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """None: a fusion predicts a class from a probability of a half on."""
        return {}

    def predict(self, table: Table) -> dict[str, Probabilities]:
        """Task -> ``[rows, classes]`` probabilities of raw rows; of a regression its numbers ``[rows, 1]``."""
        return self.combined(self.member_predictions(table))

    def member_predictions(self, table: Table) -> dict[str, dict[str, Probabilities]]:
        """Member -> task -> ``[rows, classes]``, under this fusion's task names and classes."""
        return {name: aligned(member, member.predict(table), self.tasks) for name, member in self.members.items()}

    def cold(self, table: Table) -> NDArray[np.bool_] | None:
        """``[rows]`` whether a key that some member reads is unknown or missing; None where no member reads any."""
        each = (member.cold(table) for member in self.members.values() if isinstance(member, TaskPredictor))
        found = [cold for cold in each if cold is not None]
        return np.logical_or.reduce(found) if found else None

    def combined(self, predictions: Mapping[str, Mapping[str, Probabilities]]) -> dict[str, Probabilities]:
        """Merge predictions that are already there."""
        found = {}
        for task, labels in self.tasks.items():
            each = [predictions[name][task] for name in self.members]
            stacker = self.combiners.get(task)
            found[task] = np.mean(each, axis=0) if stacker is None else stacked(labels, stacker, each)
        return found


def fit_late_fusion(
    spec: LateFusionSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> LateFusion:
    """Fit the combiner on out-of-fold predictions, then every member on all rows.

    Args:
        spec: Members and combiner.
        dataset: Raw tables; test rows are not read.
        training: The settings of every member; the seed also draws the folds.
        progress: Told after each epoch of each member.
        checkpoints: Where each tower model's training is saved, and a finished one found again.
    """
    labels = spec.demand(dataset).labels
    rows = dataset.parts.train
    tasks = {task: label.fit(dataset.labelled(label.column, rows)) for task, label in labels.items()}
    combiners: dict[str, Stacker] = {}
    if isinstance(spec.combine, StackSpec):
        held_out = out_of_fold(spec, dataset, training, progress, tasks, checkpoints)
        weights = example_weights(dataset)
        for task, label in tasks.items():
            each = [held_out[name][task] for name in spec.members]
            truth = label.encode(dataset.labelled(label.column, rows))
            weight = None if weights is None else weights[rows]
            combiners[task] = fit_stacker(label, each, truth, l2=spec.combine.l2, weight=weight)
    members = {
        name: fit_member(member, dataset, training, Staged(progress, f"member {name}:"), _part(checkpoints, name))
        for name, member in spec.predictors.items()
    }
    return LateFusion(spec, members, tasks, combiners)


def out_of_fold(
    spec: LateFusionSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    tasks: Mapping[str, Labels],
    checkpoints: Checkpoints | None = None,
) -> dict[str, dict[str, Probabilities]]:
    """Member -> task -> ``[training rows, classes]``: each row predicted by members that never saw it.

    Args:
        spec: Members and number of folds.
        dataset: Raw tables.
        training: Settings of the members; in a fold they are not refitted, so that validation rows stay unseen.
        progress: Told after each epoch.
        tasks: Tasks and classes.
        checkpoints: Where each training is saved.

    Raises:
        DataError: If there are fewer rows than folds.
    """
    assert isinstance(spec.combine, StackSpec)
    rows = dataset.parts.train
    if len(rows) < spec.combine.folds:
        raise DataError(
            f"{dataset.examples.name}: {spec.combine.folds} folds need at least {spec.combine.folds} training rows; there "
            f"are {len(rows)}. Lower model.combine.folds, or use combine: {{kind: average}}."
        )
    fold_of = folds(len(rows), spec.combine.folds, training.seed)
    within = training.model_copy(update={"refit": False})
    found = {
        name: {task: np.zeros((len(rows), label.num_outputs)) for task, label in tasks.items()} for name in spec.members
    }
    for fold in range(spec.combine.folds):
        inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        part = dataset.with_parts(replace(dataset.parts, train=rows[inside]))
        table = replace(dataset.examples, data=dataset.examples.data.take(rows[outside]), first_row=0)
        for name, member_spec in spec.predictors.items():
            stage = f"member {name}, fold {fold + 1}/{spec.combine.folds}:"
            inside_it = _part(checkpoints, f"{name}.fold-{fold + 1}")
            member = fit_member(member_spec, part, within, Staged(progress, stage), inside_it)
            with collecting():  # what is odd about these rows is told when all are read, by their place in the file
                answers = member.predict(table)
            for task, values in aligned(member, answers, tasks).items():
                found[name][task][outside] = values
    return found


def _part(checkpoints: Checkpoints | None, name: str) -> Checkpoints | None:
    return None if checkpoints is None else checkpoints.part(name)


def folds(num_rows: int, num_folds: int, seed: int) -> Rows:
    """The fold of each row: random, of equal sizes within one, a pure function of the seed."""
    return generator(seed, "folds").permutation(np.arange(num_rows) % num_folds)


def aligned(
    member: Member, predictions: Mapping[str, Probabilities], tasks: Mapping[str, Labels]
) -> dict[str, Probabilities]:
    """A member's predictions under shared task names and classes; a class that it never saw gets probability 0."""
    by_column = {label.column: (task, label) for task, label in member.tasks.items()}
    found = {}
    for task, label in tasks.items():
        own_task, own = by_column[label.column]
        if label.is_number:
            found[task] = predictions[own_task]
            continue
        values = np.zeros((len(predictions[own_task]), len(label.classes)))
        places = [label.classes.index(name) for name in own.classes if name in label.classes]
        kept = [place for place, name in enumerate(own.classes) if name in label.classes]
        values[:, places] = predictions[own_task][:, kept]
        if label.kind != "multilabel":  # there each label is for itself
            values /= np.maximum(values.sum(axis=1, keepdims=True), _SMALLEST)
        found[task] = values
    return found


def save_late_fusion(folder: Path, fusion: LateFusion) -> None:
    """Write the combiner, and each member into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, member in fusion.members.items():
        save_member(folder / "members" / name, member)
    tasks = {task: label.as_dict() for task, label in fusion.tasks.items()}
    write_json(folder / "model.json", {"spec": fusion.spec.model_dump(mode="json"), "tasks": tasks})
    tensors = {}
    for number, task in enumerate(sorted(fusion.combiners)):
        tensors[f"{number}/coefficients"] = fusion.combiners[task].coefficients
        tensors[f"{number}/intercept"] = fusion.combiners[task].intercept
    save_tensors(folder / "combiner.safetensors", tensors)


def load_late_fusion(folder: Path, version: int = FORMAT_VERSION) -> LateFusion:
    """Read a late fusion and its members.

    Args:
        folder: Its files.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing or damaged.
    """
    content = read_document(folder / "model.json", version, LATE_FUSION_KEYS)
    spec = parse(LateFusionSpec, content["spec"], str(folder / "model.json"))
    tasks = {task: Labels.from_dict(label) for task, label in content["tasks"].items()}
    check_labels(folder / "model.json", tasks)
    members = {
        name: load_member(folder / "members" / name, member, version) for name, member in spec.predictors.items()
    }
    combiners = {}
    if isinstance(spec.combine, StackSpec):
        tensors = load_tensors(folder / "combiner.safetensors")
        try:
            for number, task in enumerate(sorted(tasks)):
                parts = tensors[f"{number}/coefficients"], tensors[f"{number}/intercept"]
                combiners[task] = restored_stacker(tasks[task], *parts)
        except KeyError as error:
            raise RunError(f"{folder / 'combiner.safetensors'} lacks {error}; train the Run again.") from None
    return LateFusion(spec, members, tasks, combiners)
