"""Approximate search by Milvus: the embedded milvus-lite, or a cluster by the same client.

Milvus is given vectors under labels and proposes labels; all else is done here, as for faiss (see
:mod:`towerkit.index.approximate`). An index has a collection of its own, which is filled when the index is built or opened and
dropped when it is closed. Without an address the collection is in a file of milvus-lite in a temporary folder;
``TOWERKIT_MILVUS_URI`` names a cluster, and ``TOWERKIT_MILVUS_TOKEN`` its user.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import RunError
from towerkit.core.optional import optional_import
from towerkit.index.approximate import ApproximateIndex
from towerkit.index.contract import Floats, Rows, Similarity
from towerkit.index.keyed import KeyedVectors

URI, TOKEN = "TOWERKIT_MILVUS_URI", "TOWERKIT_MILVUS_TOKEN"
_ROWS_AT_A_TIME = 4096
_SETTINGS = {"HNSW": {"M": 32, "efConstruction": 120}, "IVF_FLAT": {"nlist": 128}}


class MilvusIndex(ApproximateIndex):
    """Candidates in a collection of Milvus.

    Args:
        stored: Keys and vectors.
        client: Connected.
        collection: Its name; it holds a vector per label.
        params: What a search is told: ``ef`` or ``nprobe``.
        space: The embedding-space id.
        refine: Proposals for each hit.
        end: Drops the collection; called once, by :meth:`close` or when the index is gone.
    """

    kind = "milvus"

    def __init__(
        self,
        stored: KeyedVectors,
        client: Any,
        collection: str,
        params: dict[str, int],
        space: str | None = None,
        *,
        refine: int = 1,
        end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(stored, np.empty(0, np.int64), space, refine=refine)
        self._client, self._collection, self._params = client, collection, params
        self._end = weakref.finalize(self, end)
        self._written(np.flatnonzero(stored.used))

    def close(self) -> None:
        """Drop the collection; the index cannot be searched any more."""
        self._end()

    def _nearest(self, queries: Floats, count: int) -> NDArray[np.int64]:
        with _told("search"):
            found = self._client.search(
                self._collection,
                data=queries.tolist(),
                limit=count,
                anns_field="vector",
                search_params={"params": self._params},
                consistency_level="Strong",
            )
        labels = np.full((len(queries), count), -1, np.int64)
        for own, hits in zip(labels, found, strict=True):
            own[: len(hits)] = [hit["label"] for hit in hits]
        return labels

    def _add(self, ready: Floats) -> None:
        with _told("write"):
            for start in range(0, len(ready), _ROWS_AT_A_TIME):
                part = ready[start : start + _ROWS_AT_A_TIME].tolist()
                first = self.num_labels + start
                rows = [{"label": first + place, "vector": vector} for place, vector in enumerate(part)]
                self._client.insert(self._collection, rows)
            self._client.flush(self._collection)  # what is not flushed is searched many times as slowly

    def _removed(self, rows: Rows) -> None:
        old = self._label[rows]
        super()._removed(rows)
        gone = old[old >= 0].tolist()
        if gone:
            with _told("delete"):
                self._client.delete(self._collection, ids=gone)


def build_milvus(
    stored: KeyedVectors,
    index_type: str,
    *,
    params: dict[str, int],
    refine: int = 1,
    space: str | None = None,
) -> MilvusIndex:
    """A new collection, filled.

    Args:
        stored: Keys and vectors.
        index_type: ``FLAT``, ``HNSW``, ``IVF_FLAT`` or ``AUTOINDEX``.
        params: What a search is told.
        refine: Proposals for each hit.
        space: The embedding-space id.

    Raises:
        RunError: If Milvus cannot be reached, or refuses.
        MissingExtraError: If its client is not installed.
    """
    client, end = _connected()
    name = f"towerkit_{token_hex(8)}"
    try:
        with _told("make a collection"):
            _make(client, name, index_type, stored.measure.dim, stored.measure.similarity)
    except RunError:
        end()
        raise

    def drop() -> None:
        with suppress(Exception):  # the server may be gone
            client.drop_collection(name)
        end()

    return MilvusIndex(stored, client, name, params, space, refine=refine, end=drop)


def _make(client: Any, name: str, index_type: str, dim: int, similarity: Similarity) -> None:
    """An empty collection of labels and vectors."""
    types = optional_import("pymilvus", extra="milvus").DataType
    schema = client.create_schema(auto_id=False)
    schema.add_field("label", types.INT64, is_primary=True)
    schema.add_field("vector", types.FLOAT_VECTOR, dim=dim)
    index = client.prepare_index_params()
    metric = "L2" if similarity == "euclidean" else "IP"
    index.add_index("vector", index_type=index_type, metric_type=metric, params=_SETTINGS.get(index_type, {}))
    client.create_collection(name, schema=schema, index_params=index)
    client.load_collection(name)


def _connected() -> tuple[Any, Callable[[], None]]:
    """A client, and what ends it: a cluster where one is named, else milvus-lite in a folder that goes with it."""
    pymilvus = optional_import("pymilvus", extra="milvus")
    uri = os.environ.get(URI)
    folder = None
    if uri is None:
        optional_import("milvus_lite", extra="milvus")
        folder = Path(tempfile.mkdtemp(prefix="towerkit-milvus-"))
    with _told("connect"):
        client = pymilvus.MilvusClient(uri or str(folder / "index.db"), token=os.environ.get(TOKEN, ""))  # type: ignore[operator]

    def end() -> None:
        with suppress(Exception):
            client.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    return client, end


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What Milvus says, as an error of ours."""
    errors = optional_import("pymilvus.exceptions", extra="milvus")
    try:
        yield
    except errors.MilvusException as error:
        raise RunError(
            f"Milvus cannot {what}: {str(error)[:300]}. Check {URI} and that the server is up; without {URI} an embedded one is "
            "used."
        ) from None
