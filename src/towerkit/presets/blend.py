"""The search of ``best``: spectral vectors and baselines of pairs, each with settings of its own, blended with chosen weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from towerkit.baselines import CooccurrenceSpec, EASESpec, Interactions
from towerkit.baselines.cooccurrence import Cooccurrence, together
from towerkit.ensembles.pair_members import AnyPairsSpec
from towerkit.index.ranker import Ranker
from towerkit.presets.search import SETTINGS
from towerkit.presets.trials import Trials
from towerkit.presets.validation import Blended, Kept, Validation
from towerkit.towers import SpectralTowerSpec

SPECTRAL = "spectral"
"""The member that is two spectral towers."""
_STEPS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "cooccurrence": (("source_exponent", 0.2), ("candidate_exponent", 0.1), ("query_exponent", 0.2)),
    "ease": (("l2", 2.0),),
}
"""Of each kind, the settings that are searched: a number that is added, or of ``l2`` a factor."""
_FINER = 0.5
_SHARES = (0.2, 0.1, 0.05)
"""That a member's weight goes up or down by, the coarse ones first."""
_REFINED = (("power", 0.4), ("weight", 0.1), ("power", 0.2))
"""Of the spectral member, once it is one of several: what the others bring, its vectors need not."""

Settings = TypeVar("Settings", CooccurrenceSpec, EASESpec, AnyPairsSpec, SpectralTowerSpec)


