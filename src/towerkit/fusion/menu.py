"""The menu of backbones."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from towerkit.fusion.aligned import AlignedSpec
from towerkit.fusion.experts import MmoeSpec, PleSpec
from towerkit.fusion.plain import PlainBackboneSpec

AnyBackboneSpec = Annotated[PlainBackboneSpec | MmoeSpec | PleSpec | AlignedSpec, Field(discriminator="kind")]
"""Each of them builds a module."""
