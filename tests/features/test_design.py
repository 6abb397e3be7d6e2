"""The encoded columns as one sparse matrix.

Invariants:
- it equals the columns side by side: numbers with their flags, one column per category, one per bucket;
- rows follow the example rows, repeated ones too; an entity's columns stand beside each of its examples.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from towerkit.core.spec import parse
from towerkit.data.dataset import make_dataset
from towerkit.data.roles import EXAMPLE, EntityTable
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.columns import CategorySpec, NumberSpec
from towerkit.features.cyclic import CyclicSpec
from towerkit.features.design import design_matrix
from towerkit.features.encoded import encode
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.hashed import HashedSpec
from towerkit.features.multi_hot import MultiHotSpec
from towerkit.features.ngrams import NgramsSpec, hashed_ngrams
from towerkit.features.quantiles import PiecewiseSpec, QuantileSpec


def test_it_is_the_columns_side_by_side() -> None:
    spec = parse(DataSpec, {"examples": {"path": "p"}, "split": {"kind": "random", "validation": 0.0, "test": 0.0}})
    columns = {"n": [1.0, None, 3.0], "text": ["wool", None, "soft wool"], "shop": ["s1", "s2", "s1"]}
    shops = EntityTable("shop", "shop", Table(pa.table({"shop": ["s1", "s2"], "city": ["x", "y"]}), "shops"))
    dataset = make_dataset(spec, Table(pa.table(columns), "p"), entities={"shop": shops})
    demand = Demand()
    demand.add(EXAMPLE, [NumberSpec(column="n"), NgramsSpec(columns=("text",), buckets=8, longest=1)])
    demand.add("shop", [CategorySpec(column="city", min_count=1)])
    encoded = encode(Encoder.fit(demand, dataset, np.arange(3)), dataset)
    found = design_matrix(encoded, np.array([2, 0, 1, 2])).toarray()
    assert found.shape == (4, 2 + 8 + 3)
    assert found[:, :2].tolist() == [[1, 0], [-1, 0], [0, 1], [1, 0]]
    buckets = np.zeros((3, 8))
    for row, text in enumerate(columns["text"]):
        buckets[row, hashed_ngrams((text,), 8, 1)] = 1
    np.testing.assert_array_equal(found[:, 2:10] > 0, buckets[[2, 0, 1, 2]] > 0)
    assert found[:, 10:].tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_every_kind_has_plain_columns() -> None:
    spec = parse(DataSpec, {"examples": {"path": "p"}, "split": {"kind": "random", "validation": 0.0, "test": 0.0}})
    columns = {"n": [0.0, 2.0, 4.0, None], "g": ["a|b", "", "b", None], "t": [0, 43200, None, 0]}
    dataset = make_dataset(spec, Table(pa.table(columns), "p"))
    demand = Demand()
    demand.add(
        EXAMPLE,
        [
            PiecewiseSpec(column="n", bins=2),
            QuantileSpec(column="n", buckets=2),
            MultiHotSpec(column="g", min_count=1),
            CyclicSpec(column="t", periods=("day",)),
            HashedSpec(columns=("n", "g"), buckets=3),
        ],
    )
    encoded = encode(Encoder.fit(demand, dataset, np.arange(4)), dataset)
    found = design_matrix(encoded, np.arange(4)).toarray()
    piecewise, quantile, members, circle, cross = np.split(found, np.cumsum([3, 3, 3, 3]), axis=1)
    assert piecewise.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert quantile.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    assert members.tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(circle, [[0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 1, 0]], atol=1e-6)
    assert cross.shape == (4, 4) and cross.sum(axis=1).tolist() == [1.0] * 4
    assert cross[3].tolist() == [1, 0, 0, 0]  # a part is missing
