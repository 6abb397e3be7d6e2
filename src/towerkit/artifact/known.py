"""What the Run of a two-tower says of its queries and candidates, read without PyTorch: keys, titles, trained pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from towerkit.artifact.arrow import load_table
from towerkit.core.errors import RunError
from towerkit.data.table import values_of
from towerkit.storage.documents import read_document
from towerkit.storage.tensors import load_tensors

RETRIEVER_KEYS = ("spec", "query", "candidate", "queries_average_candidates", "titles")
"""The keys of its ``model.json``."""
RETRIEVER_OPTIONAL_KEYS = ("aligned",)
"""Of one whose query side was brought into the space of another Run."""


@dataclass(frozen=True, eq=False)
class Known:
    """The queries and candidates of a two-tower."""

    query: str
    """The name of the entity."""
    candidate: str
    query_keys: pa.Array
    candidate_keys: pa.Array
    titles: pa.Array | None
    """``[candidates]`` what is shown of them; None where they have none."""
    seen: csr_array
    """``[queries, candidates]``."""
    learns: bool
    """Whether its queries can learn from events."""


def read_known(folder: Path, version: int) -> Known:
    """Read it from the folder ``model`` of a verified Run.

    Args:
        folder: Its files.
        version: The format of the Run.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    content: dict[str, Any] = read_document(folder / "model.json", version, RETRIEVER_KEYS, RETRIEVER_OPTIONAL_KEYS)
    query, candidate = load_table(folder / "query.arrow"), load_table(folder / "candidate.arrow")
    query_keys, candidate_keys = (values_of(table, table.column_names[0]) for table in (query, candidate))
    seen = load_seen(folder / "seen.safetensors", (len(query_keys), len(candidate_keys)))
    title = content["titles"].get(content["candidate"])
    titles = values_of(candidate, title) if title in candidate.column_names else None
    learns = bool(content["queries_average_candidates"]) or (folder / "history.safetensors").exists()
    return Known(content["query"], content["candidate"], query_keys, candidate_keys, titles, seen, learns)


def load_seen(path: Path, shape: tuple[int, int]) -> csr_array:
    """Which query had which candidate. A place beyond its table would be read from outside the array.

    SciPy's own check of the format does not look at the starts where the last of them is 0.

    Args:
        path: The file.
        shape: How many queries and candidates there are.

    Raises:
        RunError: If the file is missing, damaged, or names what is not there.
    """
    pairs = load_tensors(path)
    fits = pairs.keys() == {"starts", "candidates"}
    if fits:
        starts, places = pairs["starts"], pairs["candidates"]
        fits = (
            starts.dtype == np.dtype(np.int64)
            and places.dtype == np.dtype(np.int32)
            and (starts.shape, places.ndim) == ((shape[0] + 1,), 1)
            and starts[0] == 0
            and starts[-1] == len(places)
            and bool((np.diff(starts) >= 0).all() and (places >= 0).all() and (places < shape[1]).all())
        )
    if not fits:
        raise RunError(
            f"{path} does not fit the catalogues of {shape[0]:,} queries and {shape[1]:,} candidates; train the Run again."
        )
    return csr_array((np.ones(len(places), np.float32), places, starts), shape=shape)
