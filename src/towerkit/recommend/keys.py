"""Keys as people write them, and as a catalogue has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError, nearest
from towerkit.data.table import Table, shown, values_of
from towerkit.features.encoded import Catalogue
from towerkit.features.vocabulary import same_type

ANSWERS = ("query", "rank", "title", "score", "cold")
"""The columns of our own in the answers to a query."""
_MOST_COMPARED = 10_000


def key_column(entity: str, ours: Sequence[str]) -> str:
    """What the keys of an entity are called in an answer: as in the data, unless a column of ours has that name.

    Example:
        >>> key_column("item", ["rank"]), key_column("rank", ["rank"])
        ('item', 'rank_key')
    """
    return f"{entity}_key" if entity in ours else entity


def typed_keys(catalogue: Catalogue, keys: Sequence[Any]) -> pa.Array:
    """Keys in the type of a catalogue, so that the text ``7`` of a command line finds the number 7.

    Raises:
        DataError: If a key is no text that UTF-8 can write.
    """
    if pa.types.is_binary(catalogue.keys.type):  # str(b"7") would be "b'7'"
        return pa.array([key if isinstance(key, bytes) else str(key).encode() for key in keys], pa.binary())
    try:
        texts = pa.array([str(key) for key in keys], pa.string())
    except UnicodeEncodeError as error:
        raise DataError(
            f"{error.object!r} holds half a character, and can be no key; bytes of a command line that are not UTF-8 become "
            "such. Write the key in UTF-8."
        ) from None
    return same_type(texts, catalogue.keys.type)


def did_you_mean(catalogue: Catalogue, key: Any) -> str:
    """A closing phrase for an unknown key: the one that differs by white space only, or else the nearest one.

    Args:
        catalogue: The known keys; of a large one, only the first 10,000 are compared with a key that differs by more.
        key: The unknown one.
    """
    if pa.types.is_string(catalogue.keys.type) and isinstance(key, str):
        place = pc.index(_without_space(catalogue.keys), "".join(key.split())).as_py()
        if place >= 0:
            return f"; '{catalogue.keys[place].as_py()}' is, which differs by white space only."
    return nearest(key, [str(known) for known in catalogue.keys.slice(0, _MOST_COMPARED).to_pylist()]) or "."


def _without_space(keys: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(keys, r"[\s\p{Z}]+", "")


def known_places(
    catalogue: Catalogue, keys: Sequence[Any], what: str = "The history", kind: str = "candidates"
) -> NDArray[np.int64]:
    """``[keys]`` rows of keys that must be in the catalogue.

    Args:
        catalogue: The known keys.
        keys: As they were given.
        what: Who names them, for the message.
        kind: What they are keys of.

    Raises:
        DataError: Naming the first one that is not, with the nearest that is.
    """
    places = catalogue.rows(typed_keys(catalogue, keys))
    if not len(places):
        raise DataError(f"{what} needs at least one key of {kind}; received none.")
    if (places == 0).any():
        unknown = keys[int(np.flatnonzero(places == 0)[0])]
        raise DataError(
            f"{what} names '{unknown}', which is not among the {len(catalogue.keys):,} known {kind}"
            f"{did_you_mean(catalogue, unknown)} Leave it out, or train with it."
        )
    return places


def unknown_key_notes(catalogue: Catalogue, table: Table, column: str | None = None) -> tuple[str, ...]:
    """A note if unknown keys of raw rows differ from known ones by white space only: nobody means that.

    Args:
        catalogue: The known keys.
        table: Raw rows with the key column.
        column: That column, where it is not called as in the catalogue.
    """
    column = column or catalogue.key
    keys = values_of(table.data, column)
    if not (pa.types.is_string(keys.type) and pa.types.is_string(catalogue.keys.type)):
        return ()
    unknown = np.flatnonzero((catalogue.rows(keys) == 0) & keys.is_valid().to_numpy(zero_copy_only=False))
    if not len(unknown):
        return ()
    bare = _without_space(catalogue.keys)
    places = pc.index_in(_without_space(keys.take(pa.array(unknown))), value_set=bare).fill_null(-1)
    alike = np.flatnonzero(places.to_numpy(zero_copy_only=False) >= 0)
    if not len(alike):
        return ()
    row, known = int(unknown[alike[0]]), catalogue.keys[places[int(alike[0])].as_py()].as_py()
    return (
        f"{table.where(row)}: the column '{column}' holds {shown(keys[row].as_py())}, which is unknown and differs "
        f"from {shown(known)} by white space only ({len(alike):,} such rows); it is answered as a stranger's.",
    )


def with_stored_columns(catalogue: Catalogue, read: Sequence[str], table: Table) -> Table:
    """Raw rows that are nothing but keys get the columns that are stored for these keys; others stay as they are.

    Rows with some of the columns, or with one called nearly so, lack the rest by mistake.

    Args:
        catalogue: With the stored columns.
        read: The columns that the model reads of this entity.
        table: Raw rows.
    """
    lacking = [name for name in read if name not in table.data.column_names]
    others = [name for name in read if name != catalogue.key]
    if not others or catalogue.key not in table.data.column_names or lacking != others:
        return table
    extra = [name for name in table.data.column_names if name != catalogue.key]
    if any(nearest(name, extra) for name in lacking):
        return table
    keys = values_of(table.data, catalogue.key)
    if keys.null_count == len(keys):
        return table
    rows = catalogue.rows(keys)
    data, places = table.data, pa.array(rows - 1, mask=rows == 0)
    for name in others:
        data = data.append_column(name, values_of(catalogue.table.data, name).take(places))
    return replace(table, data=data)
