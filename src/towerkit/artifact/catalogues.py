"""The catalogues of a model that ranks and its trained pairs, to files and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from towerkit.artifact.arrow import load_table, save_table
from towerkit.core.errors import RunError, listed
from towerkit.data.table import Table, values_of
from towerkit.features.encoded import Catalogue
from towerkit.storage.tensors import load_tensors, save_tensors


def with_key(catalogue: Catalogue, names: Iterable[str]) -> pa.Table:
    """The keys of a catalogue, as the first column, and some of its other columns.

    Args:
        catalogue: The rows.
        names: Columns of its table; the key may be among them.
    """
    columns = {catalogue.key: catalogue.keys}
    return pa.table(columns | {name: catalogue.table.data.column(name) for name in names if name != catalogue.key})


def shown_columns(catalogue: Catalogue, read: Iterable[str] = ()) -> list[str]:
    """Every column but pictures and sounds that nothing reads: titles and filters want them.

    Args:
        catalogue: The rows.
        read: Columns that are kept whatever they hold.
    """
    kept = set(read)
    fields = catalogue.table.data.schema
    return [field.name for field in fields if field.name in kept or not pa.types.is_binary(field.type)]


def load_catalogue(path: Path) -> Catalogue:
    """Read the rows that a model knows of an entity; the first column is the key.

    Raises:
        RunError: If the file is missing or damaged.
    """
    table = load_table(path)
    key = table.column_names[0]
    keys = values_of(table, key)
    return Catalogue(key, keys, len(keys), Table(table, path.name, 0))


def save_known(folder: Path, query: pa.Table, candidate: pa.Table, seen: csr_array) -> None:
    """Write what a model that ranks knows: ``query.arrow``, ``candidate.arrow`` and ``seen.safetensors``.

    Args:
        folder: Where to.
        query: The keys of the queries, first, and the columns that are kept of them.
        candidate: The same of the candidates.
        seen: ``[queries, candidates]`` the trained pairs.
    """
    save_table(folder / "query.arrow", query)
    save_table(folder / "candidate.arrow", candidate)
    save_seen(folder / "seen.safetensors", seen)


def load_known(folder: Path) -> tuple[Catalogue, Catalogue, csr_array]:
    """The queries, the candidates and the trained pairs that :func:`save_known` wrote.

    Raises:
        RunError: If a file is missing, damaged, or does not fit the others.
    """
    query, candidate = load_catalogue(folder / "query.arrow"), load_catalogue(folder / "candidate.arrow")
    return query, candidate, load_seen(folder / "seen.safetensors", (len(query.keys), len(candidate.keys)))


def save_seen(path: Path, seen: csr_array) -> None:
    """Write which query had which candidate in training, by their places in the catalogues."""
    starts, candidates = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
    save_tensors(path, {"starts": starts, "candidates": candidates})


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


def check_titles(path: Path, titles: Any, candidate: Catalogue, entity: str) -> None:
    """Refuse a title that no column holds: it is looked up long after the Run was opened.

    Args:
        path: The file that names it.
        titles: Entity -> column.
        candidate: The rows that are shown.
        entity: Their name.

    Raises:
        RunError: Names the columns that there are.
    """
    title = titles.get(entity) if isinstance(titles, dict) else titles
    if not isinstance(titles, dict) or (title is not None and title not in candidate.table.data.column_names):
        raise RunError(
            f"{path}: titles names {title!r} as the column shown of '{entity}'; candidate.arrow has "
            f"{listed(candidate.table.data.column_names)}. Train the Run again."
        )
