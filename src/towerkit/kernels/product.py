"""The matrix product behind scores, by the faster of two libraries that PyTorch brings."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def product(queries: Tensor, candidates: Tensor) -> Tensor:
    """Float32 ``queries @ candidates.T``, by oneDNN where PyTorch was built with it.

    ``torch.mm`` takes MKL for float32, which runs at half of what an AMD processor can do; oneDNN does not. Its accuracy is the
    same. A sum's order of terms, and so its rounding, does not depend on how many rows of queries there are, as long as they are
    a multiple of 16.

    Args:
        queries: ``[n, dim]``.
        candidates: ``[candidates, dim]``.

    Returns:
        ``[n, candidates]``.

    Example:
        >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])).tolist()
        [[11.0, 17.0]]
    """
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what compiled models call for a linear layer
    if linear is None or 0 in (*queries.shape, *candidates.shape):
        return queries @ candidates.T
    return cast("Tensor", linear(queries, candidates, None, "none", [], ""))
