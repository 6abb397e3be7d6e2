"""The trainings of ``backbone: {kind: auto}``, each measured on the same rows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from towerkit.baselines.tasks import constant
from towerkit.core.errors import SpecError
from towerkit.core.remarks import collecting
from towerkit.data.dataset import Dataset
from towerkit.ensembles.fit_late import rounded, rows_of
from towerkit.ensembles.late import LateFusion, aligned, asked, fit_combiners
from towerkit.ensembles.late_spec import LateFusionSpec
from towerkit.ensembles.members import predictor_of
from towerkit.evaluation.selection import task_selection
from towerkit.features.encoded import example_weights
from towerkit.features.labels import is_known
from towerkit.metrics.intervals import default_resamples
from towerkit.metrics.significance import Difference, mean_differences
from towerkit.models.answer import TaskPredictor
from towerkit.models.tower_model import TowerModelSpec
from towerkit.presets.fusion_table import Way
from towerkit.presets.nested import nested
from towerkit.presets.relative_loss import Floats, relative_losses
from towerkit.presets.trials import Trials
from towerkit.spec import ModelingSpec
from towerkit.training.checkpoint import Checkpoints
from towerkit.training.fit import fit_recipe
from towerkit.training.loop import Selection
from towerkit.training.progress import Progress, Staged
from towerkit.training.recipes import PredictionRecipe

_FLIPS = 100
"""Of a p-value that nobody reads: the interval decides."""
Answers = Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Trained:
    """A fusion that was trained and measured."""

    model: TowerModelSpec | LateFusionSpec
    way: Way
    predictor: TaskPredictor | None
    """None of a late fusion, whose members are here too."""
    answers: Answers
    """To the rows that are compared on."""
    losses: Floats
    """``[rows]``; see :func:`relative_losses`."""
    parameters: int
    seconds: float
    ms_per_row: float
    epochs: int

    @property
    def loss(self) -> float:
        """The mean."""
        return float(self.losses.mean())


class Contest:
    """Trains models on one part, lets them choose epochs on a second, and measures them on a third.

    Args:
        spec: How each is trained.
        dataset: Raw tables with their split; test rows are not read.
        progress: Told of every epoch, and of each model as of an epoch.
        checkpoints: Where each training is saved.

    Attributes:
        models: Name -> what was trained.
        rows: Sizes of the three parts.

    Raises:
        SpecError: If there are no validation rows.
    """

    def __init__(
        self, spec: ModelingSpec, dataset: Dataset, progress: Progress, checkpoints: Checkpoints | None = None
    ) -> None:
        assert isinstance(spec.model, TowerModelSpec)
        compared = dataset.parts.validation
        if not len(compared):
            raise SpecError(
                "backbone: {kind: auto} compares fusions on validation rows, and the split holds none out. Set "
                "split.validation above 0, or name a backbone."
            )
        self._spec, self._heads, self._progress, self._checkpoints = spec, spec.model.heads, progress, checkpoints
        self._inner = nested(dataset, spec.training.seed)
        self._training = spec.training.model_copy(update={"refit": False, "track": ()})
        self._table, self._watched = rows_of(dataset, compared), rows_of(dataset, self._inner.parts.validation)
        weights = example_weights(dataset)
        self._weight = None if weights is None else weights[compared].astype(np.float64)
        self._learn_tasks(dataset, weights)
        self._trials = Trials(Selection("loss", higher_is_better=False), progress)
        self.models: dict[str, Trained] = {}
        parts = self._inner.parts
        self.rows = {"train": len(parts.train), "epochs": len(parts.validation), "compared": len(compared)}

    def _learn_tasks(self, dataset: Dataset, weights: Any) -> None:
        """The classes of the training rows, the labels of those compared on, and the answer that looks at no column."""
        rows, compared = self._inner.parts.train, dataset.parts.validation
        self._tasks, self._truth, self._constants = {}, {}, {}
        for task, label in self._spec.model.demand(dataset).labels.items():
            labels = self._tasks[task] = label.fit(dataset.labelled(label.column, rows))
            self._truth[task] = labels.encode(dataset.labelled(label.column, compared))
            truth = labels.encode(dataset.labelled(label.column, rows))
            known = is_known(truth)
            own = None if weights is None else weights[rows][known]
            self._constants[task] = constant(labels, truth[known], own)

    @property
    def records(self) -> list[dict[str, Any]]:
        """One per model, as the lines of a history are."""
        return self._trials.records

    def train(self, name: str, way: Way, model: TowerModelSpec) -> None:
        """Train a model and measure it.

        Args:
            name: What it is called.
            way: How its towers are merged.
            model: What to train.
        """
        recipe = PredictionRecipe(model, self._spec.balance, task_selection(self._spec.evaluation, model.heads))
        part = None if self._checkpoints is None else self._checkpoints.part(f"fusion.{len(self.models)}")
        stage = Staged(self._progress, f"{name}:")
        found = fit_recipe(recipe, self._inner, self._training, stage, part)
        predictor = predictor_of(model, found)
        started = time.perf_counter()
        with collecting():  # what is odd about these rows is told when all are read, by their place in the file
            answers = aligned(predictor, predictor.predict(self._table), self._tasks)
        seconds = time.perf_counter() - started
        size = sum(parameter.numel() for parameter in predictor.model.parameters())
        own = {"seconds": found.history.seconds, "ms_per_row": 1000.0 * seconds / self.rows["compared"]}
        losses = self._losses(answers)
        self._keep(
            name,
            Trained(model, way, predictor, answers, losses, parameters=size, epochs=found.history.best_epoch, **own),
        )

    def merge(self, name: str, way: Way, model: LateFusionSpec, members: Mapping[str, Trained]) -> None:
        """Combine models that were trained, with weights that the second part's rows choose, and measure them together.

        Args:
            name: What it is called.
            way: How its towers are merged.
            model: Members and combiner.
            members: Member -> what was trained.
        """
        with collecting():
            predictors = {member: _predictor(one) for member, one in members.items()}
            watched = {n: rounded(asked(n, one, self._watched, self._tasks)) for n, one in predictors.items()}
        combiners = fit_combiners(model, predictors, self._tasks, watched, self._inner)
        fusion = LateFusion(model, predictors, self._tasks, combiners)
        answers = fusion.combined({member: one.answers for member, one in members.items()})
        all_of = members.values()
        self._keep(
            name,
            Trained(
                model,
                way,
                None,
                answers,
                self._losses(answers),
                parameters=sum(one.parameters for one in all_of),
                seconds=sum(one.seconds for one in all_of),
                ms_per_row=sum(one.ms_per_row for one in all_of),
                epochs=max(one.epochs for one in all_of),
            ),
        )

    def behind(self, one: Trained, best: Trained) -> Difference:
        """How far a model's loss lies above the best one's, paired row by row."""
        settings = {"resamples": default_resamples(len(one.losses)), "flips": _FLIPS, "seed": self._spec.training.seed}
        return mean_differences({"loss": best.losses}, {"loss": one.losses}, **settings)["loss"]

    def _losses(self, answers: Answers) -> Floats:
        shares = {task: head.weight for task, head in self._heads.items()}
        return relative_losses(answers, self._truth, self._constants, self._tasks, shares, self._weight)

    def _keep(self, name: str, one: Trained) -> None:
        best = min((each.loss for each in self.models.values()), default=None)
        self._trials.told({"fusion": name}, {"loss": one.loss}, best)
        self.models[name] = one


def _predictor(one: Trained) -> TaskPredictor:
    assert one.predictor is not None
    return one.predictor
