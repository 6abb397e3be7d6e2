"""Pairwise losses: the positive above each negative, one pair at a time; only the difference of two scores counts."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from towerkit.losses.base import RetrievalLoss, RetrievalLossSpec, mean_counting


def bpr(positive: Tensor, negative: Tensor, *, collision: Tensor | None = None, log_q: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking: ``-log sigmoid(s⁺ - s⁻)``, averaged over the negatives that count.

    Args:
        positive: ``[batch]`` scores.
        negative: ``[batch, drawn]`` scores.
        collision: ``[batch, drawn]`` true where a negative must not count.
        log_q: Not used: pairs are compared one by one.

    Returns:
        ``[batch]`` nats.

    Reference: Rendle et al., UAI 2009.
    """
    return mean_counting(-functional.logsigmoid(positive[:, None] - negative), collision)


def triplet(
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """``max(0, margin + s⁻ - s⁺)``, averaged over the negatives that count: a pair that is far enough apart rests.

    Args:
        positive: ``[batch]`` scores.
        negative: ``[batch, drawn]`` scores.
        margin: By how much the positive must win, in the unit of the scores.
        log_q: Not used: pairs are compared one by one.
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]`` in the unit of the scores.

    Example:
        >>> import torch
        >>> triplet(torch.tensor([2.0]), torch.tensor([[0.0, 1.5]])).item()  # (0 + 0.5) / 2
        0.25

    Reference: Schroff et al., CVPR 2015 (arXiv 1503.03832), whose scores are negative squared distances.
    """
    return mean_counting(functional.relu(margin + negative - positive[:, None]), collision)


class BprSpec(RetrievalLossSpec):
    """The positive above one drawn negative at a time."""

    kind: Literal["bpr"] = "bpr"

    def build(self) -> RetrievalLoss:
        """The loss."""
        return bpr


class TripletSpec(RetrievalLossSpec):
    """The positive above each negative by a margin; a pair beyond it is left in peace."""

    kind: Literal["triplet"] = "triplet"
    margin: float = Field(1.0, gt=0.0)

    def build(self) -> RetrievalLoss:
        """The loss with its margin."""
        return partial(triplet, margin=self.margin)
