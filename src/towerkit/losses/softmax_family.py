"""Softmax losses: the positive against all its negatives at once, so that the hardest ones weigh most."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from towerkit.losses.base import RetrievalLoss, num_counting, unless_cosine
from towerkit.losses.temperature import TemperedLossSpec


def sampled_softmax(
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the positive against the positive and its drawn negatives.

    ``-s⁺/τ + log(exp(s⁺/τ) + Σ_j exp(s_j/τ - log q_j))``

    With in-batch negatives and cosines this is InfoNCE, also called NT-Xent or, loosely, "contrastive".

    Args:
        positive: ``[batch]`` scores.
        negative: ``[batch, drawn]`` scores.
        temperature: Positive divisor of the scores.
        log_q: ``[batch, drawn]``, or what broadcasts to it: the logarithm of how often a candidate is expected among
            the drawn, subtracted after the temperature. The positive was not drawn and is not corrected
            (arXiv 2507.09331).
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


def softmax(
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the positive against the whole catalogue: what ``sampled_softmax`` estimates.

    Args:
        positive: ``[batch]`` scores.
        negative: ``[batch, candidates]`` scores of the catalogue.
        temperature: Positive divisor of the scores.
        log_q: Not used: nobody was drawn.
        collision: ``[batch, candidates]`` true where a candidate must not count. The positive's own column has to be
            among them, because the positive is in the sum already.

    Returns:
        ``[batch]`` nats.
    """
    return sampled_softmax(positive, negative, temperature=temperature, collision=collision)


def bilateral_softmax(
    positive: Tensor,
    negative: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    ratio: float = 1.0,
    log_q: Tensor | None = None,
    collision: Tensor | None = None,
) -> Tensor:
    """Softmax whose positive side has a temperature of its own, and without the positive in the sum.

    ``-s⁺/τ + ρ log mean_j exp(s_j/τ - log q_j)``, with ``ρ = τ⁺/τ⁻``, the ratio of the two temperatures.

    A row whose negatives all collide costs nothing and moves nothing: its positive alone would be pulled without end.

    Args:
        positive: ``[batch]`` scores.
        negative: ``[batch, drawn]`` scores.
        temperature: Positive divisor of the scores.
        ratio: ``ρ``; above 1 it tolerates noisy positives.
        log_q: ``[batch, drawn]``, or what broadcasts to it: the logarithm of how often a candidate is expected among
            the drawn, subtracted after the temperature. A constant shifts the loss and no gradient.
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]``; may be negative, since the positive is not part of the sum.

    Example:
        >>> import torch
        >>> bilateral_softmax(torch.ones(1), torch.zeros(1, 3), temperature=0.5).item()
        -2.0

    Reference: Wu et al., ICDE 2024 (arXiv 2312.12882), with one positive per row.
    """
    other = negative / temperature
    if log_q is not None:
        other = other - log_q
    counts = num_counting(other, collision)
    alone = counts == 0
    if collision is not None:  # a row alone keeps its numbers, for the gradient of a sum over nothing is not a number
        other = other.masked_fill(collision & ~alone[:, None], -torch.inf)
    spread = torch.logsumexp(other, dim=1) - counts.clamp(min=1).log()  # [batch] log of the mean
    return (ratio * spread - positive / temperature).masked_fill(alone, 0.0)


class SampledSoftmaxSpec(TemperedLossSpec):
    """The positive against drawn negatives; the usual choice for clicks and purchases."""

    corrects: ClassVar[bool] = True
    kind: Literal["sampled_softmax"] = "sampled_softmax"

    def build(self) -> RetrievalLoss:
        """The loss with its temperature; a module where the temperature is learned."""
        return self.tempered(sampled_softmax)


class SoftmaxSpec(TemperedLossSpec):
    """The positive against the whole catalogue; for catalogues that can be scored at every step."""

    negatives: ClassVar[Literal["drawn", "all", "none"]] = "all"
    kind: Literal["softmax"] = "softmax"

    def build(self) -> RetrievalLoss:
        """The loss with its temperature; a module where the temperature is learned."""
        return self.tempered(softmax)


class BilateralSoftmaxSpec(TemperedLossSpec):
    """Softmax with a second temperature for the positive; for positives that are noisy.

    A learned temperature falls as long as positives score above their negatives: often down to its bound, because no
    positive in the sum holds it.
    """

    corrects: ClassVar[bool] = True
    kind: Literal["bilateral_softmax"] = "bilateral_softmax"
    ratio: float = Field(1.1, gt=0.0)

    def refusal(self, similarity: str) -> str | None:
        """All matches but the cosine: the loss has no lower bound where scores have none."""
        return unless_cosine(
            similarity,
            "bilateral_softmax leaves the positive out of its sum, so once positives score well above negatives, longer "
            "vectors lower the loss without end.",
        )

    def build(self) -> RetrievalLoss:
        """The loss with its temperatures; a module where the temperature is learned."""
        return self.tempered(bilateral_softmax, ratio=self.ratio)
