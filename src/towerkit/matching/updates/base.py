"""What an update is: how the gradient reaches each side of a two-tower, and what else moves it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor, nn

from towerkit.core.spec import Spec
from towerkit.core.world import ALONE, World
from towerkit.data.batch import Batch
from towerkit.data.splits import Rows
from towerkit.features.encoded import Encoded

if TYPE_CHECKING:
    from towerkit.models.side import Side
    from towerkit.models.two_tower import Encoding, TwoTower

View = tuple[Tensor, Tensor]
"""Query vectors and candidate vectors, for each distinct row of a batch, as one loss shall see them."""
SideName = Literal["query", "candidate"]


class Update(Protocol):
    """How the gradient reaches each side, and what moves after the optimizer's step."""

    world: World
    """Who takes the steps together."""

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """The parameters that the optimizer moves."""

    def begin(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """Set what it needs before the first step; a resumed training calls :meth:`restore` after it.

        Args:
            model: Built, not yet trained.
            encoded: All arrays.
            rows: The example rows that are trained on.
        """

    def views(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> list[View]:
        """What the loss shall see; the losses of several views add up."""

    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Move what has no gradient."""

    def after_epoch(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """Move what moves once per epoch."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs beside the model's weights."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`, after :meth:`begin`."""


class GradientUpdate:
    """The parts that an update by gradients alone shares: everything is trainable and nothing else moves."""

    world: World = ALONE

    def trainable(self, model: TwoTower) -> Iterator[nn.Parameter]:
        """The parameters that the optimizer moves."""
        return (parameter for parameter in model.parameters() if parameter.requires_grad)

    def begin(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """Nothing to set."""

    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """Nothing more moves."""

    def after_epoch(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """Nothing more moves."""

    def state(self) -> dict[str, Tensor]:
        """Nothing is remembered."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing is remembered."""


class UpdateSpec(Spec):
    """The configuration of an update."""

    def build(self) -> Update:
        """The update."""
        raise NotImplementedError


def side_of(model: TwoTower, name: SideName) -> Side:
    """The side of a model by name."""
    return model.query if name == "query" else model.candidate
