"""Where the vectors of words can begin: latent semantic analysis of the texts, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from towerkit.data.batch import Bag
from towerkit.towers.decomposition import truncated_svd

_SPREAD = 0.1
"""Mean square root of a text's sum, where the tower's tanh is nearly a straight line."""


def word_directions(texts: Bag, num_buckets: int, dim: int) -> Tensor:
    """A vector per n-gram: what tells texts apart, learned from the texts alone.

    With ``d`` of ``N`` texts holding an n-gram, its weight is ``ln(1 + (N - d + 0.5) / (d + 0.5))``. Texts are weighed so and
    given the length 1; ``V`` are their ``dim`` strongest right singular vectors. The vector of an n-gram is its weight times its
    row of ``V``, so that the sum over a text is the text in that space. All have one scale; one in no text is zeros.

    Args:
        texts: ``[texts]`` n-grams of the rows that training has.
        num_buckets: Rows of the table.
        dim: Width; directions beyond the rank of the texts are zeros.

    Returns:
        ``[num_buckets, dim]`` float32.

    Reference: Deerwester et al., Indexing by latent semantic analysis, JASIS 1990.
    """
    codes, starts = texts.codes.numpy(), texts.offsets.numpy()
    table = np.zeros((num_buckets, dim), np.float32)
    used, columns = np.unique(codes, return_inverse=True)
    if not len(used):
        return torch.from_numpy(table)
    having = np.bincount(columns)  # [used] texts with this n-gram: each stands once in a text
    num_texts = int((np.diff(starts) > 0).sum())
    weight = np.log1p((num_texts - having + 0.5) / (having + 0.5))
    shape = (len(starts) - 1, len(used))
    counts = csr_array((texts.weights.numpy().astype(np.float64) * weight[columns], columns, starts), shape=shape)
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    owner = np.repeat(np.arange(shape[0]), np.diff(starts))
    directions = truncated_svd(csr_array((counts.data / lengths[owner], columns, starts), shape=shape), dim)[2]
    spread = np.sqrt(np.square(counts @ directions).mean())
    table[used, : directions.shape[1]] = directions * weight[:, None] * (_SPREAD / max(spread, 1e-12))
    return torch.from_numpy(table)
