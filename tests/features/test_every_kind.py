"""What every kind of feature of a table keeps, whatever the column holds.

Invariants:
- rebuilt from its state as JSON and Arrow, a feature encodes alike and has the same name;
- a row is encoded alike alone, in another order, in other chunks, and as a column of another Arrow type that is equal;
- what it gives is finite, and its codes lie in ``[0, num_codes)``; missing, all-missing and single rows are encoded;
- a row outside the fitted ones changes nothing that is stored;
- an infinity, where numbers are read, is refused with its row; a missing column is refused with those there;
- the design matrix has a row per row, and two features with different settings never share a name;
- a sample can be read by every other feature of the same column.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.core.spec import parse
from towerkit.data.batch import Bag, Column
from towerkit.data.dataset import make_dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.spec import DataSpec
from towerkit.data.table import Table
from towerkit.features.base import CodedFeature, Feature, FeatureSpec, State
from towerkit.features.columns import CategorySpec, NumberSpec
from towerkit.features.cyclic import CyclicSpec
from towerkit.features.design import _block
from towerkit.features.encoder import Demand, Encoder
from towerkit.features.hashed import HashedSpec
from towerkit.features.multi_hot import MultiHotSpec
from towerkit.features.quantiles import PiecewiseSpec, QuantileSpec

NUMBERS: dict[str, FeatureSpec] = {
    "standard": NumberSpec(column="x"),
    "log": NumberSpec(column="x", scale="log"),
    "quantile": QuantileSpec(column="x", buckets=4),
    "piecewise": PiecewiseSpec(column="x", bins=4),
}
VALUES: dict[str, FeatureSpec] = {
    "category": CategorySpec(column="x", min_count=1),
    "hashed": HashedSpec(columns=("x",), buckets=97),
    "cross": HashedSpec(columns=("x", "y"), buckets=97),
    "multi_hot": MultiHotSpec(column="x", min_count=1),
}
TIMES: dict[str, FeatureSpec] = {"cyclic": CyclicSpec(column="x", periods=("hour", "day", "week", "month", "year"))}
KINDS = NUMBERS | VALUES | TIMES

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["", "a", "b", "a|b", "b| a||", "毛|é", "\x00"]))
SECONDS = st.one_of(st.integers(-62_135_596_800, 253_402_300_799), st.floats(0.0, 2e9))


def column_of(kind: str) -> st.SearchStrategy[pa.Array]:
    """Columns a kind can read: some missing, some constant, some with nothing at all."""
    values: st.SearchStrategy[Any] = FINITE if kind in NUMBERS else SECONDS if kind in TIMES else TEXTS
    type_ = pa.string() if kind in VALUES else pa.float64()
    some = st.lists(st.one_of(st.none(), values), min_size=1, max_size=12)
    constant = st.builds(lambda value, count: [value] * count, values, st.integers(1, 5))
    nothing = st.integers(1, 4).map(lambda count: [None] * count)
    return st.one_of(some, constant, nothing).map(lambda found: pa.array(found, type_))


def table(values: pa.Array) -> pa.Table:
    return pa.table({"x": values, "y": pa.array(["left", None, "right"] * len(values))[: len(values)]})


def restored(spec: FeatureSpec, feature: Feature) -> Feature:
    state = feature.state()
    return spec.restore(State(json.loads(json.dumps(dict(state.values), allow_nan=False)), state.vocabulary))


def rows_of(column: Column) -> list[Any]:
    """Each row by itself, to be compared."""
    if not isinstance(column, Bag):
        return column.tolist()
    ends = column.offsets.tolist()
    return [column.codes[start:end].tolist() for start, end in pairwise(ends)]


kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_feature_rebuilt_from_its_state_encodes_alike(kind: str, data: st.DataObject) -> None:
    fitted, asked = table(data.draw(column_of(kind))), table(data.draw(column_of(kind)))
    feature = KINDS[kind].fit(fitted)
    again = restored(KINDS[kind], feature)
    assert again.name == feature.name
    for rows in (fitted, asked, asked.slice(0, 0)):
        assert rows_of(again.encode(rows)) == rows_of(feature.encode(rows))
        assert len(rows_of(feature.encode(rows))) == rows.num_rows


@kinds
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_row_does_not_depend_on_its_company(kind: str, data: st.DataObject) -> None:
    feature = KINDS[kind].fit(table(data.draw(column_of(kind))))
    asked = table(data.draw(column_of(kind)))
    together = rows_of(feature.encode(asked))
    assert [rows_of(feature.encode(asked.slice(row, 1)))[0] for row in range(asked.num_rows)] == together
    order = data.draw(st.permutations(range(asked.num_rows)))
    assert rows_of(feature.encode(asked.take(order))) == [together[row] for row in order]
    cut = data.draw(st.integers(0, asked.num_rows))
    chunked = pa.concat_tables([asked.slice(0, cut), asked.slice(cut)])
    assert rows_of(feature.encode(chunked)) == together


@kinds
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_it_gives_is_small_and_finite(kind: str, data: st.DataObject) -> None:
    fitted, asked = table(data.draw(column_of(kind))), table(data.draw(column_of(kind)))
    feature = KINDS[kind].fit(fitted)
    for rows in (fitted, asked):
        column = feature.encode(rows)
        if isinstance(feature, CodedFeature):
            codes = column.codes if isinstance(column, Bag) else column
            assert isinstance(codes, torch.Tensor) and codes.dtype == torch.int64
            assert bool(((codes >= 0) & (codes < feature.num_codes)).all())
        else:
            assert isinstance(column, torch.Tensor) and column.dtype == torch.float32
            assert bool(column.isfinite().all()) and bool((column.abs() <= 15.0).all())
            missing = rows.column("x").is_null().to_numpy()
            np.testing.assert_array_equal(column[:, -1].numpy(), missing)
            assert not column[:, :-1][torch.from_numpy(missing)].any()
        design = _block(feature, column)
        assert design.shape[0] == rows.num_rows
        assert np.isfinite(design.toarray()).all()


@kinds
def test_a_column_of_nothing_is_all_missing(kind: str) -> None:
    feature = KINDS[kind].fit(table(pa.array(["1", "2", "2"] if kind in VALUES else [1.0, 2.0, 2.0])))
    nothing = feature.encode(pa.table({"x": pa.nulls(3), "y": pa.nulls(3)}))
    assert rows_of(nothing) == rows_of(feature.encode(pa.table({"x": [None], "y": ["left"]}))) * 3
    if isinstance(nothing, Bag):
        assert bool(nothing.is_empty.all())
    elif isinstance(feature, CodedFeature):
        assert nothing.tolist() == [0, 0, 0]


@kinds
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_rows_that_are_not_learned_from_change_nothing_stored(kind: str, data: st.DataObject) -> None:
    learned, held_out, other = (data.draw(column_of(kind)) for _ in range(3))
    spec = parse(DataSpec, {"examples": {"path": "p"}, "split": {"kind": "random", "validation": 0.0, "test": 0.0}})
    stored = []
    for beside in (held_out, other, learned.slice(0, 0)):
        dataset = make_dataset(spec, Table(table(pa.concat_arrays([learned, beside])), "p"))
        encoder = Encoder.fit(Demand({EXAMPLE: [KINDS[kind]]}), dataset, np.arange(len(learned)))
        values, vocabularies = encoder.as_dict()
        stored.append((values, [vocabulary.to_pylist() for vocabulary in vocabularies]))
    assert stored[0] == stored[1] == stored[2]


@pytest.mark.parametrize("kind", [*NUMBERS, *TIMES])
@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_an_infinity_is_refused_with_its_row(kind: str, value: float) -> None:
    bad = table(pa.array([1.0, None, value]))
    with pytest.raises(DataError, match=rf"The column 'x' must hold .*; row 3 has {value}\."):
        KINDS[kind].fit(bad)
    with pytest.raises(DataError, match=rf"The column 'x' must hold .*; row 3 has {value}\."):
        KINDS[kind].fit(table(pa.array([1.0]))).encode(bad)


@kinds
def test_a_missing_column_is_refused_with_those_there(kind: str) -> None:
    with pytest.raises(DataError, match=r"The column 'x' is missing; the table has \['y', 'z'\]"):
        KINDS[kind].fit(pa.table({"y": [1], "z": [2]}))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *[(kind, [pa.array([1, 2, None]), pa.array([1.0, 2.0, None]), pa.array(["1", "2", None])]) for kind in KINDS],
        ("multi_hot", [pa.array(["a|b", "", None]), pa.array([["a", "b"], [], None])]),
        ("multi_hot", [pa.array([[1, 2], None]), pa.array([[1.0, 2.0, None], []]), pa.array(["2|1", None])]),
        ("multi_hot", [pa.array([[1, 2], None, [2, 2]], pa.list_(pa.int64(), 2)), pa.array(["1|2", None, "2"])]),
        ("category", [pa.array([True, False, None]), pa.array(["true", "false", None])]),
        ("hashed", [pa.array([b"a", b"\xff", None]), pa.array(["a", "\\xff", None])]),
        ("hashed", [pa.array([1.0, float("nan")]), pa.array([1, None])]),
    ],
)
def test_equal_values_of_another_type_are_encoded_alike(kind: str, values: list[pa.Array]) -> None:
    feature = KINDS[kind].fit(table(values[0]))
    first, *others = (rows_of(feature.encode(table(each))) for each in values)
    assert others == [first] * len(others)
    assert first[0] != first[1]


def test_settings_are_part_of_the_name() -> None:
    specs = [
        *KINDS.values(),
        NumberSpec(column="y"),
        CategorySpec(column="x"),
        CategorySpec(column="x", min_count=3),
        QuantileSpec(column="x"),
        PiecewiseSpec(column="x"),
        HashedSpec(columns=("x",), buckets=8),
        HashedSpec(columns=("y", "x"), buckets=97),
        HashedSpec(columns=("('x', 'y')",), buckets=97),
        MultiHotSpec(column="x", min_count=2),
        MultiHotSpec(column="x", min_count=1, separator=","),
        CyclicSpec(column="x"),
    ]
    names = ["x", "y", "('x', 'y')"]
    rows = pa.table({name: pa.array([1.0, 2.0]) for name in names})
    assert len({spec.fit(rows).name for spec in specs}) == len(specs)


def test_a_sample_can_be_read_by_every_feature_of_the_column() -> None:
    rows = pa.table({"x": pa.array([1e9, 2e9, 2e9]), "y": pa.array(["a", "b", None])})
    fitted = [spec.fit(rows) for spec in KINDS.values()]
    for feature in fitted:
        sample = {"x": None, "y": "a"} | dict(feature.sample())
        for other in fitted:
            assert len(rows_of(other.encode(pa.Table.from_pylist([sample])))) == 1
