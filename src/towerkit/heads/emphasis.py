"""Which rows and classes a loss of classes listens to: class weights, focal loss, label smoothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.errors import DataError, listed, nearest
from towerkit.features.labels import Labels

_CERTAIN = 1e-6
"""Beyond so sure an answer the slope of a focal loss is taken from here: a power below one has none at the end."""


def _as_in_the_data(weights: Any) -> Any:
    """YAML reads 1 as a number and yes as true; in the data they are compared as text."""
    if isinstance(weights, Mapping):
        return {str(name).lower() if isinstance(name, bool) else str(name): each for name, each in weights.items()}
    return weights


class Emphasis(nn.Module):
    """A loss of classes that listens to some more than to others.

    Args:
        weights: ``[classes]`` of each class; of several labels per row, of the rows that have each label. None: all alike.
        focal: ``(1 - p)^focal`` multiplies the loss of a row whose class got the probability ``p``.
        smoothing: Share of each label that is spread evenly over the classes.

    References: focal: Lin et al., ICCV 2017 (arXiv 1708.02002); smoothing: Szegedy et al., CVPR 2016 (arXiv 1512.00567).
    """

    def __init__(self, weights: Tensor | None, *, focal: float | None, smoothing: float) -> None:
        super().__init__()
        self.focal, self.smoothing = focal, smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)  # it follows from the labels

    def of_classes(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """The loss of one class per row.

        Args:
            log_probabilities: ``[batch, classes]``.
            labels: ``[batch]`` class codes.

        Returns:
            ``[batch]``.
        """
        chosen = log_probabilities.gather(1, labels[:, None])[:, 0]  # [batch] log p
        spread = log_probabilities.mean(dim=1) if self.smoothing else 0.0
        losses = -((1.0 - self.smoothing) * chosen + self.smoothing * spread) * self._open(chosen)
        return losses if self.weights is None else losses * self.weights[labels].to(losses.dtype)

    def of_coins(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of several labels per row, each a coin of its own; the sum over the labels.

        Args:
            logits: ``[batch, labels]`` log-odds.
            labels: ``[batch, labels]`` 0 or 1.

        Returns:
            ``[batch]``.
        """
        truth = labels.to(logits.dtype)
        target = (1.0 - self.smoothing) * truth + 0.5 * self.smoothing
        losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        chosen = -functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")  # log p
        losses = losses * self._open(chosen)
        if self.weights is not None:
            losses = torch.where(labels > 0, losses * self.weights.to(losses.dtype), losses)
        return losses.sum(dim=1)

    def _open(self, log_probabilities: Tensor) -> Tensor | float:
        """How far from certain an answer is, as the focal loss counts it."""
        if self.focal is None:
            return 1.0
        return (-torch.expm1(log_probabilities)).clamp(min=_CERTAIN) ** self.focal


AnyClassWeights = Literal["balanced"] | dict[str, float]
NamedAsInTheData = BeforeValidator(_as_in_the_data)


def weights_of(given: AnyClassWeights | None, labels: Labels) -> Tensor | None:
    """The weight of each class.

    Args:
        given: ``balanced``: as if all classes were equally frequent, the mean weight of the training rows being one; of several
            labels per row, as if each stood in half of them. Or class -> weight; a class that is not named weighs one.
        labels: What was found among the training labels.

    Returns:
        ``[classes]``.

    Raises:
        DataError: If a weight is for a class that is not there, or all are 0.
    """
    if given is None:
        return None
    if given == "balanced":
        shares = torch.tensor(labels.frequencies, dtype=torch.float64)
        wanted = (1.0 - shares) / shares if labels.kind == "multilabel" else 1.0 / (len(shares) * shares)
        return torch.where(shares > 0, wanted, torch.ones_like(shares)).float()
    column, known = f"class_weights of the column '{labels.column}'", listed(labels.classes)
    for name in given:
        if name not in labels.classes:
            raise DataError(
                f"{column} name '{name}', which is no class{nearest(name, labels.classes) or '.'} Those of the training rows are "
                f"{known}. Write them as in the data."
            )
    found = torch.tensor([given.get(name, 1.0) for name in labels.classes])
    if not found.any():
        raise DataError(
            f"{column} are 0 for all of its classes ({known}), so nothing would be learned. Give one of them a weight; to leave a "
            "task out, remove its head."
        )
    return found
