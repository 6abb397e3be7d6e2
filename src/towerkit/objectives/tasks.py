"""The prediction objective: one loss term per head, over the rows whose label is known."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from towerkit.data.batch import Batch
from towerkit.models.tower_model import TowerModel
from towerkit.objectives.base import Objective
from towerkit.objectives.retrieval import weighted_mean


class TasksObjective(Objective):
    """One forward pass, then each head's own loss; a row without a task's label still trains the others."""

    def __call__(self, model: TowerModel, batch: Batch) -> dict[str, Tensor]:
        """Task -> mean loss over its labelled rows; a task without any in this batch has no term."""
        return task_terms(model, model(batch), batch)

    def weights(self, model: TowerModel, batch: Batch) -> dict[str, float | None]:
        """Task -> what its labelled rows weigh together, None where there is none."""
        one = torch.ones(len(batch)) if batch.weights is None else batch.weights
        return {task: float(one[known].sum()) if known.any() else None for task, known in batch.masks.items()}


def task_terms(model: TowerModel, logits: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Task -> mean loss over its labelled rows; a task without any has no term.

    Args:
        model: Its heads know their losses.
        logits: Task -> ``[batch, outputs]``.
        batch: Labels, and the weights of the rows.
    """
    terms = {}
    for task, own in logits.items():
        known = batch.masks[task]
        if not known.any():
            continue
        labels = batch.labels[task]
        unknown = ~known if labels.dim() == 1 else ~known[:, None]
        labels = labels.masked_fill(unknown, 0)  # any label will do: its loss weighs nothing, but must be finite
        losses = model.head(task).training_loss(own, labels)  # [batch]
        weights = known.to(losses.dtype) if batch.weights is None else known * batch.weights
        terms[task] = weighted_mean(losses, weights)
    return terms
