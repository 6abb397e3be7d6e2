"""From a recipe and a data set to a trained model: once to find the number of epochs, once on all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from towerkit.core.notices import listening
from towerkit.core.random import stream
from towerkit.core.world import ALONE, World
from towerkit.data.batch import Batch
from towerkit.data.splits import Rows
from towerkit.data.table import Table
from towerkit.features.encoded import Drawn, Encoded
from towerkit.heads.decision import Decision, after_refit, told_of
from towerkit.matching.negatives import AllCandidates, Negatives
from towerkit.training.checkpoint import Checkpoints, Saved
from towerkit.training.crew import Crew
from towerkit.training.engines.base import KernelEngine
from towerkit.training.loop import History, Retold, Selection, Stretch, fit_loop
from towerkit.training.progress import Progress
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import LossError, TrainState, seeded_torch
from towerkit.training.steps import batch_size, order_of


@dataclass
class Prepared:
    """A model ready to train, with the arrays its batches are cut from."""

    state: TrainState
    encoded: Encoded
    negatives: Negatives | AllCandidates | None = None
    entities: tuple[str, str] | None = None
    """The query and the candidate entity, where there are negatives."""
    engine: KernelEngine | None = None
    """What takes the steps, where it is not the torch engine."""
    batch: Callable[[Rows, int], Batch] | None = None
    """Rows and draw -> a batch, where negatives of several sorts are drawn."""
    before_epoch: Callable[[int], None] | None = None
    """Told which epoch begins, from 0: lets layers move that have their turn."""


class Parts(Protocol):
    """The rows of a data set by what is done with them; what they are, numbers or a range, its recipe knows."""

    @property
    def train(self) -> Any:
        """Learned from."""

    @property
    def validation(self) -> Any:
        """Held out to choose an epoch."""


class Learnable(Protocol):
    """What a trainer asks of a data set: a ``Dataset`` in memory, or a ``Log`` on disk."""

    @property
    def parts(self) -> Parts:
        """Its rows."""

    @property
    def source(self) -> Table:
        """What messages call its rows."""

    def for_refit(self) -> Self:
        """The data set that the final model learns from."""

    def row_numbers(self, chosen: Rows) -> Rows:
        """The row numbers of rows that are learned from, as the source counts them."""


D = TypeVar("D", bound=Learnable)
D_contra = TypeVar("D_contra", contravariant=True)


class Recipe(Protocol[D_contra]):
    """What a model kind tells the trainer about itself."""

    @property
    def selection(self) -> Selection:
        """Which validation figure decides."""

    def prepare(self, dataset: D_contra, rows: Any, training: TrainingSpec) -> Prepared:
        """Fit the encoder on some rows and build the model."""

    def validate(self, prepared: Prepared, dataset: D_contra, rows: Any) -> Mapping[str, float]:
        """Validation figures on held-out rows."""

    def decide(self, prepared: Prepared, rows: Any) -> Mapping[str, Decision]:
        """Of each task, how its logits become an answer, read off held-out rows."""


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came to be."""

    prepared: Prepared
    history: History
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """Task -> how its logits become an answer; nothing is read off where there are no tasks."""

    @property
    def model(self) -> Any:
        """The module, in evaluation mode."""
        return self.prepared.state.model


