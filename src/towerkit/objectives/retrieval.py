"""The retrieval objective: a positive against the candidates that the negatives put into the pool."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from towerkit.core.spec import Spec
from towerkit.data.batch import Batch
from towerkit.losses import AnyRetrievalLossSpec, RetrievalLoss, SampledSoftmaxSpec
from towerkit.matching.negatives import AnyNegativesSpec, UniformSpec
from towerkit.matching.updates import Update
from towerkit.models.two_tower import TwoTower


class RetrievalObjective:
    """Owns match and loss; the update decides what the loss may see.

    Args:
        loss: Scores of positives and negatives to one loss per row.
        update: Decides what is detached.
    """

    def __init__(self, loss: RetrievalLoss, update: Update) -> None:
        self.loss, self.update = loss, update

    def __call__(self, model: TwoTower, batch: Batch) -> dict[str, Tensor]:
        """The mean loss of the batch, under the name ``retrieval``."""
        match = model.match
        query, candidate = self.update.view(*model(batch))
        queries = match.prepare(query)[batch.index[model.query_entity]]  # [batch, dim]
        candidates = match.prepare(candidate)  # [rows, dim]
        pool = batch.pool[model.candidate_entity]
        positive = match.pairs(queries, candidates[batch.index[model.candidate_entity]])
        negative = match.drawn(queries, candidates, pool.index)
        losses = self.loss(positive, negative, log_q=pool.log_q, collision=pool.collision)
        return {"retrieval": weighted_mean(losses, batch.weights)}


def weighted_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over rows, or the weighted mean; zero when all weights are zero.

    Args:
        losses: ``[rows]``.
        weights: ``[rows]`` at least 0, or None for equal weights.
    """
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum().clamp(min=1e-12)


class RetrievalObjectiveSpec(Spec):
    """A loss, and the negatives it compares with."""

    loss: AnyRetrievalLossSpec = SampledSoftmaxSpec()
    negatives: Annotated[tuple[AnyNegativesSpec, ...], Field(min_length=1, max_length=1)] = (UniformSpec(),)
