"""Everything that training moves, and the step that moves it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from towerkit.core.errors import TrainingError
from towerkit.core.world import ALONE, World
from towerkit.data.batch import Batch
from towerkit.matching.updates import OneBackprop, Update
from towerkit.objectives.balance import Balancer
from towerkit.objectives.base import Objective
from towerkit.towers import Tower
from towerkit.training.optimizers import Optimizer
from towerkit.training.together import reduce_gradients, shared_terms


@dataclass
class TrainState:
    """The model, what minimises it, and how far it has come."""

    model: Any
    """A ``TwoTower`` or a ``TowerModel``; only the objective knows which."""
    objective: Objective
    balancer: Balancer
    update: Update | None
    """None for models without a query side."""
    optimizer: Optimizer
    step: int = 0
    forward: Any = None
    """What the objective calls in training: the model, unless something runs it in chunks or in another precision."""
    world: World = ALONE
    """Who takes the steps together; see :meth:`join`."""
    at_home: frozenset[int] = frozenset()
    """Places in the optimizer of tables whose rows each belong to one process."""
    gathered: dict[str, Tensor] = field(default_factory=dict)
    """What the optimizers of all processes remember of rows that are theirs, brought together; named as in
    :meth:`Optimizer.state`."""

    def __post_init__(self) -> None:
        self.forward = self.model if self.forward is None else self.forward

    def join(self, world: World) -> None:
        """Take the steps together with other processes from now on.

        Args:
            world: This process among them.
        """
        self.world = self.objective.world = world
        if self.update is not None:
            self.update.world = world

    @property
    def learns(self) -> bool:
        """Whether steps change anything: something is moved by gradients, or the update moves vectors without them."""
        return bool(self.optimizer.parameters) or isinstance(self.update, OneBackprop)


def train_step(state: TrainState, batch: Batch, *, more: Iterable[Batch] = ()) -> float:
    """The whole training step; returns the balanced loss of the batch.

    Args:
        state: Moved in place.
        batch: What to learn from.
        more: Further batches whose gradients are accumulated before the weights move; the mean gradient counts. Each is
            drawn only when the one before it is done, so that a queue of negatives knows it.

    Raises:
        LossError: If the loss is not a finite number; the model keeps the weights of the step before.
    """
    state.optimizer.zero_grad()
    losses = []
    for each in chain([batch], more):
        terms = shared_terms(state.world, state.objective, state.forward, each)
        if terms:  # else no row of the batch has a label: nothing to learn from it
            losses.append(state.balancer.backward(terms))
            check_finite(losses[-1], terms, state.step)
        state.objective.after_step()
    reduce_gradients(state.world, state.optimizer.parameters, state.at_home)
    state.optimizer.step(batches=max(1, len(losses)))
    if state.update is not None:
        state.update.after_step(state.model, each)
    state.step += 1
    return sum(losses) / max(1, len(losses))


def check_finite(loss: float, terms: Mapping[str, Tensor], step: int) -> None:
    """Stop before a bad loss reaches the weights.

    Raises:
        LossError: If the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        parts = ", ".join(f"{name} {term.item():.4g}" for name, term in terms.items())
        raise LossError(
            f"The loss must be finite; at step {step} it is {loss} ({parts}). "
            "Lower training.optimizer.lr, raise the temperature, or look for absurd values in the columns."
        )


class LossError(TrainingError):
    """A loss is not a finite number."""


@contextmanager
def seeded_torch(key: int) -> Iterator[None]:
    """Initialisation and dropout draw from ``key`` inside the block; torch's own generator is as before afterwards.

    Torch's layers take no generator, so its global one is forked: the one place in the library that touches it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key % 2**63)
        yield


def settle(model: nn.Module) -> None:
    """Let every tower bring in order what follows from its weights, such as the vector of unknown ids."""
    for module in model.modules():
        if isinstance(module, Tower):
            module.settle()


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
