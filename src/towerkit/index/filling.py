"""Who puts vectors into an index of faiss: this process, or several workers with a shard each, which are merged.

Inverted lists can be cut: a vector goes into the list of the nearest of the learned centers, whoever looks for it. So an index is
trained once, each worker gets that one, empty, and some of the vectors, and the lists of the shards are put behind each other in
the order of their rows. A graph cannot: each vector is put in beside all that were put in before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from towerkit.core.optional import optional_import
from towerkit.data.stream.pieces import ForEach
from towerkit.index.contract import Floats

Fill: TypeAlias = Callable[[Any, Floats], None]
"""Puts vectors behind those of a trained index."""
Octets: TypeAlias = NDArray[np.uint8]
_ROWS = 262_144
"""Vectors of a shard: at 64 numbers 64 MB on their way to a worker, and less on their way back."""


def alone(native: Any, vectors: Floats) -> None:
    """Fill an index here.

    Args:
        native: A trained index of faiss.
        vectors: ``[n, native dim]``.
    """
    native.add(vectors)


def by_shards(each: ForEach, rows: int = _ROWS) -> Fill:
    """Fill inverted lists in shards; an index that has none is filled here.

    A vector that is as near to one center as to another, up to rounding, may go into the list of the other: rounding follows the
    number of rows of a product.

    Args:
        each: Who fills the shards.
        rows: Vectors of a shard.
    """

    def fill(native: Any, vectors: Floats) -> None:
        if not has_lists(native):
            alone(native, vectors)
            return
        faiss = optional_import("faiss", extra="ann")
        empty = faiss.serialize_index(native)
        pieces = [vectors[start : start + rows] for start in range(0, len(vectors), rows)]
        lists = faiss.extract_index_ivf(native)
        for octets in each(partial(filled, empty), pieces):
            shard = faiss.deserialize_index(octets)  # has a name while its lists are used, for they do not hold it
            lists.merge_from(faiss.extract_index_ivf(shard), lists.ntotal)
        native.ntotal = lists.ntotal  # of what stands before the lists, such as a rotation

    return fill


def filled(empty: Octets, vectors: Floats) -> Octets:
    """A shard, as bytes that faiss reads.

    Args:
        empty: A trained index, as bytes that this library wrote.
        vectors: ``[n, native dim]``.
    """
    faiss = optional_import("faiss", extra="ann")
    native = faiss.deserialize_index(np.array(empty))
    native.add(np.ascontiguousarray(vectors))
    return np.asarray(faiss.serialize_index(native))


def has_lists(native: Any) -> bool:
    """Whether an index of faiss has inverted lists of its own, perhaps behind a change of its vectors.

    Args:
        native: Any index of faiss.
    """
    faiss = optional_import("faiss", extra="ann")
    while isinstance(native, faiss.IndexPreTransform):
        native = faiss.downcast_index(native.index)
    return isinstance(native, faiss.IndexIVF)
