"""An estimator of scikit-learn as a member: columns by our own features, the fitted estimator as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from towerkit.artifact.models import load_encoder, save_encoder
from towerkit.core.errors import DataError, RunError, SpecError, TowerkitError, TrainingError
from towerkit.core.nesting import below
from towerkit.core.random import stream
from towerkit.core.spec import Spec
from towerkit.data.column_types import ColumnType
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.table import Table
from towerkit.ensembles.estimators import AnyEstimatorSpec, Estimator, Goal
from towerkit.ensembles.estimators.base import Arrays, Features, Floats
from towerkit.ensembles.plain_tasks import check_plain
from towerkit.features.base import FeatureSpec
from towerkit.features.columns import CategorySpec, NumberSpec
from towerkit.features.cyclic import CyclicSpec
from towerkit.features.design import table_matrix
from towerkit.features.encoded import example_weights
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.labels import Labels, Truth, is_known
from towerkit.features.multi_hot import MultiHotSpec
from towerkit.features.ngrams import NgramsSpec
from towerkit.heads import AnyHeadSpec
from towerkit.models.wiring import schema_of
from towerkit.storage.migrations import FORMAT_VERSION
from towerkit.storage.tensors import load_tensors, save_tensors
from towerkit.training.progress import Progress
from towerkit.training.spec import TrainingSpec

_CHUNK = 16_384
_WIDEST = 20_000
"""Columns of a matrix that holds its zeros, too."""


@dataclass(frozen=True)
class Constant:
    """A label that all training rows have, or none: there is nothing to learn about it."""

    share: float

    def predict(self, features: Features) -> Floats:
        """``[rows, 2]``."""
        return np.tile([1.0 - self.share, self.share], (features.shape[0], 1))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The share of the rows that have it."""
        return {"share": np.array([self.share])}


@dataclass(frozen=True, eq=False)
class SklearnMember:
    """Fitted estimators with their encoder: one, or of a multilabel task one per label."""

    spec: SklearnSpec
    encoder: Encoder
    estimators: tuple[Estimator, ...]

    @property
    def tasks(self) -> Mapping[str, Labels]:
        """The one task, named after its column."""
        return self.encoder.labels

    def predict(self, table: Table) -> dict[str, NDArray[np.float64]]:
        """Task -> ``[rows, classes]`` probabilities of raw rows; of a regression its numbers ``[rows, 1]``."""
        ((task, labels),) = self.tasks.items()
        features = features_of(self.encoder, table)
        parts = [self._some(features[start : start + _CHUNK]) for start in range(0, features.shape[0], _CHUNK)]
        found = np.concatenate([np.empty((0, labels.num_outputs)), *parts])
        return {task: found if labels.scale is None else labels.scale.outside(torch.from_numpy(found)).numpy()}

    def _some(self, features: Features) -> Floats:
        each = [estimator.predict(features) for estimator in self.estimators]
        return np.stack([of_label[:, 1] for of_label in each], axis=1) if self.spec.is_multilabel else each[0]

    def save(self, folder: Path) -> None:
        """Write the estimators and the encoder; the spec stands in the fusion's own."""
        folder.mkdir(parents=True, exist_ok=True)
        save_encoder(folder, self.encoder)
        arrays = {
            f"{number}.{name}": array
            for number, estimator in enumerate(self.estimators)
            for name, array in estimator.arrays().items()
        }
        save_tensors(folder / "estimator.safetensors", arrays)


