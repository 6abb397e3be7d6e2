"""Late fusion: members fitted apart, their predictions combined. What combines them learns from held-out predictions only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import TrainingError
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import values_of
from towerkit.ensembles.late_spec import LateFusionSpec, StackSpec, VoteSpec
from towerkit.ensembles.member_files import MemberFiles
from towerkit.ensembles.members import Member
from towerkit.ensembles.mixtures import Mixture, cooled, fit_temperature, fit_weights
from towerkit.ensembles.rank_combine import WeightedSpec
from towerkit.ensembles.stackers import Probabilities, Stacker, fit_stacker, stacked
from towerkit.features.encoded import example_weights
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.heads.decision import UNTOUCHED, Decision
from towerkit.models.answer import TaskPredictor

_SMALLEST = 1e-6

Answers: TypeAlias = Mapping[str, Mapping[str, Probabilities]]
"""Member -> task -> ``[rows, classes]``; a member has the tasks that it predicts."""
Combiner: TypeAlias = Stacker | Mixture
Silent: TypeAlias = Mapping[str, NDArray[np.bool_]]
"""Member -> ``[rows]`` where it says nothing; a member that always speaks need not be named."""
_NOBODY: Silent = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class LateFusion:
    """Fitted members and their combiner: a predictor, not a module."""

    spec: LateFusionSpec
    members: Mapping[str, Member]
    tasks: Mapping[str, Labels]
    combiners: Mapping[str, Combiner]
    """Task -> what combines its members; the plain mean of a task that is not named."""
    held_out: Answers | None = None
    """What the combiners were fitted on, kept so that they can be fitted again once a member is replaced."""
    files: Mapping[str, MemberFiles] = field(default_factory=dict)
    """Members that were saved before -> their files, to be saved as they are."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """Task -> how its merged probabilities become an answer; a task that is not named is left as it is."""

    @property
    def encoder(self) -> Encoder:
        """What its members read of each entity, and its tasks."""
        features: dict[str, tuple[Any, ...]] = {}
        for member in self.members.values():
            for entity, fitted in member.encoder.features.items():
                features[entity] = (*features.get(entity, ()), *fitted)
        return Encoder(features, self.tasks)

    def predict(self, table: Table) -> dict[str, Probabilities]:
        """Task -> ``[rows, classes]`` probabilities of raw rows; of a regression its numbers ``[rows, 1]``."""
        return self.combined(self.member_predictions(table), self.silent(table))

    def member_predictions(self, table: Table) -> dict[str, dict[str, Probabilities]]:
        """Member -> task -> ``[rows, classes]``, under this fusion's task names and classes."""
        return {name: asked(name, member, table, self.tasks) for name, member in self.members.items()}

    def all_predictions(self, table: Table) -> dict[str, dict[str, Probabilities]]:
        """The same of the members at all levels, as ``member`` and ``member/member``."""
        found: dict[str, dict[str, Probabilities]] = {}
        for name, member in self.members.items():
            if not isinstance(member, LateFusion):
                found[name] = asked(name, member, table, self.tasks)
                continue
            inner = member.all_predictions(table)
            said = {each: values for each, values in inner.items() if each in member.members}
            own = member.combined(said, member.silent(table))
            found[name] = aligned(member, own, self.tasks)
            found |= {f"{name}/{each}": aligned(member, values, self.tasks) for each, values in inner.items()}
        return found

    def cold(self, table: Table) -> NDArray[np.bool_] | None:
        """``[rows]`` whether a key that some member reads is unknown or missing; None where no member reads any."""
        each = (
            member.cold(table) for member in self.members.values() if isinstance(member, TaskPredictor | LateFusion)
        )
        found = [cold for cold in each if cold is not None]
        return np.logical_or.reduce(found) if found else None

    def towers(self) -> Iterator[TaskPredictor]:
        """The tower models among the members, at all levels."""
        for member in self.members.values():
            if isinstance(member, LateFusion):
                yield from member.towers()
            elif isinstance(member, TaskPredictor):
                yield member

    def silent(self, table: Table) -> Silent:
        """Member -> ``[rows]`` where it has nothing of what it reads, and says nothing if members abstain.

        Args:
            table: Raw rows.

        Returns:
            Only members that are silent somewhere.
        """
        if not self.spec.abstain:
            return {}
        nothing = {name: nothing_of(table, columns_of(member.encoder)) for name, member in self.members.items()}
        return {name: rows for name, rows in nothing.items() if rows.any()}

    def combined(self, predictions: Answers, silent: Silent = _NOBODY) -> dict[str, Probabilities]:
        """Merge predictions that are already there, each task at its temperature.

        Args:
            predictions: Member -> task -> ``[rows, classes]``.
            silent: Who says nothing of which rows.
        """
        found = {}
        for task, labels in self.tasks.items():
            decision = self.decisions.get(task, UNTOUCHED)
            found[task] = cooled(labels, self.merged(task, predictions, silent), decision.temperature)
        return found

    def merged(self, task: str, predictions: Answers, silent: Silent = _NOBODY) -> Probabilities:
        """``[rows, classes]`` of one task, as its combiner gives them.

        Args:
            task: Which one.
            predictions: Member -> task -> ``[rows, classes]``.
            silent: Who says nothing of which rows.
        """
        names = [name for name in self.members if task in predictions[name]]
        each = [predictions[name][task] for name in names]
        combiner = self.combiners.get(task)
        if combiner is None and not silent:
            return np.asarray(np.mean(each, axis=0))
        if combiner is None:
            combiner = Mixture(np.full(len(each), 1.0 / len(each)), np.ones(len(each)))
        if not isinstance(combiner, Mixture):
            return stacked(self.tasks[task], combiner, each)
        nobody = np.zeros(len(each[0]), bool)
        return combiner.combined(self.tasks[task], each, np.stack([silent.get(name, nobody) for name in names]))


