"""Distillation: a two-tower learns to rank a batch's candidates as a trained model ranks them.

A model that looks at pairs (a ranker, a fusion) often ranks better than two towers, and is too slow to rank a catalogue. Its scores
of the candidates of a batch, made soft, say more of them than which one was taken.

Reference: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from towerkit.data.batch import Batch
from towerkit.matching.similarity import Match
from towerkit.models.two_tower import TwoTower


class Teacher(Protocol):
    """A trained model that scores pairs, asked by the rows of the student's catalogues."""

    def logits(self, queries: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        """What it thinks of some candidates for each of some queries.

        Args:
            queries: ``[n]`` rows; 0 is the unknown one.
            candidates: ``[m]`` rows.

        Returns:
            ``[n, m]`` scores in the unit that it was trained in; NaN where it does not know the query or the candidate.
        """


@dataclass(frozen=True)
class Distillation:
    """How much the teacher counts, and how softly it speaks."""

    teacher: Teacher
    temperature: float
    """Divides the logits of both: the higher, the more is heard of candidates that the teacher ranks low."""
    most: int
    """Candidates of a batch that are asked for."""
    scale: float = 1.0
    """Divides the student's scores first: the temperature of its own loss."""

    def __call__(self, model: TwoTower, batch: Batch, queries: Tensor, candidates: Tensor) -> Tensor:
        """``[batch]`` how far the student's soft ranking is from the teacher's; zeros where the teacher knows nothing.

        Args:
            model: The student.
            batch: The rows.
            queries: ``[rows, dim]`` prepared vectors of the batch's distinct queries.
            candidates: ``[rows, dim]`` prepared vectors of its distinct candidates.
        """
        match: Match = model.match
        rows, of_rows = batch.rows[model.query_entity], batch.rows[model.candidate_entity]
        chosen = torch.from_numpy(evenly(len(of_rows), self.most))
        wanted = self.teacher.logits(rows.numpy(), of_rows[chosen].numpy())
        student = match.every(queries, candidates[chosen]) / self.scale  # [queries, chosen]
        distance = soft_distance(student, torch.from_numpy(wanted), self.temperature)  # [queries]
        return distance[batch.index[model.query_entity]]


def soft_distance(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T² KL(softmax(teacher / T) ‖ softmax(student / T))`` of each row, over the candidates that the teacher knows.

    ``T²`` keeps the size of the gradient as the temperature changes.

    Args:
        student: ``[rows, n]`` logits.
        teacher: ``[rows, n]`` logits; NaN where it has none.
        temperature: ``T``.

    Returns:
        ``[rows]``; zero where the teacher knows fewer than two.

    Example:
        >>> soft_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), 2.0).tolist()
        [0.0]
    """
    known = ~torch.isnan(teacher)
    few = known.sum(dim=1) < 2
    aside = torch.finfo(student.dtype).min
    target = functional.log_softmax(teacher.masked_fill(~known, aside) / temperature, dim=1)
    said = functional.log_softmax(student.masked_fill(~known, aside) / temperature, dim=1)
    each = torch.where(known, target.exp() * (target - said), 0.0)
    return temperature**2 * each.sum(dim=1).masked_fill(few, 0.0)


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places, evenly among all; a pure function, so that a training that goes on asks the same.

    Example:
        >>> evenly(3, 8).tolist(), evenly(10, 4).tolist()
        ([0, 1, 2], [0, 2, 5, 7])
    """
    return np.arange(min(count, most)) * count // max(1, min(count, most))
