"""Fingerprints of tables: two tables have the same one exactly where they hold the same values in the same order."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.data.dataset import Dataset
from towerkit.data.stream.log import Log
from towerkit.storage.hashes import content_hash


def fingerprint(dataset: Dataset | Log) -> dict[str, str]:
    """What a training reads of a data set, each part by name: its tables, its roles and the rows of each part.

    Args:
        dataset: Raw tables with their split, or a log.

    Returns:
        Name of the part -> SHA-256.
    """
    if isinstance(dataset, Log):
        return {f"the log {dataset.name} (its rows, its columns or its split)": dataset.seal}
    found = {f"the table {dataset.examples.name}": table_hash(dataset.examples.data)}
    for name, entity in dataset.entities.items():
        found[f"the table {entity.table.name} of the entity '{name}'"] = table_hash(entity.table.data)
    for name, log in dataset.logs.items():
        found[f"the table {log.table.name} of the log '{name}'"] = table_hash(log.table.data)
    found["the roles of the columns"] = content_hash({**_texts(vars(dataset.roles)), "entities": _keys(dataset)})
    for part in ("train", "validation", "test"):
        rows = [parts.get(part) for parts in (dataset.parts, dataset.uncut) if parts is not None]
        found[f"the {part} part of the split"] = hashlib.sha256(b"/".join(map(_bytes, rows))).hexdigest()
    if dataset.weights is not None:
        found["the weights of the examples"] = hashlib.sha256(_bytes(dataset.weights)).hexdigest()
    return found


def _bytes(numbers: NDArray[Any]) -> bytes:
    return numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()


def table_hash(table: pa.Table) -> str:
    """The SHA-256 of a table: names, types and values, however they are cut into chunks.

    Example:
        >>> whole = pa.table({"a": [1, None, 3]})
        >>> table_hash(whole) == table_hash(pa.concat_tables([whole.slice(0, 1), whole.slice(1)]))
        True
    """
    digest = hashlib.sha256()
    for field in table.schema:
        digest.update(f"{field.name}\x1f{table.num_rows}\x1f".encode(errors="surrogatepass"))
        column = table.column(field.name).combine_chunks()
        _add(digest, pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column)
    return digest.hexdigest()


def _add(digest: Any, values: pa.Array) -> None:
    """Feed an array: where it is null, then the values that are there (what lies under a null is no value)."""
    kind = values.type
    digest.update(f"{kind}\x1f{len(values)}\x1f{values.null_count}\x1f".encode())
    if isinstance(values, pa.ExtensionArray):
        return _add(digest, values.storage)
    if pa.types.is_dictionary(kind):
        return _add(digest, values.dictionary_decode())
    if pa.types.is_null(kind):
        return None
    if values.null_count:
        digest.update(values.is_null().to_numpy(zero_copy_only=False).tobytes())
        values = values.drop_null()
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            _add(digest, values.field(number))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        digest.update(pc.list_value_length(values).to_numpy(zero_copy_only=False).tobytes())
        _add(digest, values.flatten())
    elif pa.types.is_boolean(kind):
        digest.update(values.cast(pa.uint8()).to_numpy().tobytes())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.binary_length(values).to_numpy(zero_copy_only=False)
        digest.update(lengths.tobytes())
        _add_texts(digest, values, int(lengths.sum()))
    elif (pa.types.is_primitive(kind) or pa.types.is_decimal(kind)) and len(values):
        width = kind.bit_width // 8
        digest.update(memoryview(values.buffers()[1])[values.offset * width : (values.offset + len(values)) * width])
    else:  # what no reader gives today, such as maps and views
        digest.update(repr(values.to_pylist()).encode(errors="surrogatepass"))
    return None


def _add_texts(digest: Any, values: pa.Array, num_bytes: int) -> None:
    """The bytes of texts without nulls, in one piece."""
    if not num_bytes:
        return
    offsets = memoryview(values.buffers()[1]).cast("i")
    start = offsets[values.offset]
    digest.update(memoryview(values.buffers()[2])[start : start + num_bytes])


def _keys(dataset: Dataset) -> dict[str, str]:
    return {name: entity.key for name, entity in dataset.entities.items()}


def _texts(values: Any) -> dict[str, str]:
    return {str(name): repr(value) for name, value in values.items()}


def rows_fingerprint(dataset: Dataset) -> dict[str, str]:
    """What tells whether two trainings hold out the same rows of the same examples: columns that only one of them has count, too.

    Args:
        dataset: Raw tables with their split.

    Returns:
        ``examples``, ``train``, ``validation`` and ``test`` -> SHA-256.
    """
    found = {"examples": table_hash(dataset.examples.data)}
    for part in ("train", "validation", "test"):
        found[part] = hashlib.sha256(_bytes(dataset.parts.get(part))).hexdigest()
    return found
