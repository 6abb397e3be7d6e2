"""The sorts of index as specs: how each is built from vectors under keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from towerkit.core.spec import Spec
from towerkit.index.exact import ExactIndex
from towerkit.index.faiss_index import FaissIndex, build_faiss
from towerkit.index.filling import Fill, alone
from towerkit.index.keyed import KeyedVectors
from towerkit.index.milvus_index import MilvusIndex, build_milvus


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
    """What faiss builds, such as ``HNSW32``, ``IVF1024,Flat``, ``IVF1024,PQ16``, ``HNSW32_SQ8``, ``Flat``."""
    ef_construction: int | None = Field(None, ge=1, le=65536)
    """Nodes of a graph that are kept while a vector is put in: more build slower, and find more. Of HNSW; none is faiss's, 40."""
    ef_search: int | None = Field(None, ge=1, le=65536)
    """Nodes of a graph that a search keeps: more find more, slower. Of HNSW; none is faiss's own, 16."""
    nprobe: int | None = Field(None, ge=1)
    """Lists that a search visits. Of IVF; none is faiss's own, 1."""
    dim: int | None = Field(None, ge=1)
    """Width that vectors are projected to for faiss: less memory, and more to refine. None is their own."""
    refine: int = Field(1, ge=1, le=100)
    """Proposals for each hit; these are compared as float32 vectors. More than 1 helps where faiss keeps fewer bits."""

    def build(self, stored: KeyedVectors, space: str | None = None, fill: Fill = alone) -> FaissIndex:
        """Train and fill an index.

        Args:
            stored: Keys and vectors.
            space: The embedding-space id.
            fill: Puts the vectors in.

        Raises:
            SpecError: If faiss knows no such factory, or it does not suit the vectors or the settings.
            MissingExtraError: If faiss is not installed.
        """
        return build_faiss(
            stored,
            self.factory,
            ef_construction=self.ef_construction,
            ef_search=self.ef_search,
            nprobe=self.nprobe,
            refine=self.refine,
            dim=self.dim,
            space=space,
            fill=fill,
        )


class MilvusIndexSpec(Spec):
    """A collection of Milvus, embedded or of the cluster that ``TOWERKIT_MILVUS_URI`` names."""

    kind: Literal["milvus"] = "milvus"
    index_type: Literal["FLAT", "HNSW", "IVF_FLAT", "AUTOINDEX"] = "HNSW"
    """What Milvus builds."""
    ef_search: int | None = Field(None, ge=1, le=32768)
    """Nodes of a graph that a search keeps; of HNSW."""
    nprobe: int | None = Field(None, ge=1, le=65536)
    """Lists that a search visits; of IVF_FLAT."""
    refine: int = Field(1, ge=1, le=100)
    """Proposals for each hit."""

    @model_validator(mode="after")
    def _settings_suit(self) -> MilvusIndexSpec:
        for name, of in (("ef_search", "HNSW"), ("nprobe", "IVF_FLAT")):
            if getattr(self, name) is not None and self.index_type != of:
                raise ValueError(f"{name} is a setting of {of}; {self.index_type} has none. Leave it out.")
        return self

    def build(self, stored: KeyedVectors, space: str | None = None) -> MilvusIndex:
        """Fill a new collection.

        Args:
            stored: Keys and vectors.
            space: The embedding-space id.

        Raises:
            RunError: If Milvus cannot be reached, or refuses.
            MissingExtraError: If its client is not installed.
        """
        told = {"ef": self.ef_search, "nprobe": self.nprobe}
        params = {name: value for name, value in told.items() if value is not None}
        return build_milvus(stored, self.index_type, params=params, refine=self.refine, space=space)


AnySpec = ExactIndexSpec | FaissIndexSpec | MilvusIndexSpec
IndexSpec = Annotated[AnySpec, Field(discriminator="kind")]
"""The menu."""


class IndexChoice(Spec):
    """The one key of a file that names an index."""

    index: IndexSpec
