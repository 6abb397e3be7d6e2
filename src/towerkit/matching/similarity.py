"""Similarity of a query vector and a candidate vector."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from towerkit.core.spec import Spec

SimilarityName = Literal["dot", "cosine", "euclidean"]


class Match:
    """Two vectors to a score: dot product, cosine, or negative squared Euclidean distance.

    Args:
        similarity: Which of the three.
    """

    def __init__(self, similarity: SimilarityName) -> None:
        self.similarity: SimilarityName = similarity

    def prepare(self, vectors: Tensor) -> Tensor:
        """The vectors as the match sees them: of length one under cosine, unchanged otherwise."""
        return functional.normalize(vectors, dim=-1) if self.similarity == "cosine" else vectors

    def pairs(self, query: Tensor, candidate: Tensor) -> Tensor:
        """Score of each query with its own candidate.

        Args:
            query: ``[batch, dim]`` prepared vectors.
            candidate: ``[batch, dim]`` prepared vectors.

        Returns:
            ``[batch]``.
        """
        if self.similarity == "euclidean":
            return -(query - candidate).square().sum(dim=-1)
        return torch.einsum("bd,bd->b", query, candidate)

    def drawn(self, query: Tensor, candidates: Tensor, index: Tensor) -> Tensor:
        """Score of each query with the candidates drawn for it.

        Args:
            query: ``[batch, dim]`` prepared vectors.
            candidates: ``[rows, dim]`` prepared vectors of the batch's distinct candidates.
            index: ``[batch, drawn]`` positions among them.

        Returns:
            ``[batch, drawn]``.
        """
        own = functional.embedding(index, candidates)  # [batch, drawn, dim]
        if self.similarity == "euclidean":
            return -(query[:, None] - own).square().sum(dim=-1)
        return torch.einsum("bd,bnd->bn", query, own)

    def every(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Score of each query with every candidate, as one matrix product.

        Args:
            query: ``[batch, dim]`` prepared vectors.
            candidates: ``[n, dim]`` prepared vectors.

        Returns:
            ``[batch, n]``.
        """
        product = query @ candidates.T
        if self.similarity != "euclidean":
            return product
        squares = query.square().sum(dim=1, keepdim=True) + candidates.square().sum(dim=1)  # [batch, n]
        return (2.0 * product - squares).clamp(max=0.0)


class DotSpec(Spec):
    """The dot product: length carries popularity and certainty."""

    kind: Literal["dot"] = "dot"


class CosineSpec(Spec):
    """The cosine: only the direction counts; wants a small temperature in the loss."""

    kind: Literal["cosine"] = "cosine"


class EuclideanSpec(Spec):
    """The negative squared distance."""

    kind: Literal["euclidean"] = "euclidean"


AnyMatchSpec = Annotated[DotSpec | CosineSpec | EuclideanSpec, Field(discriminator="kind")]
"""The menu of matches."""
