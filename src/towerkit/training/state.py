"""Everything that training moves, and the step that moves it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from towerkit.core.errors import TrainingError
from towerkit.data.batch import Batch
from towerkit.matching.updates import Update
from towerkit.objectives.balance import Balancer
from towerkit.objectives.base import Objective
from towerkit.towers import Tower
from towerkit.training.optimizers import RowAdam


@dataclass
class TrainState:
    """The model, what minimises it, and how far it has come."""

    model: Any
    """A ``TwoTower`` or a ``TowerModel``; only the objective knows which."""
    objective: Objective
    balancer: Balancer
    update: Update | None
    """None for models without a query side."""
    optimizer: RowAdam
    step: int = 0


def train_step(state: TrainState, batch: Batch) -> float:
    """The whole training step; returns the balanced loss of the batch.

    Raises:
        TrainingError: If the loss is not a finite number; the model keeps the weights of the step before.
    """
    state.optimizer.zero_grad()
    terms = state.objective(state.model, batch)
    if not terms:  # no row of the batch has a label: nothing to learn from it
        state.step += 1
        return 0.0
    loss = state.balancer.backward(terms)
    check_finite(loss, terms, state.step)
    state.optimizer.step()
    if state.update is not None:
        state.update.after_step(state.model, batch)
    state.objective.after_step()
    state.step += 1
    return loss


def check_finite(loss: float, terms: Mapping[str, Tensor], step: int) -> None:
    """Stop before a bad loss reaches the weights.

    Raises:
        TrainingError: If the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        parts = ", ".join(f"{name} {term.item():.4g}" for name, term in terms.items())
        raise TrainingError(
            f"The loss must be finite; at step {step} it is {loss} ({parts}). "
            "Lower training.optimizer.lr, raise the temperature, or look for absurd values in the columns."
        )


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
