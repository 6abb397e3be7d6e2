"""Everything that training moves as named tensors, and back: what a training needs to go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from towerkit.core.errors import RunError
from towerkit.core.nesting import below
from towerkit.training.state import TrainState


def snapshot(state: TrainState) -> dict[str, Tensor]:
    """The whole state by name, ``part.name``; the tensors are those of the state, not copies.

    The torch generator is the one that dropout draws from, so call it where the steps run: inside
    :func:`~towerkit.training.state.seeded_torch`. Batches and negatives are pure functions of seed, epoch and step.

    Args:
        state: Between two steps; gradients are not part of it.
    """
    parts: dict[str, Mapping[str, Tensor]] = {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state() | state.gathered,
        "balancer": state.balancer.state_dict() if isinstance(state.balancer, nn.Module) else {},
        "objective": state.objective.state(),
        "update": {} if state.update is None else state.update.state(),
        "torch": {"generator": torch.default_generator.get_state(), "step": torch.tensor(state.step)},
    }
    return {f"{part}.{name}": tensor.detach() for part, tensors in parts.items() for name, tensor in tensors.items()}


def restore(state: TrainState, tensors: Mapping[str, Tensor], source: str) -> None:
    """The inverse of :func:`snapshot`, on a state that was prepared afresh from the same spec and data.

    Args:
        state: Prepared; moved in place. The tensors must not be used by anyone else afterwards.
        tensors: What :func:`snapshot` gave.
        source: What to call their origin in a message.

    Raises:
        RunError: If names or shapes are not those of the state.
    """
    try:
        state.model.load_state_dict(below("model", tensors))
        state.optimizer.restore(below("optimizer", tensors))
        if isinstance(state.balancer, nn.Module):
            state.balancer.load_state_dict(below("balancer", tensors))
        state.objective.restore(below("objective", tensors))
        if state.update is not None:
            state.update.restore(below("update", tensors))
        state.step = int(tensors["torch.step"])
        torch.default_generator.set_state(tensors["torch.generator"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise RunError(
            f"{source} does not fit the model that this version of towerkit builds from the same spec ({error}); "
            "train again from the start, without --resume."
        ) from None
