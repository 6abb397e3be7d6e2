"""Layers of a tower by depth: how fast each moves, and from which epoch on.

What a tower learned elsewhere is most general near its input and most special near its output, so the deep layers are moved less,
and later.

Reference: Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018 (arXiv 1801.06146).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from towerkit.towers import Tower
from towerkit.training.optimizers import Optimizer
from towerkit.training.tower_spec import TowerTrainingSpec


def layers_of(tower: Tower) -> list[list[nn.Parameter]]:
    """The parameters of a tower that are trained, in layers from its input to its output.

    A numbered part is a layer, as the blocks of a transformer are; what stands beside each other (the columns of a table) is one; a
    part of norms alone belongs to the layer before it, and a vector that stands for missing input to the last.

    Args:
        tower: Frozen parameters are in no layer.

    Returns:
        At least one layer, unless nothing is trained.
    """
    named = [(name, parameter) for name, parameter in tower.named_parameters() if parameter.requires_grad]
    last = [parameter for name, parameter in named if name.rpartition(".")[2] == "absent" and "parts." not in name]
    kept = {id(parameter) for parameter in last}
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named:
        if id(parameter) not in kept:
            layers.setdefault(_layer(name, tower.side_by_side), []).append(parameter)
    found: list[list[nn.Parameter]] = []
    for parameters in layers.values():
        if found and all(parameter.dim() < 2 for parameter in parameters):
            found[-1] += parameters
        else:
            found.append(parameters)
    if found:
        found[-1] += last
        return found
    return [last] if last else []


def _layer(name: str, side_by_side: Iterable[str]) -> str:
    """The part of a parameter's name that says which layer it is of."""
    *parts, _ = name.split(".")
    if parts and parts[0] in side_by_side:
        return parts[0]
    number = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[:2] if number is None else parts[: number + 1])


def paces(tower: Tower, own: TowerTrainingSpec) -> Iterator[tuple[nn.Parameter, float]]:
    """The factor of the step size of each parameter of a tower that is trained.

    Args:
        tower: Whose parameters.
        own: How it is trained.
    """
    factors = {id(parameter): factor for parameter, factor in tower.rates()}
    for depth, parameters in enumerate(reversed(layers_of(tower))):
        for parameter in parameters:
            yield parameter, own.lr_factor * own.lr_decay**depth * factors.get(id(parameter), 1.0)


def scale_towers(optimizer: Optimizer, towers: Mapping[str, Tower], settings: Mapping[str, TowerTrainingSpec]) -> None:
    """Let an optimizer move towers, and their layers, at their own pace.

    Args:
        optimizer: Over the model's parameters.
        towers: By name.
        settings: Of some of them.
    """
    for name, own in settings.items():
        if own.lr_factor != 1.0 or own.lr_decay != 1.0:
            for parameter, factor in paces(towers[name], own):
                optimizer.scale(parameter, factor)


class Unfreezing:
    """Towers whose layers begin to move one after the other, the last one first: a pure function of the epoch.

    Args:
        towers: By name, before any layer was frozen here.
        settings: Of some of them.
    """

    def __init__(self, towers: Mapping[str, Tower], settings: Mapping[str, TowerTrainingSpec]) -> None:
        self.layers = {
            name: (own.unfreeze, layers_of(towers[name])) for name, own in settings.items() if own.unfreeze is not None
        }

    def __call__(self, epoch: int) -> None:
        """Let the layers move that have their turn.

        Args:
            epoch: The one that begins, from 0.
        """
        for every, layers in self.layers.values():
            assert every is not None
            for depth, parameters in enumerate(reversed(layers)):
                for parameter in parameters:
                    parameter.requires_grad_(epoch >= depth * every)