def columns_of(encoder: Encoder) -> tuple[str, ...]:
    """The example columns that a model reads, the key of an entity among them."""
    return (*encoder.columns(EXAMPLE), *(entity for entity in encoder.features if entity != EXAMPLE))


def nothing_of(table: Table, columns: Sequence[str]) -> NDArray[np.bool_]:
    """``[rows]`` where none of some columns holds a value: it is missing, or a text without a letter.

    Args:
        table: Raw rows.
        columns: Their names; one that the table lacks holds none.
    """
    nothing = np.ones(table.data.num_rows, bool)
    for name in columns:
        if name in table.data.column_names:
            values = values_of(table.data, name)
            missing = pc.is_null(values, nan_is_null=True)
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                missing = pc.or_(missing, pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True))
            nothing &= np.asarray(missing.to_numpy(zero_copy_only=False), bool)
    return nothing


def given_combiners(
    spec: LateFusionSpec, members: Mapping[str, Member], tasks: Mapping[str, Labels]
) -> dict[str, Combiner]:
    """What combines the members by the spec alone: weights that were given, votes. Nothing for a plain mean."""
    combine = spec.combine
    weights = getattr(combine, "weights", None)
    if weights is None and not isinstance(combine, VoteSpec):
        return {}
    votes = combine.votes if isinstance(combine, VoteSpec) else "soft"
    found: dict[str, Combiner] = {}
    for task, labels in tasks.items():
        names = names_of(members, labels)
        own = np.array([1.0 if weights is None else weights[name] for name in names])
        if not own.sum() > 0:  # the members of this task have no weight, and it must be answered
            own = np.ones(len(names))
        found[task] = Mixture(own / own.sum(), np.ones(len(names)), votes)
    return found


def names_of(members: Mapping[str, Member], labels: Labels) -> list[str]:
    """The members that predict a column, in their order."""
    return [name for name, each in members.items() if labels.column in {own.column for own in each.tasks.values()}]


def fit_combiners(
    spec: LateFusionSpec,
    members: Mapping[str, Member],
    tasks: Mapping[str, Labels],
    held_out: Answers,
    dataset: Dataset,
) -> dict[str, Combiner]:
    """Learn how to combine the members from what they said of rows that they had not seen.

    Args:
        spec: What is learned: a stack on the training rows, or weights and temperatures on the validation rows.
        members: Who predicts what.
        tasks: Tasks and classes.
        held_out: Of the rows that the combiner reads.
        dataset: Has the labels.
    """
    combine, fixed = spec.combine, given_combiners(spec, members, tasks)
    rows = dataset.parts.train if isinstance(combine, StackSpec) else dataset.parts.validation
    weights = example_weights(dataset)
    weight = None if weights is None else weights[rows]
    found: dict[str, Combiner] = {}
    for task, labels in tasks.items():
        each = [np.asarray(held_out[name][task], np.float64) for name in names_of(members, labels)]
        truth = labels.encode(dataset.labelled(labels.column, rows))
        if isinstance(combine, StackSpec):
            found[task] = fit_stacker(labels, each, truth, l2=combine.l2, weight=weight)
        else:
            found[task] = _fitted_mixture(spec, fixed.get(task), labels, each, truth, weight)
    return found


def _fitted_mixture(
    spec: LateFusionSpec,
    fixed: Combiner | None,
    labels: Labels,
    predictions: list[Probabilities],
    truth: Truth,
    weight: NDArray[np.float32] | None,
) -> Mixture:
    """Temperatures first, then weights of what they give."""
    count, temperatures = len(predictions), np.ones(len(predictions))
    known = is_known(truth)
    own = np.ones(int(known.sum())) if weight is None else weight[known].astype(np.float64)
    if getattr(spec.combine, "calibrate", "none") == "temperature":
        temperatures = np.array([fit_temperature(labels, one[known], truth[known], own) for one in predictions])
    mixture = fixed if isinstance(fixed, Mixture) else Mixture(np.full(count, 1.0 / count), temperatures)
    mixture = replace(mixture, temperatures=temperatures)
    if not (isinstance(spec.combine, WeightedSpec) and spec.combine.weights is None):
        return mixture
    alone = [
        Mixture(np.ones(1), temperatures[[place]]).combined(labels, [one]) for place, one in enumerate(predictions)
    ]
    return replace(mixture, weights=fit_weights(labels, alone, truth, weight))


def asked(name: str, member: Member, table: Table, tasks: Mapping[str, Labels]) -> dict[str, Probabilities]:
    """A member's predictions under shared task names and classes.

    Raises:
        TrainingError: If one is no finite number.
    """
    found = aligned(member, member.predict(table), tasks)
    for task, values in found.items():
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(wrong):
            raise TrainingError(
                f"The member '{name}' answers the task '{task}' of {table.where(int(wrong[0]))} with "
                f"{values[wrong[0]].tolist()[:3]} ({len(wrong):,} such rows), which cannot be combined. Lower its learning "
                "rate, or leave the member out."
            )
    return found


def aligned(
    member: Member, predictions: Mapping[str, Probabilities], tasks: Mapping[str, Labels]
) -> dict[str, Probabilities]:
    """A member's predictions under shared task names and classes; a class that it never saw gets probability 0."""
    by_column = {label.column: (task, label) for task, label in member.tasks.items()}
    found = {}
    for task, label in tasks.items():
        own_task, own = by_column.get(label.column, ("", label))
        if own_task not in predictions:
            continue
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
