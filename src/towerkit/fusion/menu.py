"""The menu of backbones."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from towerkit.fusion.aligned import AlignedSpec
from towerkit.fusion.attention import AttentionSpec, TokensSpec
from towerkit.fusion.concat import ConcatSpec, LinearSpec
from towerkit.fusion.cross import CrossSpec
from towerkit.fusion.experts import MmoeSpec, PleSpec
from towerkit.fusion.gated import GatedSpec
from towerkit.fusion.pooled import MaxSpec, MeanSpec, ProductSpec, SumSpec

AnyBackboneSpec = Annotated[
    ConcatSpec
    | LinearSpec
    | SumSpec
    | MeanSpec
    | MaxSpec
    | ProductSpec
    | GatedSpec
    | CrossSpec
    | AttentionSpec
    | TokensSpec
    | MmoeSpec
    | PleSpec
    | AlignedSpec,
    Field(discriminator="kind"),
]
"""Each of them builds a module."""
