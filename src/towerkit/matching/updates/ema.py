"""Momentum update: a side's slow copy is what the other side learns against."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from towerkit.core.nesting import below
from towerkit.data.batch import Batch
from towerkit.data.splits import Rows
from towerkit.features.encoded import Encoded
from towerkit.matching.updates.base import GradientUpdate, SideName, UpdateSpec, View, side_of

if TYPE_CHECKING:
    from towerkit.models.side import Side
    from towerkit.models.two_tower import Encoding, TwoTower


class MomentumUpdate(GradientUpdate):
    """Each side learns by gradient, but against a slow copy of a side that has one.

    Two views: in the first the candidates learn, in the second the queries, each against the other's constant vectors:
    those of its slow copy where it has one. With ``momentum`` 0 the sum of the two gradients is that of two-backprop.

    Args:
        sides: Which sides have a slow copy.
        momentum: Share of the slow copy that stays at each step.

    Reference: Lee et al., Bootstrapping User and Item Representations, SIGIR 2021 (arXiv 2105.06323), there on both
        sides, without negatives, and with a predictor on top.
    """

    def __init__(self, sides: tuple[SideName, ...], momentum: float) -> None:
        self.sides, self.momentum = sides, momentum
        self.slow: dict[SideName, Side] = {}

    def begin(self, model: TwoTower, encoded: Encoded, rows: Rows) -> None:
        """The slow copies start where the sides do."""
        for name in self.sides:
            self.slow[name] = deepcopy(side_of(model, name)).requires_grad_(False)

    def views(self, model: TwoTower, batch: Batch, query: Encoding, candidate: Encoding) -> list[View]:
        """Candidates against slow queries, and queries against slow candidates."""
        slow_query = self._constant("query", batch, model.query_entity, query)
        slow_candidate = self._constant("candidate", batch, model.candidate_entity, candidate)
        return [(slow_query, candidate.vectors), (query.vectors, slow_candidate)]

    @torch.no_grad()
    def _constant(self, name: SideName, batch: Batch, entity: str, own: Encoding) -> Tensor:
        slow = self.slow.get(name)
        return own.vectors.detach() if slow is None else slow(batch.columns[entity])

    @torch.no_grad()
    def after_step(self, model: TwoTower, batch: Batch) -> None:
        """The slow copies follow."""
        for name, slow in self.slow.items():
            slow.train(side_of(model, name).training)
            for behind, ahead in zip(
                slow.state_dict().values(), side_of(model, name).state_dict().values(), strict=True
            ):
                behind.lerp_(ahead, 1.0 - self.momentum) if behind.is_floating_point() else behind.copy_(ahead)

    def state(self) -> dict[str, Tensor]:
        """The slow copies' weights."""
        return {f"{name}.{key}": t for name, slow in self.slow.items() for key, t in slow.state_dict().items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take the slow copies' weights back."""
        for name, slow in self.slow.items():
            slow.load_state_dict(below(name, state))


class EmaSpec(UpdateSpec):
    """Steadier targets: a side learns against a moving average of the other one."""

    kind: Literal["ema"] = "ema"
    side: Literal["query", "candidate", "both"] = "query"
    """Which side has a slow copy."""
    momentum: float = Field(0.99, ge=0.0, lt=1.0)

    def build(self) -> MomentumUpdate:
        """The update."""
        return MomentumUpdate(("query", "candidate") if self.side == "both" else (self.side,), self.momentum)
