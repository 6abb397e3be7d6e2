"""Gradient-boosted trees as a member; stored in XGBoost's own JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from towerkit.artifact.models import load_encoder, save_encoder
from towerkit.core.errors import RunError, SpecError
from towerkit.core.optional import optional_import
from towerkit.core.random import stream
from towerkit.core.spec import Spec
from towerkit.data.dataset import Dataset
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.data.table import values_of
from towerkit.ensembles.plain_tasks import check_plain
from towerkit.ensembles.trees import read_trees
from towerkit.features.base import FeatureSpec
from towerkit.features.columns import CategoryFeature, CategorySpec, NumberSpec, numbers
from towerkit.features.encoded import example_weights
from towerkit.features.encoder import Demand, Encoder, named
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.heads import AnyHeadSpec, CountHeadSpec, HeadSpec, MultilabelHeadSpec, RegressionHeadSpec
from towerkit.models.wiring import schema_of
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.training.progress import Progress
from towerkit.training.spec import TrainingSpec


@dataclass(frozen=True, eq=False)
class XgboostMember:
    """Fitted trees with their encoder."""

    spec: XgboostSpec
    encoder: Encoder
    booster: Any
    """An ``xgboost.Booster``."""

    @property
    def tasks(self) -> Mapping[str, Labels]:
        """The one task, named after its column."""
        return self.encoder.labels

    def predict(self, table: Table) -> dict[str, NDArray[np.float64]]:
        """Task -> ``[rows, classes]`` probabilities of raw rows; of a regression its numbers ``[rows, 1]``."""
        ((task, labels),) = self.tasks.items()
        raw = np.asarray(self.booster.predict(_matrix(self.encoder, table)), np.float64)
        if labels.scale is not None:
            return {task: labels.scale.outside(torch.from_numpy(raw)).numpy()[:, None]}
        found = np.stack([1.0 - raw, raw], axis=1) if raw.ndim == 1 else raw
        return {task: found / found.sum(axis=1, keepdims=True)}

    def save(self, folder: Path) -> None:
        """Write the trees and the encoder; the spec stands in the fusion's own."""
        folder.mkdir(parents=True, exist_ok=True)
        save_encoder(folder, self.encoder)
        self.booster.save_model(str(folder / "trees.json"))
        read_trees(folder / "trees.json")  # what could not be read again is not worth keeping


