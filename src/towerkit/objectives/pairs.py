"""The objective of a ranker: the score of each positive against those of its query with the candidates of the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from towerkit.data.batch import Batch
from towerkit.models.ranker import RANKING
from towerkit.models.tower_model import TowerModel
from towerkit.objectives.retrieval import ComparingObjective, Sampler, beside, weighted_mean
from towerkit.objectives.tasks import task_terms


class PairsObjective(ComparingObjective):
    """One forward pass over the positives and all pairs that the pool makes with their queries.

    Args:
        loss: Scores of positives and negatives to one loss per row.
        negatives: What fills the pool.
        candidate: The candidate entity.
    """

    def __init__(self, loss: Callable[..., Tensor], negatives: Sampler | None, candidate: str) -> None:
        super().__init__(loss, negatives)
        self.candidate = candidate

    def __call__(self, model: TowerModel, batch: Batch) -> dict[str, Tensor]:
        """The mean loss of the ranking, and of each task beside it that has a labelled row."""
        size = len(batch)
        logits = model(with_drawn(batch, self.candidate))
        scores = logits[RANKING][:, 0]  # [batch + pairs]
        pool = batch.pool.get(self.candidate, ())
        widths = [block.index.shape[-1] for block in pool if block.index is not None]
        drawn = [own.view(size, -1) for own in scores[size:].split([size * width for width in widths])]
        losses = self.compared(beside(scores[:size], drawn, pool))
        own = {task: found[:size] for task, found in logits.items() if task != RANKING}
        return {RANKING: weighted_mean(losses, batch.weights), **task_terms(model, own, batch)}


def with_drawn(batch: Batch, candidate: str) -> Batch:
    """The batch, and behind its rows one for each row and each candidate drawn for it; these have no label.

    Args:
        batch: Its pool has candidates by place, none by vector.
        candidate: The candidate entity.
    """
    size = len(batch)
    index = {name: [own] for name, own in batch.index.items()}
    for block in batch.pool.get(candidate, ()):
        assert block.index is not None
        drawn = block.index.expand(size, -1)  # [batch, n]
        rows = torch.arange(size).repeat_interleave(drawn.shape[1])
        for name, places in index.items():
            places.append(drawn.reshape(-1) if name == candidate else batch.index[name][rows])
    return replace(batch, index={name: torch.cat(places) for name, places in index.items()})
