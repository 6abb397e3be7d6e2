"""Balancers: several loss terms to one step. ``AnyBalanceSpec`` is the menu."""

from typing import Annotated

from pydantic import Field

from towerkit.objectives.balancer import Balancer, BalanceSpec, Reached
from towerkit.objectives.surgery import (
    CagradBalance,
    CagradBalanceSpec,
    ParetoBalance,
    ParetoBalanceSpec,
    PcgradBalance,
    PcgradBalanceSpec,
)
from towerkit.objectives.task_weights import (
    DwaBalance,
    DwaBalanceSpec,
    FixedBalance,
    FixedBalanceSpec,
    GradNormBalance,
    GradNormBalanceSpec,
    UncertaintyBalance,
    UncertaintyBalanceSpec,
)

AnyBalanceSpec = Annotated[
    FixedBalanceSpec
    | UncertaintyBalanceSpec
    | DwaBalanceSpec
    | GradNormBalanceSpec
    | PcgradBalanceSpec
    | CagradBalanceSpec
    | ParetoBalanceSpec,
    Field(discriminator="kind"),
]
"""The menu of balancers."""

__all__ = [
    "AnyBalanceSpec",
    "BalanceSpec",
    "Balancer",
    "CagradBalance",
    "CagradBalanceSpec",
    "DwaBalance",
    "DwaBalanceSpec",
    "FixedBalance",
    "FixedBalanceSpec",
    "GradNormBalance",
    "GradNormBalanceSpec",
    "ParetoBalance",
    "ParetoBalanceSpec",
    "PcgradBalance",
    "PcgradBalanceSpec",
    "Reached",
    "UncertaintyBalance",
    "UncertaintyBalanceSpec",
]
