"""Negatives: which candidates a positive is compared with. ``AnyNegativesSpec`` is the menu; several make a mixture."""

from typing import Annotated

from pydantic import Field

from towerkit.core.spec import kind_or
from towerkit.matching.negatives.base import Material, Source
from towerkit.matching.negatives.batch import InBatchSpec, QueueSpec
from towerkit.matching.negatives.hard import HardSpec
from towerkit.matching.negatives.known import KnownPairs
from towerkit.matching.negatives.mixture import AllCandidates, Negatives
from towerkit.matching.negatives.popularity import PopularitySpec
from towerkit.matching.negatives.uniform import UniformSpec

AnyNegativesSpec = Annotated[
    Annotated[UniformSpec | PopularitySpec | InBatchSpec | HardSpec | QueueSpec, Field(discriminator="kind")],
    kind_or("uniform"),
]

__all__ = [
    "AllCandidates",
    "AnyNegativesSpec",
    "HardSpec",
    "InBatchSpec",
    "KnownPairs",
    "Material",
    "Negatives",
    "PopularitySpec",
    "QueueSpec",
    "Source",
    "UniformSpec",
]
