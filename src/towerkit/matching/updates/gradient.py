"""Updates by gradients alone: both sides, one side, or each in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from towerkit.data.batch import Batch
from towerkit.matching.updates.base import GradientUpdate, SideName, UpdateSpec, View, side_of

if TYPE_CHECKING:
    from towerkit.models.two_tower import Encoding, TwoTower


class TwoBackprop(GradientUpdate):
    """Both sides move by their gradients: the usual way."""

    def views(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> list[View]:
        """The vectors as they are."""
        return [(query.vectors, candidate.vectors)]


class StopGradient(GradientUpdate):
    """One side rests where it started; only the other one learns.

    Args:
        side: The side that rests.
    """

    def __init__(self, side: SideName) -> None:
        self.side: SideName = side

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """The parameters of the other side; those of this one alone are frozen here."""
        other = {id(each) for each in side_of(model, "candidate" if self.side == "query" else "query").parameters()}
        for parameter in side_of(model, self.side).parameters():
            if self.side == "candidate" or id(parameter) not in other:  # a history may pool the candidates' vectors
                parameter.requires_grad_(False)
        return super().trainable(model)

    def views(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> list[View]:
        """The resting side's vectors are constants."""
        if self.side == "query":
            return [(query.vectors.detach(), candidate.vectors)]
        return [(query.vectors, candidate.vectors.detach())]


class Alternating(GradientUpdate):
    """The sides learn in turn: some steps the candidate side, then as many the query side.

    Args:
        every: Steps before the turn changes.
    """

    def __init__(self, every: int) -> None:
        self.every, self.steps = every, 0

    def views(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> list[View]:
        """The vectors of the side whose turn it is not are constants."""
        if self.steps // self.every % 2 == 0:
            return [(query.vectors.detach(), candidate.vectors)]
        return [(query.vectors, candidate.vectors.detach())]

    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Count the step."""
        self.steps += 1

    def state(self) -> dict[str, Tensor]:
        """Whose turn it is."""
        return {"steps": torch.tensor(self.steps)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the turn back."""
        self.steps = int(state["steps"])


class TwoBackpropSpec(UpdateSpec):
    """Both sides learn by gradient."""

    kind: Literal["two_backprop"] = "two_backprop"

    def build(self) -> TwoBackprop:
        """The update."""
        return TwoBackprop()


class StopGradientSpec(UpdateSpec):
    """One side keeps its start (a pretrained or spectral one, say), the other learns."""

    kind: Literal["stop_gradient"] = "stop_gradient"
    side: SideName = "query"

    def build(self) -> StopGradient:
        """The update."""
        return StopGradient(self.side)


class AlternatingSpec(UpdateSpec):
    """The sides learn in turn, the candidates first."""

    kind: Literal["alternating"] = "alternating"
    every: int = Field(1, ge=1)
    """Steps before the turn changes."""

    def build(self) -> Alternating:
        """The update."""
        return Alternating(self.every)
