"""The search of a preset (`towerkit.presets.search`), on figures made up for it.

Pinned here:
- it climbs to the peak of a smooth hill from afar, in every setting, and returns the best that it measured;
- wide vectors are tried only where the widest narrow ones are the best; widths that share a decomposition say so;
- settings that are held stay; no tower is measured twice; a deadline ends it after the first trial at the earliest;
- every trial is a record and is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from towerkit.presets.search import NARROW, WIDE, Search
from towerkit.presets.trials import Trials
from towerkit.towers import SpectralTowerSpec
from towerkit.training.loop import Selection
from towerkit.training.progress import Silent

START = SpectralTowerSpec(dim=128)
PEAK = {"power": 1.6, "weight": 0.35, "candidate_exponent": 0.3, "query_exponent": 0.5}


class Told(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.best: list[bool] = []

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """One trial."""
        assert stage == "search" and epochs == record["epoch"] == len(self.best) + 1
        self.best.append(is_best)


class Hill:
    """A figure that falls with the distance from a peak; the settings pull at each other."""

    def __init__(self, dim: int) -> None:
        self.dim, self.asked = dim, list[SpectralTowerSpec]()

    def __call__(self, tower: SpectralTowerSpec) -> dict[str, float]:
        """The figures of a tower."""
        self.asked.append(tower)
        away = [getattr(tower, name) - value for name, value in PEAK.items()]
        ladder = (*NARROW, *WIDE)
        steps = abs(ladder.index(tower.dim) - ladder.index(self.dim)) if tower.dim in ladder else 50
        loss = sum(a * a for a in away) + 0.3 * away[0] * away[1] + 0.01 * steps
        return {"ndcg@20": -loss, "other": loss}


def search_on(hill: Hill, **options: Any) -> tuple[Search, Trials]:
    trials = Trials(Selection("ndcg@20", higher_is_better=True), options.pop("progress", Silent()))
    return Search(hill, trials, **options), trials


@pytest.mark.parametrize("dim", [32, 128, 384, 1024])
def test_it_climbs_to_the_peak(dim: int) -> None:
    hill, told = Hill(dim), Told()
    search, trials = search_on(hill, progress=told)
    best = search.run(START)
    assert best.dim == dim
    for name, value in PEAK.items():
        assert getattr(best, name) == pytest.approx(value, abs=0.15), name
    figures = [record["validation/ndcg@20"] for record in trials.records]
    assert max(figures) == figures[[each.dim == best.dim and each == best for each in hill.asked].index(True)]
    assert len(trials.records) == len(hill.asked) == len(set(hill.asked)) == len(told.best)
    assert told.best[0] and figures[len(told.best) - 1 - told.best[::-1].index(True)] == max(figures)


def test_wide_vectors_only_where_narrow_ones_ask_for_them() -> None:
    hill = Hill(64)
    search_on(hill)[0].run(START)
    assert {tower.dim + tower.spare for tower in hill.asked} == {NARROW[-1] + 16}
    hill = Hill(768)
    best = search_on(hill)[0].run(START)
    assert best.dim + best.spare == WIDE[-1] + 16  # the width at which it was measured goes with it


def test_no_more_directions_than_there_are() -> None:
    hill = Hill(1024)
    assert search_on(hill, most=400)[0].run(START).dim == 384
    hill = Hill(16)
    assert search_on(hill, most=7)[0].run(START).dim == 7 and all(tower.dim == 7 for tower in hill.asked)


def test_held_settings_stay() -> None:
    hill = Hill(32)
    start = START.model_copy(update={"dim": 50, "power": 0.7})
    best = search_on(hill, held=frozenset({"dim", "power"}))[0].run(start)
    assert {(tower.dim, tower.power, tower.spare) for tower in hill.asked} == {(50, 0.7, 16)}
    assert best.query_exponent == pytest.approx(0.5, abs=0.15)


def test_a_deadline_in_the_past_leaves_one_trial() -> None:
    hill = Hill(32)
    search, trials = search_on(hill)
    trials.deadline = 0.0
    assert search.run(START) == hill.asked[0]
    assert len(hill.asked) == 1
