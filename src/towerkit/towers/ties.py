"""Towers that have the weights of another one: one set of weights over two columns, saved once, moved by the gradients of both."""

from __future__ import annotations

import copy
from typing import Any, Self

from pydantic import Field

from towerkit.core.errors import SpecError
from towerkit.towers.base import Tower, TowerContext, TowerSpec

OWN, CANDIDATE = "own", "candidate"
_APART = {"entity", "of", "columns", "column", "root", "pattern", "on_error", "start"}
"""What two towers with the same weights need not have in common: what they read, and where it is."""


class OneFeatureTower(Tower):
    """A tower over one feature, which may be another feature with the same weights."""

    feature: str
    """Key of the column that it reads."""

    def over(self, feature: str) -> Self:
        """A tower with the same weights, which moves with this one, over another column.

        Args:
            feature: Its key.
        """
        twin = copy.copy(self)  # shallow: parameters and parts are the same objects
        twin.feature = feature
        return twin


class TiedTowerSpec(TowerSpec):
    """A tower whose weights may be those of another tower of its kind."""

    of: str = Field(OWN, pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    """Whose weights it has: its own, in a tower model those of the tower of that name, on the query side of a two-tower those of
    the ``candidate`` side's tower of this kind."""

    @property
    def tied_to(self) -> str | None:
        """Whose weights it has; None where they are its own."""
        return None if self.of == OWN else self.of

    def common(self) -> dict[str, Any]:
        """The settings that two towers with the same weights have in common."""
        return self.model_dump(exclude=_APART)

    def twin(self, context: TowerContext) -> Tower | None:
        """The tower whose weights it has; None where they are its own.

        Args:
            context: Has it.

        Raises:
            SpecError: If it has not.
        """
        if self.tied_to is not None and context.twin is None:
            raise SpecError(f"of: {self.of} has the weights of another tower, and there is not one. Use of: {OWN}.")
        return None if self.tied_to is None else context.twin
