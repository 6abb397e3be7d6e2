"""Backbones: many vectors to one state. ``AnyBackboneSpec`` is the menu."""

from typing import Annotated

from pydantic import Field

from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.concat import Concat, ConcatSpec
from towerkit.fusion.gated import Gated, GatedSpec
from towerkit.fusion.sum import Sum, SumSpec

AnyBackboneSpec = Annotated[ConcatSpec | SumSpec | GatedSpec, Field(discriminator="kind")]

__all__ = [
    "AnyBackboneSpec",
    "Backbone",
    "BackboneSpec",
    "Concat",
    "ConcatSpec",
    "Gated",
    "GatedSpec",
    "Sum",
    "SumSpec",
]
