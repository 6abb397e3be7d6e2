"""Fit a late fusion: its combiner on predictions of rows that no member had seen, then the members that will answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from towerkit.core.errors import DataError, MissingExtraError, SpecError
from towerkit.core.remarks import collecting
from towerkit.data.dataset import Dataset
from towerkit.data.fingerprint import rows_fingerprint
from towerkit.data.readers import Table
from towerkit.data.splits import Rows
from towerkit.ensembles.fit_decisions import fit_decisions
from towerkit.ensembles.late import Answers, LateFusion, asked, fit_combiners, given_combiners
from towerkit.ensembles.late_files import load_model
from towerkit.ensembles.late_spec import AnyPredictingSpec, LateFusionSpec, StackSpec
from towerkit.ensembles.member_files import MemberFiles, files_below
from towerkit.ensembles.members import Member, fit_apart, fit_member
from towerkit.ensembles.run_spec import RunMemberSpec, TrainedRun
from towerkit.ensembles.stackers import Probabilities, folds
from towerkit.features.labels import Labels
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.progress import Progress, Staged
from towerkit.training.spec import TrainingSpec


def fit_late_fusion(
    spec: LateFusionSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    known: Mapping[str, Known] | None = None,
) -> LateFusion:
    """Fit the combiner on held-out predictions, then every member on all rows.

    Args:
        spec: Members and combiner.
        dataset: Raw tables; test rows are not read.
        training: The settings of every member; the seed also draws the folds.
        progress: Told after each epoch of each member.
        checkpoints: Where each tower model's training is saved, and a finished one found again.
        known: Members that need no fitting, with what they said of held-out rows.

    Raises:
        SpecError: If something is to be fitted on validation rows, and there are none.
        DataError: If there are fewer rows than folds.
        RunError: If a member that was trained before learned from other rows.
    """
    labels = spec.demand(dataset).labels
    rows = dataset.parts.train
    tasks = {task: label.fit(dataset.labelled(label.column, rows)) for task, label in labels.items()}
    fitting = Fitting(spec, dataset, training, progress, tasks, checkpoints, known or {})
    if isinstance(spec.combine, StackSpec):
        return fitting.stack()
    return fitting.on_validation() if spec.reads_validation else fitting.given()


@dataclass(frozen=True)
class Known:
    """A member that is there already."""

    member: Member
    held_out: Mapping[str, Probabilities] | None
    """What its like said of the rows that the combiner is fitted on; None where it reads none."""
    files: MemberFiles


@dataclass(frozen=True)
class Fitting:
    """One late fusion being fitted; the arguments of :func:`fit_late_fusion`, and its tasks."""

    spec: LateFusionSpec
    dataset: Dataset
    training: TrainingSpec
    progress: Progress
    tasks: Mapping[str, Labels]
    checkpoints: Checkpoints | None
    known: Mapping[str, Known]
    files: dict[str, MemberFiles] = field(default_factory=dict)
    """Of the members that were saved before."""

    def stack(self) -> LateFusion:
        """The combiner on out-of-fold predictions; the members that answer learn from all rows."""
        kept = {name: each.held_out for name, each in self.known.items() if each.held_out is not None}
        found = out_of_fold(self.spec, self.dataset, self.training, self.progress, self.tasks, self.checkpoints, kept)
        held_out = {name: found[name] for name in self.spec.members}
        members = {name: self.final(name, each) for name, each in self.spec.predictors.items()}
        combiners = fit_combiners(self.spec, members, self.tasks, held_out, self.dataset)
        return self._decided(LateFusion(self.spec, members, self.tasks, combiners, held_out, self.files))

    def on_validation(self) -> LateFusion:
        """Weights, temperatures and thresholds on validation rows, which the members learn from only then."""
        rows = self.dataset.parts.validation
        if not len(rows):
            raise SpecError(
                f"combine: {self.spec.combine.kind} fits weights or temperatures on validation rows, and the split holds none "
                "out. Set split.validation above 0, give combine.weights without calibrate, or use combine: {kind: average}."
            )
        table = rows_of(self.dataset, rows)
        held_out: dict[str, Mapping[str, Probabilities]] = {}
        again: dict[str, Callable[[], Member]] = {}
        for name, each in self.spec.predictors.items():
            if name in self.known and self.known[name].held_out is not None:
                held_out[name], member = self.known[name].held_out or {}, self._taken(name)
                again[name] = _ready(member)
                continue
            member, again[name] = self.apart(name, each)
            held_out[name] = rounded(asked(name, member, table, self.tasks))
        members = {name: fit() for name, fit in again.items()}
        combiners = fit_combiners(self.spec, members, self.tasks, held_out, self.dataset)
        return self._decided(LateFusion(self.spec, members, self.tasks, combiners, held_out, self.files))

    def given(self) -> LateFusion:
        """Nothing but the members is fitted."""
        members = {name: self.final(name, each) for name, each in self.spec.predictors.items()}
        fixed = given_combiners(self.spec, members, self.tasks)
        return self._decided(LateFusion(self.spec, members, self.tasks, fixed, None, self.files))

    def _decided(self, fusion: LateFusion) -> LateFusion:
        found = fit_decisions(fusion, fusion.held_out or {}, self.dataset, self.training.seed)
        if self.training.refit and not isinstance(self.spec.combine, StackSpec):
            found = {task: decision.refitted() for task, decision in found.items()}
        return replace(fusion, decisions=found)

    def final(self, name: str, spec: AnyPredictingSpec) -> Member:
        """A member that learned from all rows that it may."""
        if name in self.known:
            return self._taken(name)
        if isinstance(spec, RunMemberSpec):
            return self._run(name, spec)
        stage = Staged(self.progress, f"member {name}:")
        with named_member(name):
            return fit_any(spec, self.dataset, self.training, stage, part_of(self.checkpoints, name))

    def apart(self, name: str, spec: AnyPredictingSpec) -> tuple[Member, Callable[[], Member]]:
        """A member that has not seen the validation rows, and how it learns from them."""
        if name in self.known or isinstance(spec, RunMemberSpec):
            member = self.final(name, spec)
            return member, _ready(member)
        stage, part = Staged(self.progress, f"member {name}:"), part_of(self.checkpoints, name)
        second = part_of(self.checkpoints, f"{name}.refit")
        with named_member(name):
            if not isinstance(spec, LateFusionSpec):
                return fit_apart(spec, self.dataset, self.training, stage, (part, second))
            once = self.training.model_copy(update={"refit": False})
            first = fit_any(spec, self.dataset, once, stage, part)
        if not self.training.refit:
            return first, _ready(first)
        return first, lambda: fit_any(spec, self.dataset, self.training, stage, second)

    def _taken(self, name: str) -> Member:
        self.files[name] = self.known[name].files
        return self.known[name].member

    def _run(self, name: str, spec: RunMemberSpec) -> Member:
        with named_member(name):
            run = TrainedRun(spec.folder)
            run.check_rows(rows_fingerprint(self.dataset), reads_validation=self.spec.reads_validation)
        self.files[name] = files_below(run, "model/")
        return load_model(run.folder / "model", run.manifest.format)


def _ready(member: Member) -> Callable[[], Member]:
    return lambda: member


def fit_any(
    spec: AnyPredictingSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> Member:
    """Fit a member of any sort; of a Run, one like it: its spec with its settings, on these rows."""
    if isinstance(spec, RunMemberSpec):
        run = TrainedRun(spec.folder)
        own = run.training.model_copy(update={"refit": training.refit, "track": ()})
        return fit_any(run.model, dataset, own, progress, checkpoints)
    if isinstance(spec, LateFusionSpec):
        return replace(fit_late_fusion(spec, dataset, training, progress, checkpoints), held_out=None)
    return fit_member(spec, dataset, training, progress, checkpoints)


def out_of_fold(
    spec: LateFusionSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    tasks: Mapping[str, Labels],
    checkpoints: Checkpoints | None = None,
    known: Answers | None = None,
) -> dict[str, dict[str, Probabilities]]:
    """Member -> task -> ``[training rows, classes]``: each row predicted by members that never saw it.

    Args:
        spec: Members and number of folds.
        dataset: Raw tables.
        training: Settings of the members; in a fold they are not refitted, so that validation rows stay unseen.
        progress: Told after each epoch.
        tasks: Tasks and classes.
        checkpoints: Where each training is saved.
        known: Of members that need not be fitted for it.

    Raises:
        DataError: If there are fewer rows than folds.
    """
    assert isinstance(spec.combine, StackSpec)
    rows, known = dataset.parts.train, known or {}
    if len(rows) < spec.combine.folds:
        raise DataError(
            f"{dataset.examples.name}: {spec.combine.folds} folds need at least {spec.combine.folds} training rows; there "
            f"are {len(rows)}. Lower model.combine.folds, or use combine: {{kind: average}}."
        )
    fold_of = folds(len(rows), spec.combine.folds, training.seed)
    within = training.model_copy(update={"refit": False})
    found: dict[str, dict[str, Probabilities]] = {name: dict(known.get(name, {})) for name in spec.members}
    for fold in range(spec.combine.folds):
        inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        part = dataset.with_parts(replace(dataset.parts, train=rows[inside]))
        table = rows_of(dataset, rows[outside])
        for name, member_spec in spec.predictors.items():
            if name in known:
                continue
            stage = Staged(progress, f"member {name}, fold {fold + 1}/{spec.combine.folds}:")
            with named_member(name):
                member = fit_any(member_spec, part, within, stage, part_of(checkpoints, f"{name}.fold-{fold + 1}"))
            with collecting():  # what is odd about these rows is told when all are read, by their place in the file
                answers = asked(name, member, table, tasks)
            for task, values in rounded(answers).items():
                empty = np.zeros((len(rows), values.shape[1]), values.dtype)
                found[name].setdefault(task, empty)[outside] = values
    return found


@contextmanager
def named_member(name: str) -> Iterator[None]:
    """Say which member a problem belongs to."""
    try:
        yield
    except (DataError, SpecError, MissingExtraError) as error:
        raise type(error)(f"The member '{name}': {error}") from error


def rounded(predictions: Mapping[str, Probabilities]) -> dict[str, Probabilities]:
    """As they are stored: a combiner is fitted on exactly what it could be fitted on again."""
    return {task: values.astype(np.float32).astype(np.float64) for task, values in predictions.items()}


def rows_of(dataset: Dataset, rows: Rows) -> Table:
    """Some example rows as a table of their own."""
    return replace(dataset.examples, data=dataset.examples.data.take(rows), first_row=0)


def part_of(checkpoints: Checkpoints | None, name: str) -> Checkpoints | None:
    """The checkpoints of one member's training."""
    return None if checkpoints is None else checkpoints.part(name)
