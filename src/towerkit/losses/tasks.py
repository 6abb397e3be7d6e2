"""Losses of prediction tasks: what a head gives and labels in, one loss per row out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of a coin with the given log-odds.

    Args:
        logits: ``[batch, 1]`` log-odds of the positive class.
        labels: ``[batch]`` 0 or 1.

    Returns:
        ``[batch]`` nats.
    """
    return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype), reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the softmax.

    Args:
        logits: ``[batch, classes]``.
        labels: ``[batch]`` class codes.

    Returns:
        ``[batch]`` nats.
    """
    return functional.cross_entropy(logits, labels, reduction="none")


def ordinal_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of an ordered class under the proportional-odds model.

    ``P(y > c) = sigmoid(logits[:, c])``, so the classes' probabilities are differences of neighbors.

    Args:
        logits: ``[batch, classes - 1]`` log-odds of lying above each class but the last; not increasing along a row.
        labels: ``[batch]`` class codes.

    Returns:
        ``[batch]`` nats.

    Reference: McCullagh, Regression Models for Ordinal Data, 1980.
    """
    return -ordinal_log_probabilities(logits).gather(1, labels[:, None])[:, 0]


def ordinal_log_probabilities(logits: Tensor) -> Tensor:
    """Log-probability of each class from the log-odds of lying above it.

    ``log(sigmoid(a) - sigmoid(b)) = logsigmoid(a) + logsigmoid(-b) + log(1 - exp(b - a))`` for ``a > b``.

    Args:
        logits: ``[batch, classes - 1]``, decreasing along a row.

    Returns:
        ``[batch, classes]``.

    Example:
        >>> import torch
        >>> ordinal_log_probabilities(torch.tensor([[1.0, -1.0]])).exp().sum().item()
        1.0
    """
    above, below = functional.logsigmoid(logits), functional.logsigmoid(-logits)  # log P(y > c), log P(y <= c)
    gap = torch.clamp(logits[:, :-1] - logits[:, 1:], min=1e-6)
    middle = above[:, :-1] + below[:, 1:] + torch.log(-torch.expm1(-gap))
    return torch.cat([below[:, :1], middle, above[:, -1:]], dim=1)


def multilabel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of independent coins, one per label: the sum over the labels.

    Args:
        logits: ``[batch, labels]`` log-odds of having each label.
        labels: ``[batch, labels]`` 0 or 1.

    Returns:
        ``[batch]`` nats.
    """
    coins = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return coins.sum(dim=1)


def half_squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """``(predicted - target)^2 / 2``: up to a constant, minus the log-likelihood of a normal of variance one.

    So ``exp(-s) loss + s / 2`` with a learned ``s`` is that of a normal of variance ``exp(s)``, as for the other tasks.

    Args:
        predicted: ``[batch, 1]``.
        target: ``[batch]``.

    Returns:
        ``[batch]`` nats.
    """
    return 0.5 * (predicted[:, 0] - target).square()


def half_deviance(log_rates: Tensor, counts: Tensor) -> Tensor:
    """``y log(y / r) - y + r`` of a count ``y`` and a rate ``r``: up to a constant, minus the log-likelihood of a Poisson.

    Args:
        log_rates: ``[batch, 1]``.
        counts: ``[batch]``.

    Returns:
        ``[batch]`` nats, 0 where the rate is the count.

    Example:
        >>> import torch
        >>> half_deviance(torch.zeros(2, 1), torch.tensor([1.0, 0.0])).tolist()
        [0.0, 1.0]
    """
    logs = log_rates[:, 0]
    return torch.exp(logs) - counts * logs + torch.xlogy(counts, counts) - counts


def huber(predicted: Tensor, target: Tensor) -> Tensor:
    """Half the squared error up to an error of one, beyond it the error less a half: outliers pull no harder.

    Args:
        predicted: ``[batch, 1]``.
        target: ``[batch]``.

    Returns:
        ``[batch]``.

    Example:
        >>> import torch
        >>> huber(torch.tensor([[0.5], [3.0]]), torch.zeros(2)).tolist()
        [0.125, 2.5]

    Reference: Huber, Robust Estimation of a Location Parameter, 1964.
    """
    return functional.huber_loss(predicted[:, 0], target, reduction="none")
