"""Answers to every known query, written a chunk at a time, so that a killed process goes on where it was.

Beside the file to write stands a folder ``NAME.parts`` with one file per chunk, each whole or absent. When all are there,
they become the file in one step, and the folder goes. So the file holds the same bytes, interrupted or not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from towerkit.core.errors import RunError
from towerkit.data.writers import check_writable, table_writer
from towerkit.recommend.answers import Shortfall, answered_plainly
from towerkit.recommend.asked import by_place
from towerkit.recommend.choice import Choice
from towerkit.recommend.notes import with_notes
from towerkit.storage.atomic import atomic_file, atomic_write_bytes
from towerkit.storage.hashes import read_json, sha256_bytes, write_json
from towerkit.storage.lock import folder_lock
from towerkit.trained import RankingModel
from towerkit.training.checkpoint import differences

CHUNK = 4096
"""Queries answered at a time."""
_SHORT = b"towerkit.short"


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    queries: int
    rows: int
    notes: tuple[str, ...]
    went_on_after: int
    """Queries that an interrupted call had answered before."""


def answer_everyone(
    model: RankingModel,
    k: int,
    choice: Choice,
    out: Path,
    *,
    identity: Mapping[str, Any],
    chunk: int = CHUNK,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Written:
    """The best candidates of every known query, in the order of the catalogue.

    Args:
        model: Any that ranks.
        k: How many answers each.
        choice: Which candidates may be answers.
        out: A ``.parquet``, ``.csv`` or ``.arrow`` file; an existing one is replaced at the end, in one step.
        identity: What the answers depend on beside ``k`` and the choice, in plain data: an interrupted call goes on with the
            same only.
        chunk: Queries at a time: what the memory grows with.
        tell: Called with the number of queries answered and of all, after each chunk.

    Returns:
        What was written.

    Raises:
        DataError: If the file cannot be written in that form or there.
        RunError: If another process writes it, or an interrupted call with other settings is in the way.
    """
    check_writable(out)
    parts, total = out.with_name(f"{out.name}.parts"), len(model.query.keys)
    with folder_lock(parts):
        begin_parts(parts, {**identity, "k": k, "chunk": chunk, "queries": total, **_described(choice)})
        files, short, known = [], Shortfall(), 0
        for start in range(0, total, chunk):
            file, stop = parts / f"{start:012d}.parquet", min(start + chunk, total)
            found = _finished(file)
            if found is None:
                table, found = answered_plainly(model, by_place(model, start, stop), k, choice)
                _save(file, table, found)
            else:
                known += stop - start
            files.append(file)
            short += found
            tell(stop, total)
        notes = (*choice.notes, *short.notes(k, len(model.candidate.keys), choice))
        rows = _join(files, parts / f"whole{out.suffix}", out, notes)
        shutil.rmtree(parts)
    return Written(out, total, rows, notes, known)


def _described(choice: Choice) -> dict[str, Any]:
    allowed = "all" if choice.allowed is None else sha256_bytes(choice.allowed.tobytes())[:16]
    return {"exclude_seen": choice.exclude_seen, "candidates": {"allowed": allowed, "by": list(choice.reasons)}}


def begin_parts(parts: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder of parts, or find one of the same settings.

    Args:
        parts: Stands beside what is written until all of it is there.
        settings: What the parts depend on, in plain data.

    Raises:
        RunError: If it holds something else.
    """
    file = parts / "settings.json"
    if not file.exists():
        if parts.exists() and any(not name.startswith(".") for name in os.listdir(parts)):
            raise RunError(
                f"{parts} exists and is not what an interrupted answer left; choose another file to write, or move that away."
            )
        write_json(file, settings)
        return
    changed = differences(read_json(file), settings)
    if changed:
        raise RunError(
            f"{parts} holds an interrupted answer with other settings: {changed}. Ask again with the settings that it was "
            f"begun with, write to another file, or delete {parts} to begin anew."
        )


def _save(file: Path, table: pa.Table, short: Shortfall) -> None:
    told = json.dumps(asdict(short), default=str).encode()
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table.replace_schema_metadata({_SHORT: told}), sink, write_page_checksum=True)
    atomic_write_bytes(file, sink.getvalue().to_pybytes())


def _finished(file: Path) -> Shortfall | None:
    """What an earlier call found in a chunk; None if the chunk is not there, or cannot be read."""
    try:
        metadata = pyarrow.parquet.read_schema(file).metadata or {}
        return Shortfall(**json.loads(metadata[_SHORT]))
    except (OSError, pa.ArrowInvalid, KeyError, ValueError, TypeError):
        return None


def _join(files: list[Path], whole: Path, out: Path, notes: tuple[str, ...]) -> int:
    """Put the parts into one file beside them, a row group each, and that file in place."""
    schema = with_notes(_read(files[0]).replace_schema_metadata(None), notes).schema
    rows = 0
    with atomic_file(out) as temporary:
        with table_writer(whole, schema) as writer:
            for file in files:
                table = _read(file).replace_schema_metadata(schema.metadata)
                writer.write_table(table)
                rows += table.num_rows
        whole.replace(temporary)
    return rows


def _read(file: Path) -> pa.Table:
    try:
        return pyarrow.parquet.read_table(file, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{file} is damaged ({reason}); delete {file.parent} to begin anew.") from None