class Blend:
    """Chooses settings and weights of the members, one after the other; the spectral ones were searched before.

    Args:
        validation: What a ranker is worth.
        trials: Which figure decides, who is told, and when to end.
        held: ``member.setting`` names that stay as they are, and settings of the towers without a prefix.
    """

    def __init__(self, validation: Validation, trials: Trials, held: frozenset[str] = frozenset()) -> None:
        self._validation, self._trials, self._held = validation, trials, held
        self._scores: dict[str, Kept] = {}
        self._interactions = Interactions(validation.interactions.matrix)
        self._counted: tuple[float, Any] | None = None

    def run(
        self, tower: SpectralTowerSpec, members: Mapping[str, AnyPairsSpec], deadlines: tuple[float, float]
    ) -> tuple[SpectralTowerSpec, dict[str, AnyPairsSpec], dict[str, float]]:
        """Choose the settings of the other members, then the weights, then again what the blend asks of the tower.

        Args:
            tower: As it is best alone.
            members: Name to baseline of pairs, with the settings to start from; one that the data is too large for is left out.
            deadlines: Of ``time.perf_counter``: the end of the search for the members' settings, and of all.

        Returns:
            The tower, the members with their settings, and the weights of all, which sum to one.
        """
        self._keep(SPECTRAL, self._validation.ranker(tower))
        found: dict[str, AnyPairsSpec] = {}
        self._trials.deadline = deadlines[0]
        for name, member in members.items():
            if member.obstacle(self._interactions) is None and not self._trials.over():
                found[name] = self._climbed(name, member)
        self._trials.deadline = deadlines[1]
        weights, reached = self._weighed({name: float(name == SPECTRAL) for name in self._scores})
        if 0 < weights[SPECTRAL] < 1:
            tower = self._refined(tower, weights, reached)
            weights, _ = self._weighed(weights)
        return tower, found, weights

    def _climbed(self, name: str, start: AnyPairsSpec) -> AnyPairsSpec:
        """The best settings of a member by itself, one after the other, and its scores kept."""
        best, score = start, self._tried(name, start, None)
        for share in (1.0, _FINER):
            for key, step in _STEPS[start.kind]:
                best, score = self._along(name, best, score, key, step**share if key == "l2" else step * share)
        self._keep(name, self._ranker(best))
        return best

    def _along(self, name: str, best: AnyPairsSpec, score: float, key: str, step: float) -> tuple[AnyPairsSpec, float]:
        """Step along one setting, up and else down, for as long as it helps."""
        if f"{name}.{key}" in self._held:
            return best, score
        for upward in (True, False):
            start = best
            while not self._trials.over():
                other = _moved(best, key, step, upward=upward)
                if other == best:
                    break
                reached = self._tried(name, other, score)
                if not self._trials.better(reached, score):
                    break
                best, score = other, reached
            if best != start:
                break
        return best, score

    def _tried(self, name: str, member: AnyPairsSpec, best: float | None) -> float:
        settings = {"member": name, **{key: getattr(member, key) for key, _ in _STEPS[member.kind]}}
        return self._trials.told(settings, self._validation.of_ranker(self._ranker(member)), best)

    def _ranker(self, member: AnyPairsSpec) -> Ranker:
        """The member's ranker of the asked queries by their place; what is met together is counted once per exponent."""
        if isinstance(member, EASESpec):
            return _OfPlaces(member.build(self._interactions), self._validation)
        matrix, exponent = self._interactions.matrix, member.query_exponent
        if self._counted is None or self._counted[0] != exponent:
            self._counted = exponent, together(matrix, exponent)
        names = ("query_exponent", "source_exponent", "candidate_exponent")
        settings = {key: getattr(member, key) for key in names}
        return _OfPlaces(Cooccurrence(matrix, **settings, counts=self._counted[1]), self._validation)

    def _keep(self, name: str, ranker: Ranker) -> None:
        self._scores[name] = Kept.standardized(ranker, len(self._validation.asked))

    def _weighed(self, start: Mapping[str, float]) -> tuple[dict[str, float], float]:
        """The weights with which the members rank best together, and their score: each takes its share of the spectral ones'.

        Args:
            start: Name to weight; they sum to one.
        """
        best, tried = dict(start), {tuple(start.values())}
        score = self._blended(best, {}, None)
        for step in _SHARES:
            for name in self._scores:
                for change in (step, -step):
                    moved = False
                    while name != SPECTRAL and not self._trials.over():
                        other = best | {
                            name: round(best[name] + change, 4),
                            SPECTRAL: round(best[SPECTRAL] - change, 4),
                        }
                        if min(other.values()) < 0 or tuple(other.values()) in tried:
                            break
                        tried.add(tuple(other.values()))
                        reached = self._blended(other, {}, score)
                        if not self._trials.better(reached, score):
                            break
                        best, score, moved = other, reached, True
                    if moved:
                        break
        return best, score

    def _blended(self, weights: Mapping[str, float], settings: Mapping[str, Any], best: float | None) -> float:
        figures = self._validation.of_ranker(Blended(self._scores, weights))
        told = {"member": "blend", **{f"weight/{name}": weight for name, weight in weights.items()}, **settings}
        return self._trials.told(told, figures, best)

    def _refined(self, tower: SpectralTowerSpec, weights: Mapping[str, float], score: float) -> SpectralTowerSpec:
        """The tower whose vectors are the best beside the others."""
        for key, step in _REFINED:
            for upward in (False, True):
                moved = False
                while key not in self._held and not self._trials.over():
                    other, kept = _moved(tower, key, step, upward=upward), self._scores[SPECTRAL]
                    if other == tower:
                        break
                    self._keep(SPECTRAL, self._validation.ranker(other))
                    settings = {name: getattr(other, name) for name in SETTINGS}
                    reached = self._blended(weights, settings, score)
                    if not self._trials.better(reached, score):
                        self._scores[SPECTRAL] = kept
                        break
                    tower, score, moved = other, reached, True
                if moved:
                    break
        return tower


class _OfPlaces(Ranker):
    """A baseline's scores of the asked queries, by their place.

    Args:
        ranker: ``[queries + 1, candidates]``.
        validation: Whose queries.
    """

    def __init__(self, ranker: Ranker, validation: Validation) -> None:
        self._ranker, self._asked = ranker, validation.asked
        self.exact, self.num_candidates = ranker.exact, ranker.num_candidates

    def scores(self, queries: Any) -> Any:
        """Score every candidate for some of them."""
        return self._ranker.scores(self._asked[queries])


def _moved(settings: Settings, key: str, step: float, *, upward: bool) -> Settings:
    """One step along a setting, within what it may be."""
    value = getattr(settings, key)
    if key == "l2":
        value = value * step if upward else value / step
    else:
        value = min(max(value + (step if upward else -step), 0.0), 3.0 if key == "power" else 2.0)
        value = min(value, 1.0) if key == "weight" else value
    return settings.model_copy(update={key: round(value, 4)})
