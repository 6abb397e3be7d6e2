"""Alignment and uniformity: a loss on the vectors themselves, without any negatives."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from towerkit.losses.base import RetrievalLoss, RetrievalLossSpec, unless_cosine


def directau(query: Tensor, candidate: Tensor, *, gamma: float = 1.0) -> Tensor:
    """Positive pairs near each other, each side spread over the sphere: ``||q - c||² + γ (u(Q) + u(C)) / 2``.

    The spread belongs to the batch and is the same for each row, so the mean over rows is the loss of the paper, and
    rows with weights weigh the alignment.

    A query or candidate that stands in several rows counts as several: a pair of equal vectors adds the most to the
    spread's sum and cannot be moved apart. With few repeats in a batch it does not matter.

    Args:
        query: ``[batch, dim]`` vectors of length one.
        candidate: ``[batch, dim]`` vectors of length one; row ``i`` is the positive of query ``i``.
        gamma: Weight of the spread.

    Returns:
        ``[batch]``.

    Example:
        >>> import torch
        >>> eye = torch.eye(2)
        >>> directau(eye, eye).tolist()  # aligned; two orthogonal vectors: log exp(-2 · 2)
        [-4.0, -4.0]

    Reference: Wang et al., KDD 2022 (arXiv 2206.12811).
    """
    alignment = (query - candidate).square().sum(dim=1)  # [batch]
    return alignment + gamma * 0.5 * (uniformity(query) + uniformity(candidate))


def uniformity(vectors: Tensor) -> Tensor:
    """How crowded vectors are: ``log mean exp(-2 ||x - y||²)`` over all pairs of two rows; 0 without a pair.

    Args:
        vectors: ``[rows, dim]``.

    Returns:
        ``[]``; 0 when all are one point, lower when spread.

    Reference: Wang and Isola, ICML 2020 (arXiv 2005.10242).
    """
    rows = len(vectors)
    if rows < 2:
        return vectors.new_zeros(())
    squares = vectors.square().sum(dim=1)  # [rows]
    distances = squares[:, None] + squares - 2.0 * vectors @ vectors.T  # [rows, rows] squared
    itself = torch.eye(rows, dtype=torch.bool, device=vectors.device)
    return torch.logsumexp((-2.0 * distances).masked_fill(itself, -torch.inf), dim=(0, 1)) - math.log(rows * (rows - 1))


class DirectAUSpec(RetrievalLossSpec):
    """Alignment and uniformity: no negatives to draw, only the pairs of a batch."""

    reads: ClassVar[Literal["scores", "vectors"]] = "vectors"
    negatives: ClassVar[Literal["drawn", "all", "none"]] = "none"
    kind: Literal["directau"] = "directau"
    gamma: float = Field(1.0, gt=0.0)

    def refusal(self, similarity: str) -> str | None:
        """All matches but the cosine, which alone hands in vectors of length one."""
        reason = "directau spreads vectors of length one over the sphere; vectors of any length would drift apart without end."
        return unless_cosine(similarity, reason)

    def build(self) -> RetrievalLoss:
        """The loss with its weight."""
        return partial(directau, gamma=self.gamma)
