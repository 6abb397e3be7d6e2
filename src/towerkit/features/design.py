"""The encoded columns as one sparse matrix, for models that want a matrix: baselines and stacking."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, hstack

from towerkit.data.batch import Bag, Column
from towerkit.data.splits import Rows
from towerkit.features.columns import CategoryFeature
from towerkit.features.encoded import Encoded
from towerkit.features.encoder import Fitted
from towerkit.features.ngrams import NgramsFeature


def design_matrix(encoded: Encoded, rows: Rows) -> csr_array:
    """Numbers with their missing flags, one column per category, one per n-gram bucket, of every entity.

    Args:
        encoded: The arrays.
        rows: Example rows.

    Returns:
        ``[rows, features]``.
    """
    blocks = []
    for entity, all_fitted in encoded.encoder.features.items():
        place = encoded.index[entity][rows]
        blocks += [_block(fitted, encoded.tables[entity][fitted.feature.name])[place] for fitted in all_fitted]
    return csr_array(hstack(blocks, format="csr"))


def _block(fitted: Fitted, column: Column) -> csr_array:
    feature = fitted.feature
    if isinstance(column, Bag):
        assert isinstance(feature, NgramsFeature)
        parts = (column.weights.numpy(), column.codes.numpy(), column.offsets.numpy())
        return csr_array(parts, shape=(len(column), feature.buckets))
    if isinstance(feature, CategoryFeature):
        codes = column.numpy()
        ones = (np.ones(len(codes), np.float32), codes, np.arange(len(codes) + 1))
        return csr_array(ones, shape=(len(codes), len(feature.vocabulary)))
    return csr_array(column.numpy())
