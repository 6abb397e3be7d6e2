"""A search over the settings of spectral towers, one line at a time, cheap ones first; the same steps on any machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from towerkit.presets.trials import Trials
from towerkit.towers import SpectralTowerSpec

NARROW, WIDE = (16, 32, 48, 64, 96, 128), (192, 256, 384, 512, 768, 1024)
"""Widths that are tried: the wide ones only where the widest narrow one is the best of them."""
_BOUNDS = {"power": 3.0, "weight": 1.0, "candidate_exponent": 1.0, "query_exponent": 1.0}
"""No setting is below 0."""
_STEPS = {"power": 0.4, "weight": 0.1, "candidate_exponent": 0.1, "query_exponent": 0.15}
SETTINGS = ("dim", *_STEPS, "rounds")
_SPARE = 16


class Search:
    """Climbs along one setting after the other while validation gets better, then again with half the steps.

    One decomposition serves every width up to its own, every power and every weight; a change of the exponents wants
    another. So the exponents are searched with a narrow one. Where more width still helps, one wide decomposition follows.

    Args:
        figures: What a tower is worth on validation.
        trials: Which figure decides, who is told, and when to end.
        held: Settings that stay as they are.
        most: Directions at most.
    """

    def __init__(
        self,
        figures: Callable[[SpectralTowerSpec], Mapping[str, float]],
        trials: Trials,
        *,
        held: frozenset[str] = frozenset(),
        most: int = WIDE[-1],
    ) -> None:
        self._figures, self._trials = figures, trials
        self._held, self._most = held, most
        self._tried: set[SpectralTowerSpec] = set()
        self._best: SpectralTowerSpec | None = None
        self._score: float | None = None

    def run(self, start: SpectralTowerSpec) -> SpectralTowerSpec:
        """Search from a tower on.

        Args:
            start: At least this one is measured; no other trial begins after the deadline.

        Returns:
            The best tower that was measured.
        """
        narrow = self._ladder(NARROW)
        width = start.dim if "dim" in self._held else narrow[-1]
        self._try(_within(start, width, width + _SPARE if "dim" not in self._held else start.dim + start.spare))
        for share in (1.0, 0.5):
            self._climb_dim(narrow)
            for name in ("power", "weight", "candidate_exponent", "query_exponent"):
                self._climb(name, share)
        self._climb_dim(narrow)
        wide = self._ladder(WIDE)
        if wide and self.best.dim == narrow[-1] and "dim" not in self._held:
            self._widen(wide)
        return self.best

    @property
    def best(self) -> SpectralTowerSpec:
        """The best tower so far."""
        assert self._best is not None
        return self._best

    def _ladder(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        """The widths that there are directions for; of the narrow ones at least one."""
        within = tuple(width for width in widths if width <= self._most)
        return within or ((self._most,) if widths is NARROW else ())

    def _widen(self, wide: tuple[int, ...]) -> None:
        """One decomposition of the largest width, and all that it serves, the widest first until they get worse again."""
        narrow = self.best
        for dim in reversed(wide):
            is_best = self._try(_within(narrow, dim, wide[-1] + _SPARE))
            if not is_best and self.best != narrow:
                break
        if self.best != narrow:
            for name, share in (("power", 1.0), ("weight", 0.5), ("power", 0.5)):  # narrow vectors want less of it
                self._climb(name, share)
            self._climb_dim(wide)

    def _climb_dim(self, ladder: tuple[int, ...]) -> None:
        for direction in (-1, 1):
            while self.best.dim in ladder and "dim" not in self._held:
                place = ladder.index(self.best.dim) + direction
                if not 0 <= place < len(ladder):
                    break
                if not self._try(_within(self.best, ladder[place], self.best.dim + self.best.spare)):
                    break

    def _climb(self, name: str, share: float) -> None:
        """Step along one setting, up and else down, for as long as it helps."""
        for step in (_STEPS[name] * share, -_STEPS[name] * share):
            moved = False
            while name not in self._held and self._try(self._moved(name, step)):
                moved = True
            if moved:
                return

    def _moved(self, name: str, step: float) -> SpectralTowerSpec:
        """One step; the weight goes with its exponent, for one gives back what the other took."""
        names = [name] + ["weight"] * (name == "candidate_exponent" and "weight" not in self._held)
        values = {each: getattr(self.best, each) + step for each in names}
        return self.best.model_copy(
            update={each: round(min(max(value, 0.0), _BOUNDS[each]), 4) for each, value in values.items()}
        )

    def _try(self, tower: SpectralTowerSpec) -> bool:
        """Whether a tower is the best so far; one that was tried before is not."""
        if tower in self._tried or (self._best is not None and self._trials.over()):
            return False
        self._tried.add(tower)
        settings = {name: getattr(tower, name) for name in SETTINGS}
        score = self._trials.told(settings, self._figures(tower), self._score)
        if not self._trials.better(score, self._score):
            return False
        self._best, self._score = tower, score
        return True


def _within(tower: SpectralTowerSpec, dim: int, width: int) -> SpectralTowerSpec:
    """The tower at another width of vectors and of its decomposition."""
    return tower.model_copy(update={"dim": dim, "spare": width - dim})
