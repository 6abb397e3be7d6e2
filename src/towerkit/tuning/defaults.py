"""What is searched where a spec has no ranges: a few settings that matter for its kind of model, around their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from towerkit.spec import ModelingSpec, plain

_WIDEST = 4096
_MOST_DROPOUT = 0.5


def default_ranges(spec: ModelingSpec) -> dict[str, dict[str, Any]]:
    """Path -> range, in plain data; the default of each is the value that the spec has.

    Args:
        spec: Without ranges.
    """
    found = _rates(spec)
    model = plain(spec)["model"]
    if model["kind"] in ("two_tower", "joint"):
        found |= _width(model) | _negatives(spec)
    else:
        found |= _backbone(model) | _dropouts(model)
        found |= _negatives(spec) if model["kind"] == "ranker" else {}
    return found


def _rates(spec: ModelingSpec) -> dict[str, dict[str, Any]]:
    """The step size from a tenth to ten times, and how slowly queries follow where they move without a gradient."""
    lr = spec.training.optimizer.lr
    found: dict[str, dict[str, Any]] = {
        "training.optimizer.lr": {"float": [_digits(lr / 10), _digits(lr * 10)], "log": True, "default": lr}
    }
    beta = getattr(spec.update, "beta", None)
    if beta is not None:
        slower, faster = _digits(1 - (1 - beta) / 3), _digits(max(0.0001, 1 - 3 * (1 - beta)))
        found["update.beta"] = {"choice": [beta, *(each for each in (faster, slower) if each not in (beta, 1.0))]}
    return found


def _width(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """One width for all towers of both sides, half or twice as wide, where they have one now and must have one."""
    places = dict(_widths(model))
    if len(set(places.values())) != 1:
        return {}
    width = next(iter(places.values()))
    first, *others = places
    return {first: _halved_or_doubled(width), **{path: {"same_as": first} for path in others}}


def _widths(model: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    sides = {"model.query": model["query"]}
    sides |= {f"model.candidates.{name}": each for name, each in model.get("candidates", {}).items()}
    sides |= {"model.candidate": model["candidate"]} if "candidate" in model else {}
    for path, side in sides.items():
        towers = {f"{path}.towers.{name}": tower for name, tower in side.get("towers", {}).items()} or {path: side}
        for place, tower in towers.items():
            if isinstance(tower.get("dim"), int):
                yield f"{place}.dim", tower["dim"]
        if isinstance((side.get("backbone") or {}).get("dim"), int):
            yield f"{path}.backbone.dim", side["backbone"]["dim"]


def _negatives(spec: ModelingSpec) -> dict[str, dict[str, Any]]:
    """The number of negatives of each sort that has one, from a quarter to four times."""
    found: dict[str, dict[str, Any]] = {}
    for place, negatives in enumerate(spec.objective.negatives):
        count = getattr(negatives, "count", None)
        if isinstance(count, int):
            ends = [max(1, count // 4), 4 * count]
            found[f"objective.negatives.{place}.count"] = {"int": ends, "log": True, "default": count}
    return found


def _backbone(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    width = (model.get("backbone") or {}).get("dim")
    return {"model.backbone.dim": _halved_or_doubled(width)} if isinstance(width, int) else {}


def _dropouts(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The dropout of each tower that has one."""
    found: dict[str, dict[str, Any]] = {}
    for name, tower in model.get("towers", {}).items():
        own = tower.get("dropout")
        if isinstance(own, float) and own <= _MOST_DROPOUT:
            found[f"model.towers.{name}.dropout"] = {"float": [0.0, _MOST_DROPOUT], "default": own}
    return found


def _halved_or_doubled(width: int) -> dict[str, Any]:
    return {"choice": [each for each in (width, width // 2, 2 * width) if 1 <= each <= _WIDEST]}


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
