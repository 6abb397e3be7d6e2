"""Pointwise losses: each pair against a fixed mark, so that a score has a meaning of its own and not only an order.

In all of them a row whose negatives all collide keeps its positive's share.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from towerkit.losses.base import RetrievalLoss, RetrievalLossSpec, mean_counting, unless_cosine


def bce(
    positive: Tensor,
    negative: Tensor,
    *,
    negative_weight: float = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """Is this pair an event? ``-log sigmoid(s⁺) - w mean_j log sigmoid(-s_j)``.

    Args:
        positive: ``[batch]`` scores, read as log-odds.
        negative: ``[batch, drawn]`` scores.
        negative_weight: ``w``: how many events all negatives of a row are worth together. With ``w = drawn`` it is the
            sum over negatives.
        log_q: Not used. Noise-contrastive estimation would subtract ``log(w q)`` from *both* scores; a positive was not
            drawn and comes without its ``q``, and one half of that correction leads to no known quantity. Uncorrected,
            the best score is ``log(p / (w q))``: how much more often the query takes the candidate than it was drawn.
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]`` nats.

    Example:
        >>> import torch
        >>> round(bce(torch.zeros(1), torch.zeros(1, 3)).item(), 4)     # 2 log 2
        1.3863

    Reference: of the best score, Levy and Goldberg, NeurIPS 2014; of the correction, Gutmann and Hyvärinen, JMLR 2012.
    """
    against = mean_counting(-functional.logsigmoid(-negative), collision)  # [batch]
    return negative_weight * against - functional.logsigmoid(positive)


def contrastive(
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.5,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """``½ (1 - s⁺)² + ½ mean_j max(0, s_j - margin)²``: pairs of a kind together, others apart up to a margin.

    This is the contrastive loss of 2006, squared as published, with ``1 - s`` as the distance: a negative is pushed while
    its distance is below ``1 - margin``, the less the nearer it is to that. Without the squares it would be ``ccl`` with a
    weight of 1. What is often called contrastive today, one positive against many negatives in a softmax (InfoNCE), is
    :func:`~towerkit.losses.softmax_family.sampled_softmax`.

    Args:
        positive: ``[batch]`` cosines.
        negative: ``[batch, drawn]`` cosines.
        margin: The cosine above which a negative is pushed away.
        log_q: Not used: pairs are judged one by one.
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]``.

    Example:
        >>> import torch
        >>> contrastive(torch.tensor([0.0]), torch.tensor([[1.0, 0.0]])).item()  # 1/2 + (1/8 + 0) / 2
        0.5625

    Reference: Hadsell, Chopra and LeCun, CVPR 2006.
    """
    apart = functional.relu(negative - margin).square()  # [batch, drawn]
    return 0.5 * ((1.0 - positive).square() + mean_counting(apart, collision))


def ccl(
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 0.5,
    negative_weight: float = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """Cosine contrastive loss: ``(1 - s⁺) + w mean_j max(0, s_j - margin)``; easy negatives cost nothing.

    Args:
        positive: ``[batch]`` cosines.
        negative: ``[batch, drawn]`` cosines.
        margin: The cosine above which a negative is pushed away.
        negative_weight: ``w``: what all negatives of a row weigh together, beside 1 for the positive.
        log_q: Not used: pairs are judged one by one.
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]``.

    Example:
        >>> import torch
        >>> ccl(torch.tensor([0.5]), torch.tensor([[1.0, 0.0]]), negative_weight=4.0).item()  # 0.5 + 4 (0.5 + 0) / 2
        1.5

    Reference: Mao et al., SimpleX, CIKM 2021 (arXiv 2109.12613).
    """
    return negative_weight * mean_counting(functional.relu(negative - margin), collision) + (1.0 - positive)


class BceSpec(RetrievalLossSpec):
    """Each pair by itself: an event or not. The score is a log-odds, so the match should reach both signs: ``dot``."""

    kind: Literal["bce"] = "bce"
    negative_weight: float = Field(1.0, gt=0.0)

    def build(self) -> RetrievalLoss:
        """The loss with its weight."""
        return partial(bce, negative_weight=self.negative_weight)


class ContrastiveSpec(RetrievalLossSpec):
    """Events together, other pairs apart up to a margin, both squared."""

    kind: Literal["contrastive"] = "contrastive"
    margin: float = Field(0.5, ge=-1.0, lt=1.0)

    def refusal(self, similarity: str) -> str | None:
        """All matches but the cosine."""
        return unless_cosine(similarity, _margin_is_a_cosine(self.kind, self.margin))

    def build(self) -> RetrievalLoss:
        """The loss with its margin."""
        return partial(contrastive, margin=self.margin)


class CclSpec(RetrievalLossSpec):
    """Many negatives at little cost: only those above the margin push."""

    kind: Literal["ccl"] = "ccl"
    margin: float = Field(0.5, ge=-1.0, lt=1.0)
    negative_weight: float = Field(1.0, gt=0.0)

    def refusal(self, similarity: str) -> str | None:
        """All matches but the cosine."""
        return unless_cosine(similarity, _margin_is_a_cosine(self.kind, self.margin))

    def build(self) -> RetrievalLoss:
        """The loss with its margin and weight."""
        return partial(ccl, margin=self.margin, negative_weight=self.negative_weight)


def _margin_is_a_cosine(kind: str, margin: float) -> str:
    return (
        f"{kind} pulls positives to a score of 1 and pushes negatives below its margin of {margin:g}; both are cosines."
    )
