"""What a model is trained again without: one tower or member at a time, its backbone, the layers of its heads."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.spec import ExperimentSpec, ModelingSpec, plain, ranks

Plain = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A spec with something taken out of it, or why there is none."""

    name: str
    """A tower as its game calls it, ``backbone``, or ``head NAME``."""
    change: str
    """What is another, in words."""
    spec: ModelingSpec | None
    why_not: str = ""
    is_tower: bool = True


class _Refused(Exception):
    """Why something cannot be taken out."""


def variants(spec: ModelingSpec) -> list[Variant]:
    """The model without each of its towers, and with the plainest backbone and heads.

    Args:
        spec: What was trained.
    """
    model = dict(plain(spec)["model"])
    found = [_variant(spec, name, f"without {name}", lambda name=name: _without(model, name)) for name in names(model)]
    if model["kind"] in ("tower_model", "ranker"):
        change = "backbone: {kind: concat} and linear heads"
        found.append(_variant(spec, "backbone", change, lambda: _plain_backbone(model), is_tower=False))
        for head, own in (model.get("heads") or {}).items():
            if own.get("layers"):
                found.append(
                    _variant(
                        spec,
                        f"head {head}",
                        f"heads.{head} without its layers {own['layers']}",
                        lambda head=head: _linear_head(model, head),
                        is_tower=False,
                    )
                )
    return found


def without(spec: ModelingSpec, name: str) -> ModelingSpec:
    """The same spec without one tower or member.

    Args:
        spec: What was trained.
        name: As :func:`names` calls it.

    Raises:
        SpecError: If the model cannot be trained without it.
    """
    model = dict(plain(spec)["model"])
    try:
        return _with_model(spec, _without(model, name), name)
    except _Refused as refused:
        raise SpecError(f"The model cannot be trained without {name}: {refused}.") from None


def names(model: Mapping[str, Any]) -> list[str]:
    """The towers or members of a model, as its game calls them.

    Args:
        model: The spec of the model in plain data.
    """
    if model["kind"] == "late_fusion":
        return list(model["members"])
    if model["kind"] in ("tower_model", "ranker"):
        return list(model["towers"])
    return [f"{group}.{tower}" for group, side in _sides(model) for tower in _towers(side)]


def _sides(model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "query", model["query"]
    if model["kind"] == "joint":
        yield from model["candidates"].items()
    else:
        yield "candidate", model["candidate"]


def _towers(side: Mapping[str, Any]) -> list[str]:
    return list(side["towers"]) if "towers" in side else [side["kind"]]


def _variant(spec: ModelingSpec, name: str, change: str, make: Any, *, is_tower: bool = True) -> Variant:
    try:
        return Variant(name, change, _with_model(spec, make(), name), is_tower=is_tower)
    except (_Refused, SpecError) as refused:
        return Variant(name, change, None, str(refused), is_tower)


def _with_model(spec: ModelingSpec, model: Plain, name: str) -> ModelingSpec:
    kind = ExperimentSpec if isinstance(spec, ExperimentSpec) else ModelingSpec
    data = {**plain(spec), "model": model}
    evaluation = {**data["evaluation"], "segments": [], "single_task": False}
    if ranks(spec.model):
        evaluation["baselines"] = [{"kind": "popularity"}]  # one must stand there; it costs least
    return parse(kind, {**data, "evaluation": evaluation}, f"the model without {name}")


def _without(model: Plain, name: str) -> Plain:
    model = copy.deepcopy(model)
    if model["kind"] == "late_fusion":
        return _without_member(model, name)
    if model["kind"] in ("tower_model", "ranker"):
        side, tower = model, name
    else:
        group, _, tower = name.partition(".")
        side = model[group] if group in ("query", "candidate") else model["candidates"][group]
    if "towers" not in side or len(side["towers"]) < 2:
        raise _Refused(f"it has no other tower, so that without {name} nothing is left to compare or to predict from")
    del side["towers"][tower]
    return model


def _without_member(model: Plain, name: str) -> Plain:
    del model["members"][name]
    model.get("objectives", {}).pop(name, None)
    weights = model["combine"].get("weights")
    if weights is not None:
        del weights[name]
    if model["combine"].get("first") == name:
        raise _Refused(f"{name} is the member that retrieves what the others order")
    if len(model["members"]) > 1:
        return model
    (only,) = model["members"].values()
    if model.get("objectives"):
        raise _Refused("what is left has losses of its own and is no fusion any more; train it by itself")
    if only["kind"] not in ("tower_model", "two_tower", "ranker", "late_fusion"):
        raise _Refused(
            f"what is left is one {only['kind']}, which is no model by itself; its figures stand among the members of the Run"
        )
    return dict(only)


def _plain_backbone(model: Plain) -> Plain:
    model = copy.deepcopy(model)
    heads = model.get("heads") or {}
    linear = not model.get("layers") and not any(head.get("layers") for head in heads.values())
    if model["backbone"]["kind"] == "concat" and not model["backbone"].get("dim") and linear:
        raise _Refused("it already is a concat with linear heads")
    model["backbone"] = {"kind": "concat"}
    if "layers" in model:
        model["layers"] = []
    for head in heads.values():
        if "layers" in head:
            head["layers"] = []
    return model


def _linear_head(model: Plain, head: str) -> Plain:
    model = copy.deepcopy(model)
    model["heads"][head]["layers"] = []
    return model
