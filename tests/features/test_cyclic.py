"""Times on circles.

Invariants:
- shares of periods equal those of Python's own calendar, for any moment of the years 1 to 9999;
- the end of a period meets its start;
- numbers, texts with and without a zone, dates and timestamps of any unit are one moment alike, also mixed in texts;
- what is no time, and what lies outside the calendar, is refused with its row.
"""

from __future__ import annotations

import calendar
import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError
from towerkit.features.cyclic import CyclicSpec, Period, seconds_of, share_of_period

MOMENTS = st.datetimes(dt.datetime(1, 1, 8), dt.datetime(9999, 12, 1))


def expected_share(moment: dt.datetime, period: Period) -> float:
    day = (moment - dt.datetime.combine(moment.date(), dt.time())) / dt.timedelta(days=1)
    if period == "hour":
        return day * 24 % 1.0
    if period == "day":
        return day
    if period == "week":
        return (moment.weekday() + day) / 7
    if period == "month":
        return (moment.day - 1 + day) / calendar.monthrange(moment.year, moment.month)[1]
    return (moment.timetuple().tm_yday - 1 + day) / (366 if calendar.isleap(moment.year) else 365)


@settings(max_examples=60, deadline=None)
@given(st.lists(MOMENTS, min_size=1, max_size=6), st.sampled_from(["hour", "day", "week", "month", "year"]))
def test_shares_are_those_of_the_calendar(moments: list[dt.datetime], period: Period) -> None:
    seconds = seconds_of(pa.array(moments, pa.timestamp("us")), "x")
    found = share_of_period(seconds, period)
    gap = np.abs(found - [expected_share(moment, period) for moment in moments])
    assert np.minimum(gap, 1.0 - gap).max() < 1e-6  # near the end of an hour, a rounded share may be that of the next
    assert ((found >= 0.0) & (found < 1.0)).all()


def test_the_columns_are_sine_cosine_and_flag() -> None:
    feature = CyclicSpec(column="x", periods=("day", "week")).fit(pa.table({"x": [0]}))
    column = feature.encode(pa.table({"x": [6 * 3600, None, 4 * 86400]}))  # Thursday at six; Monday at midnight
    assert isinstance(column, torch.Tensor)
    angle = 2 * np.pi * (3.25 / 7)
    expected = [[1, 0, np.sin(angle), np.cos(angle), 0], [0, 0, 0, 0, 1], [0, 1, 0, 1, 0]]
    np.testing.assert_allclose(column.numpy(), expected, atol=1e-6)


def test_the_end_meets_the_start() -> None:
    feature = CyclicSpec(column="x").fit(pa.table({"x": [0]}))
    column = feature.encode(pa.table({"x": ["2023-12-31T23:59:59", "2024-01-01T00:00:00"]}))
    assert isinstance(column, torch.Tensor)
    assert float((column[0] - column[1])[[0, 1, 4, 5]].abs().max()) < 1e-3


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1_717_149_600, None]),
        pa.array([1_717_149_600.0, float("nan")]),
        pa.array(["1717149600", None]),
        pa.array(["2024-05-31T10:00:00", None]),
        pa.array(["2024-05-31 12:00+02:00", None]),
        pa.array([dt.datetime(2024, 5, 31, 10), None]),
        pa.array([dt.datetime(2024, 5, 31, 10), None], pa.timestamp("s")),
        pa.array([dt.datetime(2024, 5, 31, 10), None], pa.timestamp("ns", "Asia/Tokyo")),
        pa.array([1_717_149_600_000_000_001, None], pa.timestamp("ns")),
    ],
)
def test_one_moment_in_every_form(values: pa.Array) -> None:
    np.testing.assert_array_equal(seconds_of(values, "x"), [1_717_149_600.0, np.nan])


def test_dates_are_midnights_and_texts_may_be_mixed() -> None:
    midnight = 1_717_113_600.0
    assert seconds_of(pa.array([dt.date(2024, 5, 31)]), "x").tolist() == [midnight]
    mixed = pa.array(["2024-05-31", "1717113600", "2024-05-31T00:00:00Z", None])
    np.testing.assert_array_equal(seconds_of(mixed, "x"), [midnight] * 3 + [np.nan])
    assert seconds_of(pa.array([dt.time(1, 0)]), "x").tolist() == [3600.0]
    assert np.isnan(seconds_of(pa.nulls(2), "x")).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-05-31", "soon"], r"The column 'x' must hold times; row 2 has 'soon'\."),
        (["2024-02-28", "2024-02-31"], r"The column 'x' must hold times; row 2 has '2024-02-31'\."),
        ([[1], [2]], r"The column 'x' must hold times; row 1 has \[1\]\."),
        (
            [0, 1_717_149_600_000],
            r"in the years 1 to 9999; row 2 has 1717149600000\. Numbers are seconds.*milliseconds",
        ),
    ],
)
def test_what_is_no_time_is_refused_with_its_row(values: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        CyclicSpec(column="x").fit(pa.table({"x": values}))
