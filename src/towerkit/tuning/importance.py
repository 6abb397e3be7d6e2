"""How much each parameter mattered, and each tower, by what the trials found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from towerkit.core.optional import optional_import
from towerkit.tuning.space import group_of

_FEWEST = 4
"""Trials below which nothing is said."""


def importances(trials: Sequence[Any], *, higher_is_better: bool) -> dict[str, float]:
    """Parameter -> its share of what made the best trials differ from all; the shares sum to 1.

    PED-ANOVA: how far the values of the best tenth of the trials are distributed differently from those of all trials. Trials that
    were given up count with the best figure that they reached. With few trials, and with parameters that a sampler
    moved together, this is a hint and no measurement.

    Args:
        trials: As Optuna has them; those that failed are left out.
        higher_is_better: Of their figures.

    Returns:
        Nothing where there are too few trials, or all found the same.

    Reference: Watanabe, Bansal and Hutter, PED-ANOVA, IJCAI 2023 (arXiv 2304.10255).
    """
    optuna = optional_import("optuna", extra="tune")
    found = [(each, value) for each in trials if each.params and (value := figure_of(each)) is not None]
    if len(found) < _FEWEST or len({value for _, value in found}) == 1:
        return {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if higher_is_better else "minimize")
        for each, value in found:
            study.add_trial(
                optuna.trial.create_trial(params=each.params, distributions=each.distributions, value=value)
            )
        told: dict[str, float] = optuna.importance.get_param_importances(study)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return dict(sorted(told.items(), key=lambda item: (-item[1], item[0])))


def by_group(told: Mapping[str, float]) -> dict[str, float]:
    """Part of the model -> the sum over its parameters; see :func:`group_of`.

    Args:
        told: Parameter -> share.

    Example:
        >>> by_group({"model.query.dim": 0.25, "training.optimizer.lr": 0.5, "training.epochs": 0.25})
        {'training': 0.75, 'query': 0.25}
    """
    found: dict[str, float] = {}
    for path, share in told.items():
        found[group_of(path)] = found.get(group_of(path), 0.0) + share
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def figure_of(trial: Any) -> float | None:
    """The figure of a trial that is over; of one that was given up, the best that it reached; None where it failed.

    Args:
        trial: As Optuna has it.
    """
    if trial.state.name == "COMPLETE":
        return float(trial.value)
    if trial.state.name == "PRUNED" and trial.intermediate_values:
        return float(trial.intermediate_values[max(trial.intermediate_values)])
    return None
