"""Playing the game of a model in one mode: each tower gone, every subset of them, and what each one adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from towerkit.ablation.game import Game, Mode
from towerkit.ablation.result import Played, Share
from towerkit.ablation.shapley import Shares, exact_shapley, sampled_shapley, subsets
from towerkit.evaluation.samples import Sample, averaged, draws_of_sample, sample_differences, values_of_sample
from towerkit.metrics.significance import Difference

MOST_EXACT = 6
"""Towers of which every subset is asked."""
ORDERS = 16
"""Pairs of an order and its reverse, where there are more towers."""
_RESAMPLES = 200
"""Of the intervals of Shapley values, which ask every subset."""

Tell = Callable[[int, int], None]


class Memory:
    """What a model answers without some of its towers, asked once.

    Args:
        game: The model.
        mode: What stands in the place of missing towers.
        repeats: Shuffles that are averaged, for ``permute``.
    """

    def __init__(self, game: Game, mode: Mode, repeats: int) -> None:
        self._game, self._mode, self._repeats = game, mode, repeats if mode == "permute" else 1
        self._draws: dict[frozenset[str], NDArray[np.float64]] = {}
        self.metrics: list[str] = []

    def sample(self, missing: frozenset[str]) -> Sample:
        """The answers without some towers, averaged over the shuffles."""
        count = self._repeats if missing else 1
        return averaged([self._game.answers(missing, self._mode, draw) for draw in range(count)])

    def draws(self, missing: frozenset[str]) -> NDArray[np.float64]:
        """``[metrics, 1 + resamples]`` the figures and their resamples."""
        if missing not in self._draws:
            found = draws_of_sample(self.sample(missing), most=_RESAMPLES)
            self.metrics = list(found)
            self._draws[missing] = np.stack(list(found.values()))
        return self._draws[missing]

    def asked(self) -> Mapping[frozenset[str], NDArray[np.float64]]:
        """Everything that was asked so far."""
        return dict(self._draws)


def play(
    game: Game,
    mode: Mode,
    *,
    towers: Sequence[str] = (),
    repeats: int = 3,
    orders: int = ORDERS,
    tell: Tell = lambda done, total: None,
) -> Played:
    """Take each tower away, then every subset up to six of them; above that pairs and random orders.

    Args:
        game: The model.
        mode: What stands in the place of missing towers.
        towers: Only these, one at a time, and no subset; all and subsets when not given.
        repeats: Shuffles that are averaged, for ``permute``.
        orders: Pairs of an order and its reverse, where there are too many subsets.
        tell: Told how many towers are done, of all.
    """
    names, memory = list(game.parts), Memory(game, mode, repeats)
    whole = memory.sample(frozenset())
    alone: dict[str, Mapping[str, Difference]] = {}
    asked = list(towers) or names
    for done, name in enumerate(asked):
        tell(done, len(asked))
        tests = len(asked) * len(values_of_sample(whole))
        alone[name] = sample_differences(whole, memory.sample(frozenset([name])), tests=tests)
    tell(len(asked), len(asked))
    if towers:
        return Played(alone, [], {})
    every = frozenset(names)

    def value(present: frozenset[str]) -> NDArray[np.float64]:
        return memory.draws(every - present)

    if len(names) <= MOST_EXACT:
        found, kept = exact_shapley(names, value), list(subsets(names))
    else:
        found = sampled_shapley(names, value, orders=orders)
        kept = [every, frozenset(), *(every - {name} for name in names)]
        kept += [every - set(pair) for pair in combinations(names, 2)]
    left = [(tuple(name for name in names if name in present), value(present)[:, 0]) for present in kept]
    told = [(present, dict(zip(memory.metrics, figures.tolist(), strict=True))) for present, figures in left]
    return Played(alone, told, _shares(found, memory.metrics), found.orders)


def _shares(found: Shares, metrics: Sequence[str]) -> dict[str, dict[str, Share]]:
    """Tower -> metric -> share; the interval is of the resamples, which are the same for all subsets."""
    shares: dict[str, dict[str, Share]] = {}
    for name, draws in found.values.items():
        shares[name] = {}
        for place, metric in enumerate(metrics):
            defined = draws[place, 1:][~np.isnan(draws[place, 1:])]
            low, high = np.quantile(defined, [0.025, 0.975]).tolist() if len(defined) else (np.nan, np.nan)
            error = None if found.errors is None else float(found.errors[name][place, 0])
            shares[name][metric] = Share(float(draws[place, 0]), low, high, error)
    return shares
