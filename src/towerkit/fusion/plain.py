"""The backbones that a map may stand behind."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from towerkit.fusion.attention import AttentionSpec, TokensSpec
from towerkit.fusion.concat import ConcatSpec, LinearSpec
from towerkit.fusion.cross import CrossSpec
from towerkit.fusion.gated import GatedSpec
from towerkit.fusion.pooled import MaxSpec, MeanSpec, ProductSpec, SumSpec

PlainBackboneSpec = Annotated[
    ConcatSpec
    | LinearSpec
    | SumSpec
    | MeanSpec
    | MaxSpec
    | ProductSpec
    | GatedSpec
    | CrossSpec
    | AttentionSpec
    | TokensSpec,
    Field(discriminator="kind"),
]
"""Each makes one vector of all towers."""
