"""What an ablation found: figures per tower and mode, Shapley values, costs, and a sentence for each tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towerkit.ablation.cost import Cost
from towerkit.metrics.intervals import Interval
from towerkit.metrics.significance import Difference
from towerkit.metrics.tasks import higher_is_better


@dataclass(frozen=True)
class Share:
    """The Shapley value of a tower for one metric."""

    value: float
    low: float
    """Lower end of its 95 % bootstrap interval over the held-out queries or rows."""
    high: float
    error: float | None = None
    """Standard error of the sampling of orders; None where all subsets were asked."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: None if value is None or value != value else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Played:
    """One mode: what is left without some towers."""

    alone: Mapping[str, Mapping[str, Difference]]
    """Tower -> metric -> the model without it minus the whole model."""
    subsets: Sequence[tuple[tuple[str, ...], Mapping[str, float]]]
    """The towers that are present, and the metrics that are left."""
    shares: Mapping[str, Mapping[str, Share]]
    """Tower -> metric -> Shapley value; what all of them together have beyond none is shared out."""
    orders: int | None = None
    """Orders (each with its reverse) that were drawn; None where the values are exact."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "without": {n: {m: pair.as_dict() for m, pair in pairs.items()} for n, pairs in self.alone.items()},
            "shapley": {n: {m: share.as_dict() for m, share in shares.items()} for n, shares in self.shares.items()},
            "shapley_is": "exact" if self.orders is None else f"sampled from {self.orders} orders and their reverses",
            "subsets": [{"present": list(present), "metrics": dict(metrics)} for present, metrics in self.subsets],
        }


@dataclass(frozen=True)
class Retrained:
    """A model that was trained again with something else."""

    change: str
    """What was changed, in words."""
    metrics: Mapping[str, Difference]
    """Metric -> the changed model minus the whole one, both averaged over the seeds."""
    by_seed: Mapping[int, Mapping[str, float]]
    """Seed -> metric -> difference."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        seeds = {str(seed): dict(values) for seed, values in self.by_seed.items()}
        pairs = {name: pair.as_dict() for name, pair in self.metrics.items()}
        return {"change": self.change, "metrics": pairs, "by_seed": seeds}


@dataclass(frozen=True)
class Ablation:
    """Everything that was measured of the towers of one Run."""

    run: str
    model: str
    """Its kind."""
    seal: str
    """A hash of all files of the Run."""
    protocol: Mapping[str, Any]
    whole: Mapping[str, Interval]
    """Metric -> the whole model."""
    costs: Mapping[str, Cost]
    played: Mapping[str, Played]
    """Mode -> what was found."""
    retrained: Mapping[str, Retrained] = field(default_factory=dict)
    """Tower -> the model trained without it."""
    structure: Mapping[str, Retrained] = field(default_factory=dict)
    """``backbone`` and ``head NAME`` -> the model trained with the plainest one."""
    columns: Mapping[str, Mapping[str, Mapping[str, Difference]]] = field(default_factory=dict)
    """Tower -> column -> metric -> the model with that column shuffled minus the whole model."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """What could not be trained without -> why."""
    notes: Sequence[str] = ()

    @property
    def modes(self) -> list[str]:
        """In the order in which a verdict prefers them: what was trained again says most."""
        return [*(["retrain"] if self.retrained else []), *self.played]

    def without(self, tower: str) -> tuple[str, Mapping[str, Difference]] | None:
        """The figures that the verdict on a tower rests on, and their mode.

        Args:
            tower: Its name.
        """
        if tower in self.retrained:
            return "retrain", self.retrained[tower].metrics
        return next(((mode, each.alone[tower]) for mode, each in self.played.items() if tower in each.alone), None)

    def verdict(self, tower: str) -> str:
        """One sentence: what dropping a tower costs, and what it saves.

        Args:
            tower: Its name.
        """
        found = self.without(tower)
        if found is None:
            return f"{tower} was not taken away."
        mode, pairs = found
        parts = [cost_of(metric, pair) for metric, pair in pairs.items()]
        saved = self.costs[tower].saves()
        return f"dropping {tower} {', '.join(parts)} and saves {saved} [{mode}]."

    def order(self, metric: str, mode: str | None = None) -> list[str]:
        """The towers by their Shapley value, the most useful one first.

        Args:
            metric: By which.
            mode: Of which game; the first when not given.
        """
        shares = self.played[mode or next(iter(self.played))].shares
        sign = 1.0 if higher_is_better(metric) else -1.0
        return sorted(shares, key=lambda name: (-sign * shares[name][metric].value, name))

    def as_dict(self) -> dict[str, Any]:
        """The shape that ``ablate --json`` promises."""
        return {
            "kind": "ablation",
            "run": self.run,
            "model": self.model,
            "seal": self.seal,
            "protocol": dict(self.protocol),
            "metrics": {
                name: {**each.as_dict(), "higher_is_better": higher_is_better(name)}
                for name, each in self.whole.items()
            },
            "towers": {name: {**cost.as_dict(), "verdict": self.verdict(name)} for name, cost in self.costs.items()},
            "modes": {mode: each.as_dict() for mode, each in self.played.items()},
            "retrain": {name: each.as_dict() for name, each in self.retrained.items()},
            "structure": {name: each.as_dict() for name, each in self.structure.items()},
            "columns": {
                tower: {c: {m: pair.as_dict() for m, pair in pairs.items()} for c, pairs in own.items()}
                for tower, own in self.columns.items()
            },
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }


def cost_of(metric: str, pair: Difference) -> str:
    """What a difference means for a model, in words.

    Args:
        metric: Its name.
        pair: The model without something minus the whole model.

    Example:
        >>> cost_of("ndcg@10", Difference(0.1, 0.098, -0.002, -0.005, 0.001, 0.2, 0.2, 0.0, 9, 9))
        'costs 0.0020 ± 0.0030 ndcg@10 (within chance)'
    """
    if pair.difference != pair.difference:
        return f"leaves {metric} undefined"
    cost = -pair.difference if higher_is_better(metric) else pair.difference
    verb = "costs" if cost >= 0 else "gains"
    half = (pair.high - pair.low) / 2.0
    chance = "" if pair.is_clear else " (within chance)"
    return f"{verb} {abs(cost):.4f} ± {half:.4f} {metric}{chance}"