def fit_recipe(
    recipe: Recipe[D],
    dataset: D,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    world: World = ALONE,
) -> Trained:
    """Train on the training rows under validation; then, with ``refit``, afresh on both for the best number of epochs.

    Args:
        recipe: The model kind.
        dataset: Raw tables with their split; test rows are not read.
        training: The loop's settings.
        progress: Told after each step and epoch.
        checkpoints: Where to save and to go on from; None does neither.
        world: The processes that train together, each of which calls this; the first one validates and saves.

    Returns:
        The trained model. Its history holds both stretches. Thresholds and temperatures are read off the validation rows by
        the model of the first one, since the second learns from these rows.

    Raises:
        TrainingError: If a loss is not a number, or a signal stopped the training.
        RunError: If the checkpoint belongs to another training.
    """
    has_validation = len(dataset.parts.validation) > 0
    saved = None if checkpoints is None else checkpoints.load()
    if saved is not None:
        _replay(saved.stretch, progress, training.epochs, recipe.selection)
    fit = _Fit(recipe, dataset, training, progress, checkpoints, world)
    if saved is None or saved.stretch.stage == "train":
        last = not (training.refit and has_validation)
        first = fit.run(Stretch("train"), training.epochs, saved, validated=has_validation, last=last)
        first = replace(first, decisions=recipe.decide(first.prepared, dataset.parts.validation))
        if last:
            return first
        before = first.history
        labels = first.prepared.encoded.encoder.labels
        before.decisions = {task: told_of(decision, labels[task]) for task, decision in first.decisions.items()}
    else:
        assert saved.stretch.before is not None
        before = saved.stretch.before
    saved = saved if saved is not None and saved.stretch.stage == "refit" else None
    again = replace(fit, dataset=dataset.for_refit())
    found = again.run(Stretch("refit", before=before), before.best_epoch, saved, validated=False, last=True)
    before.records += found.history.records
    before.seconds += found.history.seconds
    labels = found.prepared.encoded.encoder.labels
    decided = {task: after_refit(told, labels[task]) for task, told in before.decisions.items()}
    return Trained(found.prepared, before, decided)


