"""The encoded columns as one sparse matrix, for models that want a matrix: baselines and stacking."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array, hstack
from torch import Tensor
from torch.nn import functional

from towerkit.data.batch import Bag, Column, Stored
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.data.table import Table
from towerkit.features.base import CodedFeature, Feature
from towerkit.features.encoded import Encoded
from towerkit.features.encoder import Encoder
from towerkit.features.ngrams import NgramsFeature
from towerkit.features.quantiles import PiecewiseFeature, piecewise_linear

_GRID = (4, 4)
_READ_AT_ONCE = 1024


def design_matrix(encoded: Encoded, rows: Rows) -> csr_array:
    """The columns of every entity side by side.

    Numbers and circles of time stand as they are with their missing flags, piecewise-linear numbers as one column per
    bin and a flag, everything with codes (categories, buckets, members, n-grams) as one column per code, pictures and
    sounds as the means of a coarse grid with a flag.

    Args:
        encoded: The arrays.
        rows: Example rows.

    Returns:
        ``[rows, features]``.
    """
    blocks = []
    for entity, all_fitted in encoded.encoder.features.items():
        place = encoded.index[entity][rows]
        blocks += [_block(each.feature, encoded.tables[entity][each.feature.name])[place] for each in all_fitted]
    return csr_array(hstack(blocks, format="csr"))


def table_matrix(encoder: Encoder, table: Table) -> csr_array:
    """Raw example rows as :func:`design_matrix` has them.

    Args:
        encoder: Fitted; features of other entities are left out.
        table: The rows.

    Returns:
        ``[rows, features]``.
    """
    columns = encoder.encode(EXAMPLE, table)
    blocks = [_block(each.feature, columns[each.feature.name])[1:] for each in encoder.features[EXAMPLE]]
    return csr_array(hstack(blocks, format="csr"))


def _block(feature: Feature, column: Column) -> csr_array:
    if isinstance(column, Bag):
        parts = (column.weights.numpy(), column.codes.numpy(), column.offsets.numpy())
        return csr_array(parts, shape=(len(column), _num_codes(feature)))
    if isinstance(column, Stored):
        return csr_array(coarse(column).numpy())
    if isinstance(feature, CodedFeature):
        codes = column.numpy()
        ones = (np.ones(len(codes), np.float32), codes, np.arange(len(codes) + 1))
        return csr_array(ones, shape=(len(codes), feature.num_codes))
    return _piecewise(feature, column) if isinstance(feature, PiecewiseFeature) else csr_array(column.float().numpy())


def coarse(column: Stored) -> Tensor:
    """Pictures and sounds as a few numbers: the mean of each cell of a grid, of a byte between 0 and 1, and a missing flag.

    Args:
        column: Of rows ``[channels, height, width]``.

    Returns:
        ``[rows, channels * 16 + 1]``; all zeros but the flag where there is nothing.
    """
    parts = []
    for rows in torch.arange(len(column)).split(_READ_AT_ONCE):
        present = rows[~column.is_empty[rows]]
        content = column.read(present)
        means = functional.adaptive_avg_pool2d(content.float(), _GRID).flatten(1)  # [present, channels * 16]
        scaled = means / 255.0 if content.dtype == torch.uint8 else means
        part = torch.zeros(len(rows), scaled.shape[1] + 1)
        part[:, -1] = 1.0
        part[present - rows[0]] = functional.pad(scaled, (0, 1))
        parts.append(part)
    return torch.cat(parts)


def _num_codes(feature: Feature) -> int:
    if isinstance(feature, NgramsFeature):
        return feature.buckets
    assert isinstance(feature, CodedFeature)
    return feature.num_codes


def _piecewise(feature: PiecewiseFeature, column: Tensor) -> csr_array:
    position, missing = column.unbind(dim=1)
    encoded = piecewise_linear(position, feature.num_bins) * (1.0 - missing)[:, None]  # [rows, bins]
    return csr_array(hstack([csr_array(encoded.numpy()), csr_array(missing[:, None].numpy())], format="csr"))
