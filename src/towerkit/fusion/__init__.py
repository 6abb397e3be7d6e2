"""Backbones: many vectors to one state, or to one for each task. ``AnyBackboneSpec`` is the menu."""

from towerkit.fusion.aligned import Aligned, AlignedSpec
from towerkit.fusion.attention import Attention, AttentionSpec, Tokens, TokensSpec
from towerkit.fusion.auto import AnyFusionSpec, AutoSpec
from towerkit.fusion.base import Backbone, BackboneSpec
from towerkit.fusion.concat import Concat, ConcatSpec, Linear, LinearSpec
from towerkit.fusion.cross import Cross, CrossSpec
from towerkit.fusion.experts import Mmoe, MmoeSpec, Ple, PleSpec
from towerkit.fusion.gated import Gated, GatedSpec
from towerkit.fusion.menu import AnyBackboneSpec
from towerkit.fusion.pooled import MaxSpec, MeanSpec, Pooled, ProductSpec, SumSpec

__all__ = [
    "Aligned",
    "AlignedSpec",
    "AnyBackboneSpec",
    "AnyFusionSpec",
    "Attention",
    "AttentionSpec",
    "AutoSpec",
    "Backbone",
    "BackboneSpec",
    "Concat",
    "ConcatSpec",
    "Cross",
    "CrossSpec",
    "Gated",
    "GatedSpec",
    "Linear",
    "LinearSpec",
    "MaxSpec",
    "MeanSpec",
    "Mmoe",
    "MmoeSpec",
    "Ple",
    "PleSpec",
    "Pooled",
    "ProductSpec",
    "SumSpec",
    "Tokens",
    "TokensSpec",
]
