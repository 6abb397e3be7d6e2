"""From a recipe and a data set to a trained model: once to find the number of epochs, once on all rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from towerkit.core.random import generator, stream
from towerkit.data.batch import Batch
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.features.encoded import Drawn, Encoded
from towerkit.matching.negatives import AllCandidates, Negatives
from towerkit.training.loop import History, Progress, Selection, fit_loop
from towerkit.training.spec import TrainingSpec
from towerkit.training.state import TrainState, seeded_torch


@dataclass
class Prepared:
    """A model ready to train, with the arrays its batches are cut from."""

    state: TrainState
    encoded: Encoded
    negatives: Negatives | AllCandidates | None = None
    entities: tuple[str, str] | None = None
    """The query and the candidate entity, where there are negatives."""


class Recipe(Protocol):
    """What a model kind tells the trainer about itself."""

    @property
    def selection(self) -> Selection:
        """Which validation figure decides."""

    def prepare(self, dataset: Dataset, rows: Rows, training: TrainingSpec) -> Prepared:
        """Fit the encoder on some rows and build the model."""

    def validate(self, prepared: Prepared, dataset: Dataset, rows: Rows) -> Mapping[str, float]:
        """Validation figures on held-out rows."""


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came to be."""

    prepared: Prepared
    history: History

    @property
    def model(self) -> Any:
        """The module, in evaluation mode."""
        return self.prepared.state.model


def fit_recipe(recipe: Recipe, dataset: Dataset, training: TrainingSpec, progress: Progress) -> Trained:
    """Train on the training rows under validation; then, with ``refit``, afresh on both for the best number of epochs.

    Args:
        recipe: The model kind.
        dataset: Raw tables with their split; test rows are not read.
        training: The loop's settings.
        progress: Told after each epoch.

    Returns:
        The trained model. Its history holds both stretches.
    """
    parts = dataset.parts
    has_validation = len(parts.validation) > 0
    with seeded_torch(stream(training.seed, "torch")):
        prepared = recipe.prepare(dataset, parts.train, training)
        history = _run(
            recipe, prepared, dataset, parts.train, training, progress, stage="train", validated=has_validation
        )
    if not (training.refit and has_validation):
        return Trained(prepared, history)
    final = dataset.for_refit()
    again = training.model_copy(update={"epochs": history.best_epoch})
    with seeded_torch(stream(training.seed, "torch")):
        prepared = recipe.prepare(final, final.parts.train, again)
        refit = _run(recipe, prepared, final, final.parts.train, again, progress, stage="refit", validated=False)
    history.records += refit.records
    history.seconds += refit.seconds
    return Trained(prepared, history)


def _run(
    recipe: Recipe,
    prepared: Prepared,
    dataset: Dataset,
    rows: Rows,
    training: TrainingSpec,
    progress: Progress,
    *,
    stage: str,
    validated: bool,
) -> History:
    def validate() -> Mapping[str, float]:
        return recipe.validate(prepared, dataset, dataset.parts.validation)

    def after_epoch() -> None:
        if prepared.state.update is not None:
            prepared.state.update.after_epoch(prepared.state.model, prepared.encoded, rows)

    return fit_loop(
        prepared.state,
        lambda epoch: batches_of(prepared, rows, training, epoch),
        epochs=training.epochs,
        validate=validate if validated else None,
        selection=recipe.selection,
        patience=training.patience,
        progress=progress,
        stage=stage,
        after_epoch=after_epoch,
    )


def batches_of(prepared: Prepared, rows: Rows, training: TrainingSpec, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch: an order that is a pure function of seed and epoch, negatives drawn by step.

    Args:
        prepared: Arrays and negatives.
        rows: Training rows.
        training: Batch size and seed.
        epoch: From 0.
    """
    order = rows[generator(training.seed, "order", epoch).permutation(len(rows))]
    size = min(training.batch_size, len(rows))
    last = len(order) - size + 1 if training.drop_last else len(order)
    for start in range(0, last, size):
        chosen = order[start : start + size]
        yield prepared.encoded.batch(chosen, _drawn(prepared, chosen))


def _drawn(prepared: Prepared, rows: Rows) -> dict[str, list[Drawn]] | None:
    if prepared.negatives is None or prepared.entities is None:
        return None
    query, candidate = prepared.entities
    index = prepared.encoded.index
    return {candidate: prepared.negatives.draw(index[query][rows], index[candidate][rows], prepared.state.step)}
