"""Members: anything that fits on rows and gives probabilities for raw rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from towerkit.artifact.models import load_predictor, save_predictor
from towerkit.baselines.bm25 import BM25Spec
from towerkit.core.errors import listed
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.ensembles.sklearn import SklearnSpec
from towerkit.ensembles.xgboost import XgboostSpec
from towerkit.features.encoder import Encoder
from towerkit.features.labels import Labels
from towerkit.heads import HeadSpec
from towerkit.models.answer import TaskPredictor, known_part
from towerkit.models.tower_model import TowerModelSpec
from towerkit.models.two_tower import TwoTowerSpec
from towerkit.objectives.balance import FixedBalanceSpec
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.fit import Trained, fit_recipe
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

AnyMemberSpec = Annotated[AnyPredictorSpec | TwoTowerSpec | BM25Spec, Field(discriminator="kind")]
"""The menu of members: those that predict, and those that rank (:mod:`towerkit.ensembles.rank_members`)."""

RANKERS = ("bm25", "two_tower")
"""The kinds of members that rank."""


def check_alike(members: Mapping[str, AnyMemberSpec]) -> None:
    """Refuse members of which some rank and some predict.

    Raises:
        ValueError: Naming one of each.
    """
    ranking = [name for name, member in members.items() if member.kind in RANKERS]
    others = [name for name in members if name not in ranking]
    if ranking and others:
        raise ValueError(
            f"the members must all rank ({listed(RANKERS)}) or all predict a label (tower_model, xgboost, sklearn); received "
            f"'{ranking[0]}', a {members[ranking[0]].kind}, beside '{others[0]}', a {members[others[0]].kind}. Fuse them apart."
        )


def heads_of(spec: AnyPredictorSpec) -> tuple[HeadSpec, ...]:
    """What a member predicts."""
    return tuple(spec.heads.values()) if isinstance(spec, TowerModelSpec) else (spec.task,)


def fit_member(
    spec: AnyPredictorSpec,
    dataset: Dataset,
    training: TrainingSpec,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> Member:
    """Fit a member on the data set's training rows, its validation rows deciding when to stop."""
    if isinstance(spec, TowerModelSpec):
        recipe = PredictionRecipe(spec, FixedBalanceSpec(), Selection("loss", higher_is_better=False))
        return predictor_of(spec, fit_recipe(recipe, dataset, training, progress, checkpoints))
    return spec.fit(dataset, training, progress)


def predictor_of(spec: TowerModelSpec, trained: Trained) -> TaskPredictor:
    """A trained tower model, ready to answer raw rows."""
    encoded = trained.prepared.encoded
    known = {name: known_part(catalogue) for name, catalogue in encoded.catalogues.items()}
    return TaskPredictor(spec, encoded.encoder, trained.model, known, trained.decisions)


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
