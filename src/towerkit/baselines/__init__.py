"""The simple models that every result is compared with. ``AnyBaselineSpec`` is the menu of those that rank."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from towerkit.baselines.base import BaselineSpec, Interactions
from towerkit.baselines.bm25 import BM25, BM25Spec
from towerkit.baselines.cooccurrence import Cooccurrence, CooccurrenceSpec
from towerkit.baselines.ease import EASE, EASESpec
from towerkit.baselines.ials import IALS, IALSSpec
from towerkit.baselines.item_knn import ItemKNN, ItemKNNSpec
from towerkit.baselines.popularity import Popularity, PopularitySpec
from towerkit.baselines.recent_popularity import RecentPopularity, RecentPopularitySpec


def _by_name(value: Any) -> Any:
    """``ease`` is short for ``{kind: ease}``."""
    return {"kind": value} if isinstance(value, str) else value


AnyBaselineSpec = Annotated[
    Annotated[
        PopularitySpec | RecentPopularitySpec | ItemKNNSpec | CooccurrenceSpec | EASESpec | IALSSpec | BM25Spec,
        Field(discriminator="kind"),
    ],
    BeforeValidator(_by_name),
]

__all__ = [
    "BM25",
    "EASE",
    "IALS",
    "AnyBaselineSpec",
    "BM25Spec",
    "BaselineSpec",
    "Cooccurrence",
    "CooccurrenceSpec",
    "EASESpec",
    "IALSSpec",
    "Interactions",
    "ItemKNN",
    "ItemKNNSpec",
    "Popularity",
    "PopularitySpec",
    "RecentPopularity",
    "RecentPopularitySpec",
]
