"""The first look: what a data file holds before anyone trains on it, or whether a Run is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from towerkit.core.errors import RunError, TowerkitError, redacted
from towerkit.data.parquet import parquet_files
from towerkit.data.readers import Table, read_table
from towerkit.data.schema import ColumnInfo, Schema, infer_schema

_FEW = 0.05
"""A share of missing values below which a column is fine without a word."""


def examine(path: str) -> dict[str, Any]:
    """Look at a data file or a Run.

    Args:
        path: A data file in any form that a spec can name, a folder of Parquet files, or a Run folder.

    Returns:
        ``kind`` (``data`` or ``run``), what was found, ``notes`` worth knowing and ``problems`` that stop training.
    """
    folder = Path(path)
    is_run = folder.is_dir() and ((folder / "manifest.json").is_file() or not parquet_files(folder))
    return _examine_run(folder) if is_run else _examine_data(path)


def _examine_data(path: str) -> dict[str, Any]:
    try:
        table = read_table(path)
    except TowerkitError as error:
        return {"kind": "data", "path": redacted(path), "columns": [], "notes": [], "problems": [str(error)]}
    schema = infer_schema(table, {})
    return {
        "kind": "data",
        "path": redacted(path),
        "rows": table.data.num_rows,
        "bytes": table.data.nbytes,
        "columns": [vars(column) for column in schema.columns],
        "suggested_roles": _roles(schema, table),
        "notes": _notes(schema, table),
        "problems": [],
    }


def _notes(schema: Schema, table: Table) -> list[str]:
    notes = list(table.notes)
    for column in schema.columns:
        if column.missing == 1.0:
            notes.append(f"'{column.name}' is empty in every row: leave it out")
        elif column.missing > _FEW:
            notes.append(
                f"'{column.name}' is missing in {column.missing:.1%} of the rows: towers have a place for missing values"
            )
        elif column.distinct == 1:
            notes.append(f"'{column.name}' holds one value only ({column.example}): it tells nothing")
    repeats = _repeated_rows(schema, table.data)
    if repeats:
        notes.append(f"{repeats:,} rows repeat an earlier row exactly")
    return notes


def _repeated_rows(schema: Schema, data: pa.Table) -> int:
    plain = [column.name for column in schema.columns if column.type not in ("list", "vector", "image", "sound")]
    if not plain:
        return 0
    return data.num_rows - data.select(plain).group_by(plain).aggregate([]).num_rows


def _roles(schema: Schema, table: Table) -> dict[str, str]:
    """A guess from names and contents, for the first spec."""
    found: dict[str, str] = {}
    for column in schema.columns:
        role = _role(column, table)
        if role is not None and role not in found:
            found[role] = column.name
    return found


def _role(column: ColumnInfo, table: Table) -> str | None:
    words = column.name.lower().replace("-", "_").replace(" ", "_").split("_")
    repeats = column.missing == 0.0 and 1 < column.distinct < table.data.num_rows
    if repeats and words[0] in ("user", "uid", "customer", "visitor", "session", "member", "reader", "query", "u"):
        return "query"
    if repeats and words[0] in (
        "item",
        "product",
        "movie",
        "article",
        "sku",
        "document",
        "doc",
        "ad",
        "artist",
        "song",
        "book",
        "i",
    ):
        return "candidate"
    if column.type == "time" or (column.type == "number" and words[0] in ("time", "timestamp", "ts", "date")):
        return "time"
    return None


def _examine_run(path: Path) -> dict[str, Any]:
    from towerkit.run import Run

    found: dict[str, Any] = {"kind": "run", "path": str(path), "notes": [], "problems": []}
    try:
        run = Run.load(path)
        found |= {"model": run.kind, "created": run.manifest.created, "towerkit": run.manifest.towerkit}
        found["files"] = len(run.manifest.files)
        found["bytes"] = sum(entry.bytes for entry in run.manifest.files.values())
        assert run.model is not None
        found["notes"].append(
            "every file agrees with the manifest, and the golden request is answered as when it was saved"
        )
    except RunError as error:
        found["problems"].append(str(error))
    return found


def show_findings(found: dict[str, Any], console: Console) -> None:
    """Print what :func:`examine` found."""
    from towerkit.console import show_schema

    if found["kind"] == "data" and found["columns"]:
        schema = Schema(tuple(ColumnInfo(**column) for column in found["columns"]))
        show_schema(
            f"{found['path']}: {found['rows']:,} rows, {found['bytes'] / 1e6:.1f} MB in memory", schema, console=console
        )
        roles = found["suggested_roles"]
        if roles:
            keys = ", ".join(f"{role}: {column}" for role, column in roles.items())
            console.print(
                f'\nA first spec could say  examples: {{path: "{found["path"]}", {keys}}}', markup=False, soft_wrap=True
            )
    elif found["kind"] == "run" and "model" in found:
        size = f"{found['files']} files, {found['bytes'] / 1e6:.1f} MB"
        console.print(
            f"{found['path']}: a {found['model']} of {found['created']}, towerkit {found['towerkit']}, {size}",
            markup=False,
        )
    for text in found["notes"]:
        console.print(f"note: {text}", markup=False, soft_wrap=True)
    for text in found["problems"]:
        console.print(f"problem: {text}", markup=False, soft_wrap=True)