class XgboostSpec(Spec):
    """XGBoost on table columns for one task; rounds are chosen on validation."""

    kind: Literal["xgboost"] = "xgboost"
    columns: tuple[str, ...] = Field(min_length=1)
    task: AnyHeadSpec
    rounds: int = Field(500, ge=1)
    depth: int = Field(6, ge=1, le=20)
    lr: float = Field(0.1, gt=0.0)
    min_child_weight: float = Field(1.0, ge=0.0)
    subsample: float = Field(1.0, gt=0.0, le=1.0)

    @field_validator("task")
    @classmethod
    def _trees_give_one_answer(cls, task: HeadSpec) -> HeadSpec:
        if isinstance(task, MultilabelHeadSpec):
            raise ValueError(
                f"an xgboost member predicts one class or one number per row; received the multilabel task of '{task.column}'. "
                "Use a tower_model as the member, or predict a column of one label."
            )
        check_plain(task, "an xgboost member")
        return task

    def demand(self, dataset: Dataset) -> Demand:
        """Numbers and categories of the example rows, and the label."""
        schema = schema_of(dataset, EXAMPLE)
        if self.task.layers:
            raise SpecError("task.layers: trees have no layers; remove the key.")
        demand = Demand(labels={self.task.column: self.task.label()})
        features: list[FeatureSpec] = []
        for name in self.columns:
            is_number = schema.require(name, dataset.examples.name).type == "number"
            features.append(NumberSpec(column=name) if is_number else CategorySpec(column=name))
        demand.add(EXAMPLE, features)
        return demand

    def fit(self, dataset: Dataset, training: TrainingSpec, progress: Progress) -> XgboostMember:
        """Find the number of rounds on validation; with ``refit``, grow the trees again on all rows.

        Args:
            dataset: Raw tables; training and validation rows are read.
            training: Seed and refit; the trees wait for 30 rounds without a better one, whatever the patience for epochs.
            progress: Not told: trees take seconds.
        """
        parts = dataset.parts
        encoder = Encoder.fit(self.demand(dataset), dataset, parts.train)
        watched = [self._data(encoder, dataset, parts.validation)] if len(parts.validation) else []
        booster = self._grow(encoder, self._data(encoder, dataset, parts.train), watched, self.rounds, training.seed)
        if watched and training.refit:
            rounds = booster.best_iteration + 1
            final = dataset.for_refit()
            encoder = Encoder.fit(self.demand(final), final, final.parts.train)
            booster = self._grow(encoder, self._data(encoder, final, final.parts.train), [], rounds, training.seed)
        elif watched:
            booster = booster[: booster.best_iteration + 1]
        return XgboostMember(self, encoder, booster)

    def load(self, folder: Path, version: int = FORMAT_VERSION) -> XgboostMember:
        """Read the member from a folder.

        Args:
            folder: Its files.
            version: The format of its Run.

        Raises:
            RunError: If a file is missing or damaged.
        """
        checked = read_trees(folder / "trees.json")
        xgboost = _xgboost()
        booster = xgboost.Booster()
        try:
            booster.load_model(checked)
        except xgboost.core.XGBoostError as error:
            raise RunError(
                f"{folder / 'trees.json'} cannot be read by XGBoost ({str(error).splitlines()[0]})."
            ) from None
        return XgboostMember(self, load_encoder(folder, version), booster)

    def _data(self, encoder: Encoder, dataset: Dataset, rows: Rows) -> Any:
        (labels,) = encoder.labels.values()
        truth = labels.encode(dataset.labelled(labels.column, rows))
        known, truth = rows[is_known(truth)], truth[is_known(truth)]
        if labels.scale is not None:
            truth = labels.scale.inside(torch.from_numpy(truth)).numpy()
        table = Table(dataset.examples.data.take(known), dataset.examples.name, 0)
        weights = example_weights(dataset)
        return _matrix(encoder, table, label=truth, weight=None if weights is None else weights[known])

    def _grow(self, encoder: Encoder, train: Any, watched: list[Any], rounds: int, seed: int) -> Any:
        (labels,) = encoder.labels.values()
        settings = {
            "objective": self._objective(),
            "max_depth": self.depth,
            "eta": self.lr,
            "min_child_weight": self.min_child_weight,
            "subsample": self.subsample,
            "seed": stream(seed, "xgboost") % 2**31,
            "verbosity": 0,
        } | ({} if self.task.kind in ("binary", "regression", "count") else {"num_class": len(labels.classes)})
        early = {"early_stopping_rounds": 30, "verbose_eval": False} if watched else {}
        return _xgboost().train(settings, train, rounds, evals=[(data, "validation") for data in watched], **early)

    def _objective(self) -> str:
        if isinstance(self.task, CountHeadSpec):
            return "reg:squarederror"  # whose best answer is the mean, as that of the likelihood of counts
        if isinstance(self.task, RegressionHeadSpec):
            return "reg:squarederror" if self.task.loss == "mse" else "reg:pseudohubererror"
        return "binary:logistic" if self.task.kind == "binary" else "multi:softprob"


def _xgboost() -> ModuleType:
    return optional_import("xgboost", extra="trees")


def _matrix(
    encoder: Encoder, table: Table, label: Truth | None = None, weight: NDArray[np.float32] | None = None
) -> Any:
    """Raw numbers (NaN where missing) and category codes (NaN where unknown); trees need no standardisation."""
    columns, types = [], []
    for fitted in encoder.features[EXAMPLE]:
        (name,) = fitted.spec.column_names()
        if isinstance(fitted.feature, CategoryFeature):
            codes = np.asarray(named(table.name, fitted.feature.encode, table.data), np.float32)
            columns.append(np.where(codes > 0, codes - 1, np.nan))
            types.append("c")
        else:
            columns.append(named(table.name, numbers, named(table.name, values_of, table.data, name), name))
            types.append("q")
    array = np.stack(columns, axis=1).astype(np.float32)
    return _xgboost().DMatrix(array, label=label, weight=weight, feature_types=types, enable_categorical=True)
