"""Losses of retrieval: scores of positives and of drawn negatives in, one loss per row out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from towerkit.core.spec import Spec

RetrievalLoss: TypeAlias = Callable[..., Tensor]


def sampled_softmax(
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the positive against the positive and its drawn negatives.

    ``-s⁺/τ + log(exp(s⁺/τ) + Σ_j exp(s_j/τ - log q_j))``

    Args:
        positive: ``[batch]`` scores.
        negative: ``[batch, drawn]`` scores.
        temperature: Positive divisor of the scores.
        log_q: ``[batch, drawn]`` log-probability of having been drawn, subtracted after the temperature. The positive
            was not drawn and is not corrected (arXiv 2507.09331).
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]`` nats.

    Example:
        >>> import torch
        >>> round(sampled_softmax(torch.zeros(1), torch.zeros(1, 3)).item(), 4)     # log 4
        1.3863

    Reference: Jean et al., 2015 (arXiv 1412.2007); with one-backprop, arXiv 2403.18227, equation of the InfoNCE loss.
    """
    own, other = positive / temperature, negative / temperature
    if log_q is not None:
        other = other - log_q
    if collision is not None:
        other = other.masked_fill(collision, -torch.inf)
    everything = torch.cat([own[:, None], other], dim=1)  # [batch, 1 + drawn]
    return torch.logsumexp(everything, dim=1) - own


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
    losses = -functional.logsigmoid(positive[:, None] - negative)  # [batch, drawn]
    if collision is None:
        return losses.mean(dim=1)
    counts = (~collision).sum(dim=1).clamp(min=1)
    return losses.masked_fill(collision, 0.0).sum(dim=1) / counts


class RetrievalLossSpec(Spec):
    """The configuration of a retrieval loss."""

    reads: ClassVar[Literal["scores", "vectors"]] = "scores"
    negatives: ClassVar[Literal["drawn", "all", "none"]] = "drawn"
    """What the objective hands in: candidates drawn by the negatives, the whole catalogue, or nothing."""
    corrects: ClassVar[bool] = False
    """Whether logQ means something to it."""

    def refusal(self, similarity: str) -> str | None:
        """Why this loss is ill-posed with a match; None where it is not."""
        return None

    def build(self) -> RetrievalLoss:
        """The loss."""
        raise NotImplementedError


class SampledSoftmaxSpec(RetrievalLossSpec):
    """The positive against drawn negatives; the usual choice for clicks and purchases."""

    corrects: ClassVar[bool] = True
    kind: Literal["sampled_softmax"] = "sampled_softmax"
    temperature: float = Field(1.0, gt=0.0)

    def build(self) -> RetrievalLoss:
        """The loss with its temperature."""
        return partial(sampled_softmax, temperature=self.temperature)


class BprSpec(RetrievalLossSpec):
    """The positive above one drawn negative at a time."""

    kind: Literal["bpr"] = "bpr"

    def build(self) -> RetrievalLoss:
        """The loss."""
        return bpr