def refit_recipe(
    recipe: Recipe[D],
    dataset: D,
    training: TrainingSpec,
    progress: Progress,
    epochs: int,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """The second half of :func:`fit_recipe` alone: train afresh on training and validation rows together.

    Args:
        recipe: The model kind.
        dataset: Raw tables with their split; test rows are not read.
        training: The loop's settings, as for the first half.
        progress: Told after each step and epoch.
        epochs: The best number, as the first half found it.
        checkpoints: Where to save and to go on from, apart from those of the first half.

    Raises:
        TrainingError: If a loss is not a number, or a signal stopped the training.
        RunError: If the checkpoint belongs to another training.
    """
    saved = None if checkpoints is None else checkpoints.load()
    if saved is not None:
        _replay(saved.stretch, progress, epochs, recipe.selection)
    fit = _Fit(recipe, dataset.for_refit(), training, progress, checkpoints)
    return fit.run(Stretch("refit"), epochs, saved, validated=False, last=True)


@dataclass(frozen=True)
class _Fit(Generic[D]):
    """One training: what its stretches share."""

    recipe: Recipe[D]
    dataset: D
    training: TrainingSpec
    progress: Progress
    checkpoints: Checkpoints | None
    world: World = ALONE

    def run(self, stretch: Stretch, epochs: int, saved: Saved | None, *, validated: bool, last: bool) -> Trained:
        """One stretch of training on the training rows, from its start or from where it was saved."""
        with seeded_torch(stream(self.training.seed, "torch")), listening(self.progress.waits):
            prepared = self.recipe.prepare(self.dataset, self.dataset.parts.train, self._own_training())
            crew = Crew.of(self.world, prepared, self.training)
            if saved is not None:
                stretch = saved.stretch
                saved.restore(prepared.state)
            crew.check_together(prepared.state)
            crew.shard(prepared.state, self.training, stretch)
            if not stretch.finished:
                self._loop(prepared, crew, stretch, epochs, validated=validated)
                if last and self.checkpoints is not None and self.world.is_first:
                    self.checkpoints.finish(prepared.state, stretch)
        prepared.state.model.eval()
        return Trained(prepared, stretch.history)

    def _own_training(self) -> TrainingSpec:
        """The settings as one of several processes follows them: by the torch engine."""
        return self.training if self.world.size == 1 else self.training.model_copy(update={"engine": "torch"})

    def _loop(self, prepared: Prepared, crew: Crew, stretch: Stretch, epochs: int, *, validated: bool) -> None:
        state, training, checkpoints = prepared.state, self.training, self.checkpoints
        rows = self.dataset.parts.train

        def validate() -> Mapping[str, float]:
            return crew.told(lambda: self.recipe.validate(prepared, self.dataset, self.dataset.parts.validation))

        def before_epoch(epoch: int) -> None:
            crew.begin_epoch(state)
            if prepared.before_epoch is not None:
                prepared.before_epoch(epoch)

        def after_epoch() -> None:
            if state.update is not None:
                state.update.after_epoch(state.model, prepared.encoded, rows)
            crew.collect(state)

        if prepared.engine is not None and not prepared.engine.is_compiled():
            self.progress.waits("compiling the kernels of this training; they are kept for the next one")
        try:
            with nullcontext() if checkpoints is None else checkpoints.listening():
                fit_loop(
                    state,
                    lambda epoch, done: batches_of(prepared, rows, training, epoch, done, crew),
                    epochs=epochs,
                    validate=validate if validated else None,
                    selection=self.recipe.selection,
                    patience=training.patience,
                    validate_every=training.validate_every,
                    progress=self.progress,
                    stretch=stretch,
                    before_epoch=before_epoch,
                    after_epoch=after_epoch,
                    accumulate=training.accumulate,
                    watch=crew.watch(checkpoints),
                    advance=None if prepared.engine is None else prepared.engine.steps,
                )
        except LossError as error:
            crew.collect(state)  # all processes are told the loss
            if checkpoints is None or not self.world.is_first:
                raise
            raise save_failure(checkpoints, state, stretch, self.dataset, training, error) from None


def save_failure(
    checkpoints: Checkpoints,
    state: TrainState,
    stretch: Stretch,
    dataset: Learnable,
    training: TrainingSpec,
    error: LossError,
) -> LossError:
    """Save the state before a step whose loss was no number, with the examples of that step.

    Returns:
        The error, which now says where to look.
    """
    rows, epoch = dataset.parts.train, len(stretch.history.records)
    size = batch_size(training, rows)
    start = stretch.batches * size
    chosen = dataset.row_numbers(order_of(rows, training, epoch)[start : start + size * training.accumulate])
    examples = dataset.source
    about = {
        "error": str(error),
        "stage": stretch.stage,
        "epoch": epoch + 1,
        "step": state.step,
        "table": examples.name,
        "rows": [int(row) + 1 for row in chosen],
        "lines": [int(row) + examples.first_row for row in chosen] if examples.first_row else None,
    }
    folder = checkpoints.save_failure(state, stretch, about)
    return LossError(
        f"{error} The state before the step is in {folder}; its batch.json names the {len(chosen):,} examples of "
        f"{examples.name} that the step read, the first one {examples.where(int(chosen[0]))}."
    )


def _replay(stretch: Stretch, progress: Progress, epochs: int, selection: Selection) -> None:
    """Tell the epochs that were done before a training was resumed."""
    tell = Retold(progress, epochs, selection)
    for history in (stretch.before, stretch.history):
        for record in [] if history is None else history.records:
            tell(record)


def batches_of(
    prepared: Prepared, rows: Rows | range, training: TrainingSpec, epoch: int, done: int = 0, crew: Crew | None = None
) -> Iterator[Batch]:
    """The batches of an epoch: an order that is a pure function of seed and epoch, negatives drawn by step.

    Args:
        prepared: Arrays and negatives.
        rows: Training rows.
        training: Batch size and seed.
        epoch: From 0.
        done: Batches to leave out, because they were done before.
        crew: Where several processes share each batch; the batches are then this one's parts of them.
    """
    order, size = order_of(rows, training, epoch), batch_size(training, rows)
    last = len(order) - size + 1 if training.drop_last else len(order)
    cut = _cutter(prepared, crew)
    for place, start in enumerate(range(0, last, size)):
        if place >= done:
            chosen = order[start : start + size]
            draw = prepared.state.step * training.accumulate + place % training.accumulate
            yield cut(chosen, draw)


def _cutter(prepared: Prepared, crew: Crew | None) -> Callable[[Rows, int], Batch]:
    """Rows of a batch and the counter of its randomness -> the batch, or this process's part of it."""
    if crew is not None and crew.world.size > 1:
        return lambda rows, draw: crew.cut(prepared, rows, draw)
    return prepared.batch or (lambda rows, draw: prepared.encoded.batch(rows, _drawn(prepared, rows, draw)))


def _drawn(prepared: Prepared, rows: Rows, draw: int) -> dict[str, list[Drawn]] | None:
    if prepared.negatives is None or prepared.entities is None:
        return None
    query, candidate = prepared.entities
    index = prepared.encoded.index
    return {candidate: prepared.negatives.draw(index[query][rows], index[candidate][rows], draw)}