class SklearnSpec(Spec):
    """An estimator of scikit-learn on table columns, for one task."""

    kind: Literal["sklearn"] = "sklearn"
    estimator: AnyEstimatorSpec
    columns: tuple[str, ...] = Field(min_length=1)
    task: AnyHeadSpec
    buckets: int = Field(16_384, ge=2, le=1 << 22)
    """Of the hashed n-grams of a text column."""

    @property
    def is_multilabel(self) -> bool:
        """Whether a row has several labels; each is then predicted by itself."""
        return self.task.kind == "multilabel"

    @model_validator(mode="after")
    def _estimator_fits_the_task(self) -> SklearnSpec:
        number, kind = self.task.kind in ("regression", "count"), self.estimator.kind
        check_plain(self.task, "an estimator of scikit-learn")
        if not (self.estimator.predicts_numbers if number else self.estimator.predicts_classes):
            other = (
                "ridge, random_forest or hist_gradient_boosting" if number else "logistic_regression or random_forest"
            )
            raise ValueError(
                f"estimator: {kind} predicts {'classes' if number else 'numbers'}, and the task of '{self.task.column}' is "
                f"{self.task.kind}; use {other}."
            )
        return self

    def demand(self, dataset: Dataset) -> Demand:
        """Numbers, categories, lists, times and texts of the example rows, and the label."""
        schema = schema_of(dataset, EXAMPLE)
        if self.task.layers:
            raise SpecError("task.layers: an estimator of scikit-learn has no layers; remove the key.")
        demand = Demand(labels={self.task.column: self.task.label()})
        types = {name: schema.require(name, dataset.examples.name).type for name in self.columns}
        demand.add(EXAMPLE, [self._feature(name, kind) for name, kind in types.items()])
        return demand

    def _feature(self, name: str, kind: ColumnType) -> FeatureSpec:
        if kind == "number":
            return NumberSpec(column=name)
        if kind == "time":
            return CyclicSpec(column=name)
        if kind == "list":
            return MultiHotSpec(column=name)
        if kind == "text":
            self._check_reads_texts(name)
            return NgramsSpec(columns=(name,), buckets=self.buckets)
        if kind in ("image", "sound", "vector"):
            raise SpecError(
                f"columns: '{name}' is of type {kind}, which no estimator reads. Let a tower_model read it, as another member."
            )
        return CategorySpec(column=name)

    def _check_reads_texts(self, name: str) -> None:
        linear = not (self.estimator.kind == "svm" and self.estimator.kernel == "rbf")
        if not (self.estimator.reads_sparse and linear):
            raise SpecError(
                f"columns: '{name}' holds texts, and {self.estimator.kind} reads no texts; use logistic_regression, ridge, or svm "
                "with kernel: linear."
            )

    def fit(self, dataset: Dataset, training: TrainingSpec, progress: Progress) -> SklearnMember:
        """Fit on the training rows; with ``refit``, on validation rows too. Nothing is chosen on them.

        Args:
            dataset: Raw tables.
            training: Seed and refit.
            progress: Not told: it takes seconds.
        """
        final = dataset.for_refit() if training.refit and len(dataset.parts.validation) else dataset
        rows = final.parts.train
        encoder = Encoder.fit(self.demand(final), final, rows)
        (labels,) = encoder.labels.values()
        truth, weights = labels.encode(final.labelled(labels.column, rows)), example_weights(final)
        weight = np.ones(len(rows)) if weights is None else weights[rows].astype(np.float64)
        used = np.flatnonzero(is_known(truth) & (weight > 0))
        table = Table(final.examples.data.take(rows[used]), final.examples.name, 0)
        features = features_of(encoder, table)
        plain = None if weights is None else weight[used]
        seed = stream(training.seed, "sklearn")
        return SklearnMember(self, encoder, self._fitted(features, truth[used], plain, labels, seed))

    def _fitted(
        self, features: Features, truth: Truth, weight: Floats | None, labels: Labels, seed: int
    ) -> tuple[Estimator, ...]:
        goal = Goal(features.shape[1], self._classes(labels))
        if labels.scale is not None:
            truth = labels.scale.inside(torch.from_numpy(truth)).numpy()
        if not self.is_multilabel:
            return (self._one(features, truth, weight, goal, seed),)
        return tuple(self._one(features, has, weight, goal, seed) for has in truth.T.astype(np.int64))

    def _one(self, features: Features, truth: Truth, weight: Floats | None, goal: Goal, seed: int) -> Estimator:
        if self.is_multilabel and (truth == truth[0]).all():
            return Constant(float(truth[0]))
        if goal.classes and len(present := np.unique(truth)) < goal.classes:
            raise DataError(
                f"The label column '{self.task.column}' has {goal.classes} classes in the training rows, and rows of a weight "
                f"above 0 have {len(present)} of them; an estimator of scikit-learn needs a row of each."
            )
        try:
            return self.estimator.fit(features, truth, weight, goal, seed)
        except TowerkitError:
            raise
        except (ValueError, ArithmeticError, MemoryError) as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"scikit-learn could not fit {self.estimator.kind} on {features.shape[0]:,} rows and {features.shape[1]:,} "
                f"columns: {why}. Change its keys, or use another estimator."
            ) from error

    def _classes(self, labels: Labels) -> int:
        return 2 if self.is_multilabel else len(labels.classes)

    def load(self, folder: Path, version: int = FORMAT_VERSION) -> SklearnMember:
        """Read the member from a folder.

        Args:
            folder: Its files.
            version: The format of its Run.

        Raises:
            RunError: If a file is missing or damaged.
        """
        encoder = load_encoder(folder, version)
        path = folder / "estimator.safetensors"
        arrays = load_tensors(path)
        try:
            (labels,) = encoder.labels.values()
            width = table_matrix(encoder, Table(pa.table(_nothing(encoder)), str(path), 0)).shape[1]
            goal = Goal(width, self._classes(labels))
            count = labels.num_outputs if self.is_multilabel else 1
            each = tuple(self._restored(below(str(number), arrays), goal) for number in range(count))
        except (KeyError, ValueError, DataError) as error:
            raise RunError(
                f"{path}: these are no numbers of a {self.estimator.kind} ({error}). Train the Run again."
            ) from None
        return SklearnMember(self, encoder, each)

    def _restored(self, arrays: Arrays, goal: Goal) -> Estimator:
        if self.is_multilabel and set(arrays) == {"share"}:
            return Constant(float(np.clip(np.asarray(arrays["share"], np.float64)[0], 0.0, 1.0)))
        return self.estimator.restore(arrays, goal)


def features_of(encoder: Encoder, table: Table) -> Features:
    """``[rows, inputs]`` of raw rows, sparse where there are texts.

    Raises:
        DataError: If a matrix with all its zeros would be too wide.
    """
    found = table_matrix(encoder, table).astype(np.float32)
    if any(isinstance(each.spec, NgramsSpec) for each in encoder.features[EXAMPLE]):
        if found.nnz < 2**31:  # places in 32 bits are all that scikit-learn's C libraries read
            found.indices, found.indptr = found.indices.astype(np.int32), found.indptr.astype(np.int32)
        return found
    if found.shape[1] > _WIDEST:
        raise DataError(
            f"{table.name}: the columns of a scikit-learn member have {found.shape[1]:,} values and flags together, more than "
            f"{_WIDEST:,}. Leave out the column with the most distinct values; is it an id?"
        )
    return np.asarray(found.toarray(), np.float32)


def _nothing(encoder: Encoder) -> dict[str, pa.Array]:
    """Every column that it reads, without a row."""
    return {name: pa.nulls(0) for name in encoder.columns(EXAMPLE)}
