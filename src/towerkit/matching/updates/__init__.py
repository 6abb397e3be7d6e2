"""Updates: how the gradient reaches each side of a two-tower, and what else moves it. ``AnyUpdateSpec`` is the menu."""

from typing import Annotated

from pydantic import Field

from towerkit.matching.updates.base import GradientUpdate, Update, UpdateSpec, View
from towerkit.matching.updates.ema import EmaSpec, MomentumUpdate
from towerkit.matching.updates.gradient import (
    Alternating,
    AlternatingSpec,
    StopGradient,
    StopGradientSpec,
    TwoBackprop,
    TwoBackpropSpec,
)
from towerkit.matching.updates.one_backprop import OneBackprop, OneBackpropSpec

AnyUpdateSpec = Annotated[
    TwoBackpropSpec | OneBackpropSpec | StopGradientSpec | EmaSpec | AlternatingSpec, Field(discriminator="kind")
]

__all__ = [
    "Alternating",
    "AlternatingSpec",
    "AnyUpdateSpec",
    "EmaSpec",
    "GradientUpdate",
    "MomentumUpdate",
    "OneBackprop",
    "OneBackpropSpec",
    "StopGradient",
    "StopGradientSpec",
    "TwoBackprop",
    "TwoBackpropSpec",
    "Update",
    "UpdateSpec",
    "View",
]
