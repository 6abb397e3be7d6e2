"""The catalogues of a model that ranks and its trained pairs, to files and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from towerkit.artifact.arrow import load_table, save_table
from towerkit.artifact.known import load_seen
from towerkit.core.errors import RunError, listed
from towerkit.data.table import Table, values_of
from towerkit.features.encoded import Catalogue
from towerkit.storage.tensors import save_tensors


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
