"""What the retrieval losses share: how they are called, what they say of themselves, and the mean over what counts.

A *score loss* is called as ``loss(positive, negative, log_q=…, collision=…)``, a *vector loss* as ``loss(query,
candidate)``; both give one value per row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor

from towerkit.core.spec import Spec

RetrievalLoss: TypeAlias = Callable[..., Tensor]


class RetrievalLossSpec(Spec):
    """A retrieval loss: what it reads, whom it compares with, and which matches make no sense with it."""

    reads: ClassVar[Literal["scores", "vectors"]] = "scores"
    """Scores of positives and negatives, or the vectors of the two sides."""
    negatives: ClassVar[Literal["drawn", "all", "none"]] = "drawn"
    """Candidates drawn by the negatives, the whole catalogue, or nobody."""
    corrects: ClassVar[bool] = False
    """Whether ``log_q``, how often each negative was expected to be drawn, changes anything."""

    def refusal(self, similarity: str) -> str | None:
        """Why the loss is ill-posed with a match, or None where it is not.

        Args:
            similarity: The match's kind: ``dot``, ``cosine`` or ``euclidean``.
        """
        return None

    def build(self) -> RetrievalLoss:
        """The loss with its settings; an ``nn.Module`` where it has something to learn."""
        raise NotImplementedError


def unless_cosine(similarity: str, reason: str) -> str | None:
    """A refusal of every match but the cosine: the reason, what was received, the next step."""
    if similarity == "cosine":
        return None
    return f"{reason} The match is {similarity}. Set model.match.kind=cosine, or choose another loss."


def num_counting(negative: Tensor, collision: Tensor | None) -> Tensor:
    """``[batch]`` how many negatives of each row count, as a float."""
    if collision is None:
        return negative.new_full((len(negative),), float(negative.shape[1]))
    return (~collision).sum(dim=1).to(negative.dtype)


def mean_counting(losses: Tensor, collision: Tensor | None) -> Tensor:
    """The mean over the negatives that count, zero where none does.

    Args:
        losses: ``[batch, drawn]``.
        collision: ``[batch, drawn]`` true where a negative must not count.

    Returns:
        ``[batch]``.

    Example:
        >>> import torch
        >>> mean_counting(torch.tensor([[1.0, 5.0], [2.0, 3.0]]), torch.tensor([[False, True], [True, True]]))
        tensor([1., 0.])
    """
    counts = num_counting(losses, collision).clamp(min=1)
    kept = losses if collision is None else losses.masked_fill(collision, 0.0)
    return kept.sum(dim=1) / counts
