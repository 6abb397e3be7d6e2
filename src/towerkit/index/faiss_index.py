"""Approximate search by faiss: graphs (HNSW), inverted lists (IVF), and vectors in fewer bits (SQ, PQ).

Reference: Douze et al., The Faiss library, 2024 (https://arxiv.org/abs/2401.08281); Malkov and Yashunin, Efficient and robust
approximate nearest neighbor search using Hierarchical Navigable Small World graphs, 2018.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import RunError, SpecError
from towerkit.core.optional import optional_import
from towerkit.index.approximate import ApproximateIndex
from towerkit.index.contract import Floats, Rows, Similarity
from towerkit.index.filling import Fill, alone
from towerkit.index.keyed import KeyedVectors

_EXAMPLES = "'HNSW32', 'IVF1024,Flat', 'IVF1024,PQ16', 'HNSW32_SQ8', 'Flat'"
_SEED = 1234
"""Of k-means in faiss, which is its own default: an index built twice is the same."""


class FaissIndex(ApproximateIndex):
    """Candidates in an index of faiss.

    A dot product and a cosine are faiss's inner product, of vectors at length one for a cosine; a distance is its L2.

    Args:
        stored: Keys and vectors.
        native: The index of faiss; it holds a vector per label.
        labels: ``[labels]`` the row of each.
        space: The embedding-space id.
        refine: Proposals for each hit.
        axes: ``[dim, native dim]`` what faiss's vectors are projected on; None where it holds them as they are.
    """

    kind = "faiss"

    def __init__(
        self,
        stored: KeyedVectors,
        native: Any,
        labels: Rows,
        space: str | None = None,
        *,
        refine: int = 1,
        axes: Floats | None = None,
    ) -> None:
        super().__init__(stored, labels, space, refine=refine)
        self.native, self.axes = native, axes

    def _nearest(self, queries: Floats, count: int) -> NDArray[np.int64]:
        _, labels = self.native.search(projected(queries, self.axes), count)
        return np.asarray(labels, np.int64)

    def _add(self, ready: Floats) -> None:
        self.native.add(projected(ready, self.axes))


def build_faiss(
    stored: KeyedVectors,
    factory: str,
    *,
    ef_construction: int | None = None,
    ef_search: int | None = None,
    nprobe: int | None = None,
    refine: int = 1,
    dim: int | None = None,
    space: str | None = None,
    fill: Fill = alone,
) -> FaissIndex:
    """Train an index of faiss and fill it.

    Args:
        stored: Keys and vectors.
        factory: What faiss calls a factory string.
        ef_construction: Nodes of a graph that are kept while a vector is put in; only for HNSW.
        ef_search: Nodes of a graph that a search keeps; only for HNSW.
        nprobe: Lists that a search visits; only for IVF.
        refine: Proposals for each hit.
        dim: Width that vectors are projected to for faiss.
        space: The embedding-space id.
        fill: Puts the vectors in.

    Raises:
        SpecError: If faiss knows no such factory, it does not suit the vectors, or it has no such setting.
        MissingExtraError: If faiss is not installed.
    """
    rows = np.flatnonzero(stored.used)
    vectors = stored.vectors if len(rows) == stored.num_rows else stored.vectors[rows]
    axes = None if dim is None else main_axes(vectors, dim)
    native = new_native(factory, dim or stored.measure.dim, stored.measure.similarity)
    set_effort(native, factory, ef_construction=ef_construction, ef_search=ef_search, nprobe=nprobe)
    vectors = projected(vectors, axes)
    try:
        if not native.is_trained:
            native.train(vectors)
        fill(native, vectors)
    except RuntimeError as error:
        raise SpecError(
            f"faiss cannot build '{factory}' from {len(rows):,} vectors of width {stored.measure.dim}: {_told(error)}. Choose "
            "fewer lists (IVF) or fewer bits (PQ), or HNSW32, which learns nothing."
        ) from None
    return FaissIndex(stored, native, rows, space, refine=refine, axes=axes)


def projected(vectors: Floats, axes: Floats | None) -> Floats:
    """``[n, native dim]`` what faiss is given of vectors.

    Args:
        vectors: ``[n, dim]``, ready.
        axes: ``[dim, native dim]``; None for as they are.
    """
    return np.ascontiguousarray(vectors if axes is None else vectors @ axes, np.float32)


def main_axes(vectors: Floats, dim: int) -> Floats:
    """``[dim of the vectors, dim]`` orthonormal axes that keep most of the squared lengths: inner products change least.

    They go through zero, not through the mean as those of faiss's own PCA do, which would change every inner product.

    Args:
        vectors: ``[n, dim of the vectors]``, ready.
        dim: How many axes.

    Raises:
        SpecError: If there are not so many.
    """
    if dim >= vectors.shape[1]:
        raise SpecError(
            f"dim must be below the width of the vectors, {vectors.shape[1]}; received {dim}. Leave it out to keep all."
        )
    squares = (vectors.T @ vectors).astype(np.float64)
    return np.linalg.eigh(squares)[1][:, ::-1][:, :dim].astype(np.float32)


def new_native(factory: str, dim: int, similarity: Similarity) -> Any:
    """An empty index of faiss.

    Args:
        factory: What faiss calls a factory string.
        dim: Width of the vectors.
        similarity: How they are compared.

    Raises:
        SpecError: If faiss knows no such factory.
    """
    faiss = optional_import("faiss", extra="ann")
    metric = faiss.METRIC_L2 if similarity == "euclidean" else faiss.METRIC_INNER_PRODUCT
    try:
        return faiss.index_factory(dim, factory, metric)
    except RuntimeError as error:
        raise SpecError(
            f"faiss knows no index '{factory}' for vectors of width {dim} ({_told(error)}). Try {_EXAMPLES}."
        ) from None


def set_effort(
    native: Any,
    factory: str,
    *,
    ef_construction: int | None = None,
    ef_search: int | None = None,
    nprobe: int | None = None,
) -> None:
    """Say how much is looked at.

    Args:
        native: An index of faiss.
        factory: What it was made by, for messages.
        ef_construction: Nodes of a graph that are kept while a vector is put in.
        ef_search: Nodes of a graph that a search keeps.
        nprobe: Lists that a search visits.

    Raises:
        SpecError: If the index has no such setting.
    """
    space = optional_import("faiss", extra="ann").ParameterSpace()
    settings = {
        "ef_construction": ("HNSW", "efConstruction", ef_construction),
        "ef_search": ("HNSW", "efSearch", ef_search),
        "nprobe": ("IVF", "nprobe", nprobe),
    }
    for ours, (of, theirs, value) in settings.items():
        if value is not None:
            try:
                space.set_index_parameter(native, theirs, value)
            except RuntimeError:
                raise SpecError(f"{ours} is a setting of {of}; '{factory}' has none. Leave it out.") from None


def save_native(path: Path, native: Any) -> None:
    """Write an index of faiss to a file.

    Raises:
        RunError: If it cannot be written.
    """
    try:
        optional_import("faiss", extra="ann").write_index(native, str(path))
    except RuntimeError as error:
        raise RunError(f"{path} cannot be written ({_told(error)}); check the free space.") from None


def load_native(path: Path) -> Any:
    """Read an index of faiss from a file whose SHA-256 the caller has compared: faiss trusts what it reads.

    Raises:
        RunError: If faiss cannot read it.
    """
    try:
        return optional_import("faiss", extra="ann").read_index(str(path))
    except RuntimeError as error:
        raise RunError(
            f"{path}: faiss cannot read it ({_told(error)}). It may come from a newer faiss: build the index again."
        ) from None


def _told(error: RuntimeError) -> str:
    """What faiss says, without the place in its source."""
    text = re.sub(r"Error in .* at \S+:\d+: ", "", str(error)).removeprefix("Error: ").strip()
    return text.splitlines()[-1][:200].removeprefix("Error: ") if text else "no reason given"


def native_bytes(native: Any) -> int:
    """What an index of faiss takes in memory, by what it takes in a file."""
    return len(optional_import("faiss", extra="ann").serialize_index(native))
