"""Files that are given later, read as the files of the training were: with their separator, encoding and column names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerkit.core.spec import parse
from towerkit.data.locations import extension
from towerkit.data.readers import SourceSpec, Table, read_table

_HOW = ("format", "separator", "encoding", "header", "names", "quoted", "decimal")
"""How a file is written; not what is taken from it."""


def read_alike(given: Any, trained: Mapping[str, Any] | None) -> Table:
    """Read a table for a trained model.

    A path with the extension of the file of the training is read as that was. Any other, and what is no path, is read by
    itself. A text table that the training had without a header may have one here: a first line with exactly these names.

    Args:
        given: A path, a :class:`~towerkit.data.source.SourceSpec`, or a table.
        trained: The spec of the table of the same kind that the model was trained with, in plain data.

    Raises:
        DataError: If it cannot be read.
    """
    if trained is None or not isinstance(given, str | os.PathLike):
        return read_table(given)
    path = os.fspath(given)
    if extension(_file_name(path)) != extension(_file_name(str(trained["path"]))):
        return read_table(given)
    how = {key: trained[key] for key in _HOW if trained.get(key) is not None}
    table = read_table(parse(SourceSpec, {"path": path, **how}, "the path"))
    names = trained.get("names")
    if trained.get("header") is False and names and _first_row(table) == list(names):
        return read_table(parse(SourceSpec, {"path": path, **how, "header": True, "names": None}, "the path"))
    return table


def source_like(data: Mapping[str, Any] | None, entity: str | None = None) -> Mapping[str, Any] | None:
    """How the table of an entity was written that a model was trained with, or the table of examples.

    Args:
        data: The ``data`` part of the spec of the training, in plain data; None if it had none.
        entity: Whose table; that of the examples when not given. Of an entity without a table only what the examples say
            of separators, encoding and decimal signs.
    """
    examples: Mapping[str, Any] | None = (data or {}).get("examples")
    if entity is None or examples is None:
        return examples
    own: Mapping[str, Any] | None = ((data or {}).get("entities") or {}).get(entity)
    return own or {key: examples.get(key) for key in ("path", "separator", "encoding", "quoted", "decimal")}


def _file_name(path: str) -> str:
    """The name that says the format: of the member, inside an archive."""
    return Path(path.rpartition("::")[2] or path).name


def _first_row(table: Table) -> list[str]:
    return [str(value) for value in next(iter(table.data.slice(0, 1).to_pylist()), {}).values()]
