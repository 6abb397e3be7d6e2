"""Members: anything that fits on rows and gives probabilities for raw rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.artifact.models import load_predictor, save_predictor
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.ensembles.sklearn import SklearnSpec
from towerkit.ensembles.xgboost import XgboostSpec
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Labels
from towerkit.models.answer import TaskPredictor, known_part
from towerkit.models.pair_scorer import PairScorer, pair_scorer_of
from towerkit.models.ranker import RankerSpec
from towerkit.models.tower_model import TowerModelSpec
from towerkit.objectives.balance import FixedBalanceSpec
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.fit import Trained, fit_recipe, refit_recipe
from towerkit.training.loop import Selection
from towerkit.training.progress import Progress
from towerkit.training.recipes import PredictionRecipe
from towerkit.training.spec import TrainingSpec


class Member(Protocol):
    """A fitted model of any family."""

    @property
    def encoder(self) -> Encoder:
        """What it reads from raw rows."""

    @property
    def tasks(self) -> Mapping[str, Labels]:
        """Task -> its classes."""

    def predict(self, table: Table) -> dict[str, NDArray[np.float64]]:
        """Task -> ``[rows, classes]`` probabilities of raw rows; of a regression its numbers ``[rows, 1]``."""


@runtime_checkable
class SavedMember(Protocol):
    """A member that writes itself; a tower model is written by :mod:`towerkit.artifact.models`."""

    def save(self, folder: Path) -> None:
        """Write everything that its spec's ``load`` needs."""


AnyPredictorSpec = TowerModelSpec | XgboostSpec | SklearnSpec
"""Members that predict. Beside tower models, a spec has ``demand``, ``fit`` and ``load``, and what it fits has ``save``."""

RANKERS = ("bm25", "cooccurrence", "ease", "ranker", "two_tower")
"""The kinds of members that rank."""


def fit_apart(
    spec: AnyPredictorSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: tuple[Checkpoints | None, Checkpoints | None] = (None, None),
) -> tuple[Member, Callable[[], Member]]:
    """Fit a member on the training rows alone, and say how it is fitted on validation rows, too.

    Args:
        spec: What to fit.
        dataset: Raw tables; test rows are not read.
        training: Its settings.
        progress: Told after each epoch.
        checkpoints: Of the first training of a tower model, and of the second.

    Returns:
        The member, and what ``training.refit`` asks for: the same member where it asks for nothing.
    """
    once = training.model_copy(update={"refit": False})
    if not isinstance(spec, TowerModelSpec):
        first = spec.fit(dataset, once, progress)
        return first, lambda: spec.fit(dataset, training, progress) if training.refit else first
    recipe = recipe_of(spec)
    found = fit_recipe(recipe, dataset, once, progress, checkpoints[0])
    member = predictor_of(spec, found)

    def again() -> Member:
        if not training.refit:
            return member
        trained = refit_recipe(recipe, dataset, training, progress, found.history.best_epoch, checkpoints[1])
        decisions = {task: decision.refitted() for task, decision in found.decisions.items()}
        return predictor_of(spec, replace(trained, decisions=decisions))

    return member, again


def fit_member(
    spec: AnyPredictorSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> Member:
    """Fit a member on the data set's training rows, its validation rows deciding when to stop."""
    if isinstance(spec, TowerModelSpec):
        return predictor_of(spec, fit_recipe(recipe_of(spec), dataset, training, progress, checkpoints))
    return spec.fit(dataset, training, progress)


def recipe_of(spec: TowerModelSpec) -> PredictionRecipe:
    """How a member that is a tower model is trained: its epochs are chosen by its own loss."""
    return PredictionRecipe(spec, FixedBalanceSpec(), Selection("loss", higher_is_better=False))


def predictor_of(spec: TowerModelSpec, trained: Trained) -> TaskPredictor:
    """A trained tower model, ready to answer raw rows."""
    encoded = trained.prepared.encoded
    known = {name: known_part(catalogue) for name, catalogue in encoded.catalogues.items()}
    return TaskPredictor(spec, encoded.encoder, trained.model, known, trained.decisions)


def pair_scorer(spec: RankerSpec, dataset: Dataset, trained: Trained, seen: csr_array) -> PairScorer:
    """A trained ranker, ready to answer.

    Args:
        spec: Its spec.
        dataset: It names the entities and their titles.
        trained: The ranker.
        seen: ``[query rows, candidate rows]`` trained pairs, the unknown row 0 included.
    """
    encoded, entities = trained.prepared.encoded, spec.entities(dataset)
    return pair_scorer_of(
        spec,
        encoded.encoder,
        trained.model,
        encoded.catalogues,
        seen,
        entities=entities,
        titles={name: dataset.entities[name].title if name in dataset.entities else None for name in entities},
        decisions=trained.decisions,
    )


def save_member(folder: Path, member: Member) -> None:
    """Write a member into a folder."""
    if isinstance(member, TaskPredictor):
        save_predictor(folder, member)
    else:
        assert isinstance(member, SavedMember)
        member.save(folder)


def load_member(folder: Path, spec: AnyPredictorSpec, version: int = FORMAT_VERSION) -> Member:
    """Read a member of this spec from its folder.

    Args:
        folder: Its files.
        spec: What it was fitted from.
        version: The format of its Run.

    Raises:
        RunError: If a file is missing or damaged.
    """
    return load_predictor(folder, version) if isinstance(spec, TowerModelSpec) else spec.load(folder, version)
