"""What a study found, in plain data: the best spec, every trial, default against best, what mattered, and how the best grew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from towerkit.tuning.importance import by_group, figure_of, importances
from towerkit.tuning.space import Space, group_of
from towerkit.tuning.study import Searching

VERSION = 1


def described_trials(trials: Sequence[Any], space: Space) -> list[dict[str, Any]]:
    """A mapping per trial: its number, state, values, figure and curve.

    Args:
        trials: As Optuna has them, in order.
        space: Whose parameters they have.
    """
    return [_described(each, space) for each in trials if each.state.name != "WAITING"]


def _described(trial: Any, space: Space) -> dict[str, Any]:
    attributes = trial.user_attrs
    found: dict[str, Any] = {
        "number": trial.number,
        "state": _STATES.get(trial.state.name, "running") if "died" not in attributes else "died",
        "default": bool(attributes.get("default")),
        "values": space.values_of(trial.params),
        "value": figure_of(trial),
        "curve": [[epoch, trial.intermediate_values[epoch]] for epoch in sorted(trial.intermediate_values)],
    }
    kept = ("reason", "again", "best_epoch", "epochs", "seconds", "saved_s", "spec", "history")
    return found | {key: attributes[key] for key in kept if key in attributes}


_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def growth(trials: Sequence[Mapping[str, Any]], *, higher_is_better: bool) -> list[dict[str, Any]]:
    """How the best figure grew with the time that trials took: a mapping per trial that is over.

    Args:
        trials: Described, in order.
        higher_is_better: Of their figures.
    """
    found, seconds, best = [], 0.0, None
    for each in trials:
        seconds += each.get("seconds", 0.0)
        value = each["value"] if each["state"] == "complete" else None
        if value is not None and (best is None or (value > best if higher_is_better else value < best)):
            best = value
        found.append({"trial": each["number"], "seconds": round(seconds, 3), "best": best})
    return found


def tuning_report(
    trials: Sequence[Any], space: Space, how: Searching, metric: str, about: Mapping[str, Any]
) -> dict[str, Any]:
    """All of it, for ``tuning.json``.

    Args:
        trials: As Optuna has them, in order.
        space: What was searched.
        how: How.
        metric: The validation figure.
        about: What is known of the default and the best configuration, and of the time.
    """
    told = described_trials(trials, space)
    shares = importances(trials, higher_is_better=how.higher_is_better)
    ranges = {path: {**each, "part": group_of(path)} for path, each in space.as_dict().items()}
    return {
        "kind": "tuning",
        "version": VERSION,
        "metric": f"validation/{metric}",
        "higher_is_better": how.higher_is_better,
        "sampler": how.sampler,
        "pruner": how.pruner,
        "seed": how.seed,
        "space": ranges,
        "trials": told,
        "growth": growth(told, higher_is_better=how.higher_is_better),
        "importance": {"measure": "PED-ANOVA", "parameters": shares, "parts": by_group(shares)},
        "saved": {name: round(sum(each.get(name, 0.0) for each in told), 3) for name in ("seconds", "saved_s")},
        **about,
    }
