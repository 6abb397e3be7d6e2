"""The objective of several retrievals: each on the rows of a batch that have its candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from towerkit.core.nesting import below
from towerkit.data.batch import Batch
from towerkit.models.joint import JointModel
from towerkit.objectives.base import Objective
from towerkit.objectives.retrieval import RetrievalObjective


class JointObjective(Objective):
    """One loss term for each sort of candidates that a batch has.

    Args:
        parts: Candidate entity -> its objective.
    """

    def __init__(self, parts: Mapping[str, RetrievalObjective]) -> None:
        self.parts = dict(parts)

    def __call__(self, model: JointModel, batch: Batch) -> dict[str, Tensor]:
        """Candidate entity -> mean loss of the rows that have one."""
        terms = {}
        for name, objective in self.parts.items():
            if batch.masks[name].any():
                (terms[name],) = objective(model.two_towers[name], rows_with(batch, name)).values()
        return terms

    def parameters(self) -> list[nn.Parameter]:
        """Learned temperatures."""
        return [parameter for each in self.parts.values() for parameter in each.parameters()]

    def after_step(self) -> None:
        """Let the negatives remember the positives."""
        for each in self.parts.values():
            each.after_step()

    def report(self) -> dict[str, float]:
        """``candidate/figure`` of each."""
        return {f"{name}/{key}": value for name, each in self.parts.items() for key, value in each.report().items()}

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs, of each."""
        return {f"{name}.{key}": value for name, each in self.parts.items() for key, value in each.state().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""
        for name, each in self.parts.items():
            each.restore(below(name, state))


def rows_with(batch: Batch, candidate: str) -> Batch:
    """The rows of a batch that have a candidate of one sort.

    Args:
        batch: Its masks say which rows have one; its pool was drawn for these rows alone.
        candidate: The sort.
    """
    rows = batch.masks[candidate].nonzero()[:, 0]
    return replace(
        batch,
        index={name: index[rows] for name, index in batch.index.items()},
        weights=None if batch.weights is None else batch.weights[rows],
        pool={candidate: batch.pool[candidate]} if candidate in batch.pool else {},
    )
