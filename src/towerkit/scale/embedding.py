"""``towerkit embed RUN FOLDER --out FOLDER``: a tower over partitioned Parquet, file by file, here or by workers.

Each file with rows becomes a file of vectors at the same place below the target, read and written a batch of rows at a time. A file
is one piece of work, the same whoever does it. Beside the target stands ``NAME.parts`` until all are there; the same command goes
on from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from towerkit.core.errors import DataError, RunError
from towerkit.data.parquet import ParquetPart, parquet_parts
from towerkit.data.stream.files import rows_of, seal_of
from towerkit.data.stream.pieces import ForEach
from towerkit.data.table import Table
from towerkit.recommend.everyone import begin_parts
from towerkit.recommend.notes import space_of, with_space
from towerkit.run import Run
from towerkit.storage.atomic import as_run_error, atomic_file
from towerkit.storage.hashes import content_hash
from towerkit.storage.lock import folder_lock

ROWS = 65_536
"""Rows embedded at a time: what the memory of a worker grows with."""
Side = Literal["query", "candidate"]


@dataclass(frozen=True)
class Embedded:
    """What was written."""

    path: Path
    files: int
    rows: int
    cold: int
    """Rows whose key training never saw."""
    went_on_after: int
    """Files that an interrupted call had written before."""


@dataclass(frozen=True)
class _Asked:
    """What is to be done with every file, as plain data."""

    run: str
    seal: str
    """The hash of the Run's files."""
    ranking: str | None
    side: Side | None
    parts: Path
    batch: int


def embed_files(
    run: str | os.PathLike[str],
    rows: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    side: Side | None = None,
    ranking: str | None = None,
    each: ForEach = map,
    batch: int = ROWS,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Embedded:
    """Embed every Parquet file below a folder.

    Args:
        run: The Run.
        rows: A folder of raw rows, or one file.
        out: A folder that is not there yet; it gets a file for each, with the columns of :meth:`towerkit.run.Run.embed`.
        side: Of a two-tower.
        ranking: Of a joint model.
        each: Who embeds the files.
        batch: Rows at a time; a vector may differ in its last bit with it.
        tell: Called with the files that are done and all, after each.

    Raises:
        RunError: If the Run cannot embed, the target is there, or an interrupted call with other settings is in the way.
        DataError: If there is no Parquet file, or a row cannot be used.
        SpecError: If the side is missing, unknown, or given for a tower model.
    """
    target, files = Path(out), _files(str(rows))
    if os.path.lexists(target):
        raise RunError(
            f"{target} already exists; vectors go into a new folder. Name another one, or delete it yourself."
        )
    parts = Path(os.path.abspath(target.with_name(f"{target.name}.parts")))
    asked = _Asked(str(Path(run).resolve()), _hash(run), ranking, side, parts, batch)
    _, first = next(rows_of(files[0], files[0].schema, 1))
    _embedded(first, files[0], asked)  # a Run or a side that cannot embed is refused before anything is written
    with as_run_error(f"create the folder {parts}"):
        parts.mkdir(parents=True, exist_ok=True)
    with folder_lock(parts):
        about = {"run": asked.seal, "ranking": ranking, "side": side, "batch": batch}
        begin_parts(parts, {**about, "rows": content_hash([seal_of(part) for part in files])[:16]})
        found = list(_told(each(partial(embed_file, asked=asked), files), len(files), tell))
        with as_run_error(f"put {target} in place"):
            parts.rename(target)
            (target / "settings.json").unlink()
    return Embedded(target, len(files), *(sum(one[place] for one in found) for place in range(3)))


def embed_file(part: ParquetPart, asked: _Asked) -> tuple[int, int, int]:
    """Write the vectors of a file, unless they are there.

    Args:
        part: Its rows.
        asked: What is to be done.

    Returns:
        Its rows, the cold ones, and 1 where they were there.

    Raises:
        DataError: If a row cannot be used; names the file.
    """
    target = asked.parts / part.path
    if target.exists():
        stored = pyarrow.parquet.read_table(target)
        return len(stored), _cold(stored), 1
    counts = [0, 0]
    with as_run_error(f"write {target}"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as temporary:
        writer = None
        for _, table in rows_of(part, part.schema, asked.batch):
            found = _embedded(table, part, asked)
            plain = with_space(found.replace_schema_metadata(None), space_of(found))
            writer = writer or pyarrow.parquet.ParquetWriter(temporary, plain.schema, write_page_checksum=True)
            writer.write_table(plain)
            counts = [counts[0] + len(found), counts[1] + _cold(found)]
        assert writer is not None
        writer.close()
    return counts[0], counts[1], 0


def _files(rows: str) -> list[ParquetPart]:
    if Path(rows).is_file() and Path(rows).suffix != ".parquet":
        raise DataError(
            f"{rows}: vectors go into a folder where rows are Parquet files; for others give --out FILE.parquet."
        )
    found = parquet_parts(rows)
    filled = [part for part in found if part.num_rows]
    if not filled:
        raise DataError(f"{rows}: its {len(found)} Parquet files have no rows; give rows to embed.")
    return filled


def _hash(run: str | os.PathLike[str]) -> str:
    return content_hash({name: file.sha256 for name, file in Run.load(run).manifest.files.items()})


@lru_cache(maxsize=1)
def _opened(run: str, seal: str, ranking: str | None) -> Any:
    """The Run, which a worker opens once for all its files.

    Raises:
        RunError: If another one lies there by now.
    """
    if _hash(run) != seal:
        raise RunError(f"{run} changed while its vectors were written. Begin again: delete the folder NAME.parts.")
    found = Run.load(run)
    return found if ranking is None else found.ranking(ranking)


def _embedded(rows: pa.Table, part: ParquetPart, asked: _Asked) -> pa.Table:
    return _opened(asked.run, asked.seal, asked.ranking).embed(Table(rows, part.name), side=asked.side)


def _cold(table: pa.Table) -> int:
    return int(pc.sum(table.column("cold")).as_py() or 0) if "cold" in table.column_names else 0


def _told(
    found: Iterator[tuple[int, int, int]], total: int, tell: Callable[[int, int], None]
) -> Iterator[tuple[int, int, int]]:
    for done, each in enumerate(found, 1):
        tell(done, total)
        yield each
