"""The parts of a table tower: modules that each turn one encoded column into some numbers per row.

What a part says of a value that it never met in training begins at nothing, so that no noise answers for it: rows of
unknown and missing values, and of hash buckets, are zero; the weights of missing flags are set to zero by the tower.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from towerkit.data.batch import Bag, Columns, dense
from towerkit.features.quantiles import piecewise_linear
from towerkit.towers.layers import bag_sums


class ColumnPart(nn.Module):
    """One encoded column to ``[rows, out_dim]``."""

    out_dim: int
    has_flag: bool = False
    """The last of its numbers says that the value is missing."""

    def __init__(self, feature: str, out_dim: int) -> None:
        super().__init__()
        self.feature, self.out_dim = feature, out_dim

    def forward(self, columns: Columns) -> Tensor:
        """Read the column.

        Args:
            columns: Encoded columns of some rows.

        Returns:
            ``[rows, out_dim]``.
        """
        raise NotImplementedError


class FlaggedPart(ColumnPart):
    """Numbers as they are, the last of them a missing flag.

    Args:
        feature: Key of the ``[rows, out_dim]`` column.
        out_dim: Width of the column.
    """

    has_flag = True

    def forward(self, columns: Columns) -> Tensor:
        """The column itself."""
        return dense(columns, self.feature)


class EmbeddedPart(ColumnPart):
    """A learned vector per code.

    Args:
        feature: Key of the ``[rows]`` column of codes.
        num_codes: Rows of the table; row 0, of what cannot be known, begins at zero.
        out_dim: Width of the vectors.
        from_nothing: All rows begin at zero. For hashes: a value never seen may land in a bucket never trained.
        sparse_rows: Give sparse gradients.
    """

    def __init__(
        self, feature: str, num_codes: int, out_dim: int, *, from_nothing: bool = False, sparse_rows: bool = False
    ) -> None:
        super().__init__(feature, out_dim)
        self.table = nn.Embedding(num_codes, out_dim, sparse=sparse_rows)
        with torch.no_grad():
            self.table.weight[: num_codes if from_nothing else 1] = 0.0

    def forward(self, columns: Columns) -> Tensor:
        """Look the codes up."""
        return self.table(dense(columns, self.feature))  # [rows, out_dim]


class BagPart(ColumnPart):
    """The mean or the sum of the vectors of a row's codes; a learned vector, at first zero, where there is none.

    Args:
        feature: Key of the bag column.
        num_codes: Rows of the table.
        out_dim: Width of the vectors.
        mean: Take the mean and not the sum.
        sparse_rows: Give sparse gradients.
    """

    def __init__(self, feature: str, num_codes: int, out_dim: int, *, mean: bool, sparse_rows: bool = False) -> None:
        super().__init__(feature, out_dim)
        self.mean, self.sparse_rows = mean, sparse_rows
        self.table = nn.Parameter(torch.randn(num_codes, out_dim))
        self.absent = nn.Parameter(torch.zeros(out_dim))

    def forward(self, columns: Columns) -> Tensor:
        """Pool, or the absent vector."""
        bag = columns[self.feature]
        assert isinstance(bag, Bag)
        pooled = bag_sums(bag, self.table, sparse=self.sparse_rows)  # [rows, out_dim]
        if self.mean:
            counts = bag.offsets[1:] - bag.offsets[:-1]
            pooled = pooled / counts.clamp(min=1)[:, None]
        return torch.where(bag.is_empty[:, None], self.absent, pooled)


class NumberEmbedding(ColumnPart):
    """A number as a vector: an encoding, a linear layer, ReLU; a learned vector, at first zero, where it is missing.

    Args:
        feature: Key of the ``[rows, 2]`` column: a number, and 1 where it is missing.
        width: Of the encoding.
        out_dim: Width of the vectors.

    Reference: Gorishniy, Rubachev and Babenko, NeurIPS 2022 (arXiv 2203.05556), "LR".
    """

    def __init__(self, feature: str, width: int, out_dim: int) -> None:
        super().__init__(feature, out_dim)
        self.linear = nn.Linear(width, out_dim)
        self.absent = nn.Parameter(torch.zeros(out_dim))

    def encoding(self, numbers: Tensor) -> Tensor:
        """``[rows]`` numbers to ``[rows, width]``."""
        raise NotImplementedError

    def forward(self, columns: Columns) -> Tensor:
        """Encode and transform."""
        numbers, missing = dense(columns, self.feature).unbind(dim=1)  # [rows] each
        present = torch.relu(self.linear(self.encoding(numbers)))
        return torch.where(missing[:, None] > 0, self.absent, present)  # [rows, out_dim]


class PiecewisePart(NumberEmbedding):
    """The piecewise-linear encoding of a position along quantile bins.

    Args:
        feature: Key of the ``[rows, 2]`` column of positions.
        num_bins: How many bins.
        out_dim: Width of the vectors.
    """

    def __init__(self, feature: str, num_bins: int, out_dim: int) -> None:
        super().__init__(feature, num_bins, out_dim)
        self.num_bins = num_bins

    def encoding(self, numbers: Tensor) -> Tensor:
        """``[rows, bins]``, see :func:`towerkit.features.quantiles.piecewise_linear`."""
        return piecewise_linear(numbers, self.num_bins)


class PeriodicPart(NumberEmbedding):
    """Sines and cosines of a standardised number at learned frequencies.

    Args:
        feature: Key of the ``[rows, 2]`` number column.
        num_frequencies: How many frequencies.
        sigma: Deviation of the frequencies at the start, in turns per deviation of the column.
        out_dim: Width of the vectors.
    """

    def __init__(self, feature: str, num_frequencies: int, sigma: float, out_dim: int) -> None:
        super().__init__(feature, 2 * num_frequencies, out_dim)
        self.frequencies = nn.Parameter(torch.randn(num_frequencies) * sigma)

    def encoding(self, numbers: Tensor) -> Tensor:
        """``[rows, 2 * frequencies]``."""
        angles = 2.0 * math.pi * numbers[:, None] * self.frequencies  # [rows, frequencies]
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def category_dim(num_codes: int) -> int:
    """Width of a category's embedding: about the fourth root of its size, times four, within [2, 64]."""
    return int(min(64, max(2, round(4 * num_codes**0.25))))
