"""Evaluations as plain data and back.

Pinned: nothing is lost on the way to JSON and back, segments and undefined figures included; an evaluation without segments
has no such key, so older files read alike; damaged data is a RunError.
"""

from __future__ import annotations

import json
import math

import pytest

from towerkit.core.errors import RunError
from towerkit.evaluation.result import Evaluation
from towerkit.metrics.intervals import Interval

FIGURES = {"recall@5": Interval(0.5, 0.25, 0.75, 8), "coverage@5": Interval(0.1, math.nan, math.nan, 8)}
SEGMENTS = {"user.city": {"Rome": FIGURES, "(missing)": {"recall@5": Interval(0.0, 0.0, 0.0, 2)}}}


def test_json_and_back_loses_nothing() -> None:
    before = Evaluation({"kind": "ranking"}, FIGURES, segments=SEGMENTS)
    written = json.loads(json.dumps(before.as_dict(), allow_nan=False))
    assert written["segments"]["user.city"]["Rome"]["n"] == 8
    assert written["segments"]["user.city"]["(missing)"]["n"] == 2
    after = Evaluation.from_dict(written, {})
    assert after.as_dict() == before.as_dict()
    assert after.segments["user.city"]["Rome"]["recall@5"] == FIGURES["recall@5"]
    assert math.isnan(after.segments["user.city"]["Rome"]["coverage@5"].low)


def test_without_segments_there_is_no_such_key() -> None:
    written = Evaluation({"kind": "ranking"}, FIGURES).as_dict()
    assert "segments" not in written
    assert Evaluation.from_dict(written, {}).segments == {}


@pytest.mark.parametrize("segments", [[1], {"user.city": 3}, {"user.city": {"Rome": {"n": 8}}}])
def test_damaged_segments_are_a_run_error(segments: object) -> None:
    with pytest.raises(RunError, match="stored evaluation cannot be read"):
        Evaluation.from_dict({"protocol": {}, "metrics": {}, "segments": segments}, {})


@pytest.mark.parametrize("part", ["confusion", "calibration"])
@pytest.mark.parametrize("damage", [7, "ab", [1], {"task": 3}, {"task": {"low": 0}}])
def test_damaged_tables_of_tasks_are_a_run_error(part: str, damage: object) -> None:
    written = {**Evaluation({"kind": "prediction"}, FIGURES).as_dict(), part: damage}
    with pytest.raises(RunError, match="A stored evaluation cannot be read"):
        Evaluation.from_dict(written, {})
