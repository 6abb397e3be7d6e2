"""The sorts of index as specs: how each is built from vectors under keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from towerkit.core.spec import Spec
from towerkit.index.exact import ExactIndex
from towerkit.index.faiss_index import FaissIndex, build_faiss
from towerkit.index.keyed import KeyedVectors


class ExactIndexSpec(Spec):
    """Every candidate is compared: nothing is missed, and nothing has to be built."""

    kind: Literal["exact"] = "exact"

    def build(self, stored: KeyedVectors, space: str | None = None) -> ExactIndex:
        """An index of these vectors.

        Args:
            stored: Keys and vectors.
            space: The embedding-space id.
        """
        return ExactIndex(stored, space)


class FaissIndexSpec(Spec):
    """An index of faiss by its factory string."""

    kind: Literal["faiss"] = "faiss"
    factory: str = Field("HNSW32", min_length=1, max_length=200)
    """What faiss builds, such as ``HNSW32``, ``IVF1024,Flat``, ``IVF1024,PQ16``, ``HNSW32_SQ8``, ``PCA32,HNSW32``, ``Flat``."""
    ef_search: int | None = Field(None, ge=1, le=65536)
    """Nodes of a graph that a search keeps: more find more, slower. Of HNSW; none is faiss's own, 16."""
    nprobe: int | None = Field(None, ge=1)
    """Lists that a search visits. Of IVF; none is faiss's own, 1."""
    dim: int | None = Field(None, ge=1)
    """Width that vectors are projected to for faiss: less memory, and more to refine. None is their own."""
    refine: int = Field(1, ge=1, le=100)
    """Proposals for each hit; these are compared as float32 vectors. More than 1 helps where faiss keeps fewer bits."""

    def build(self, stored: KeyedVectors, space: str | None = None) -> FaissIndex:
        """Train and fill an index.

        Args:
            stored: Keys and vectors.
            space: The embedding-space id.

        Raises:
            SpecError: If faiss knows no such factory, or it does not suit the vectors or the settings.
            MissingExtraError: If faiss is not installed.
        """
        return build_faiss(
            stored,
            self.factory,
            ef_search=self.ef_search,
            nprobe=self.nprobe,
            refine=self.refine,
            dim=self.dim,
            space=space,
        )


AnySpec = ExactIndexSpec | FaissIndexSpec
IndexSpec = Annotated[AnySpec, Field(discriminator="kind")]
"""The menu."""


class IndexChoice(Spec):
    """The one key of a file that names an index."""

    index: IndexSpec
