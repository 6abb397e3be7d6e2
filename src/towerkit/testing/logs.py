"""A small log of pairs, as Parquet files and in specs that stream it or read it into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from towerkit.core.spec import parse
from towerkit.spec import ExperimentSpec


def small_log(rows: int = 600, *, seed: int = 0) -> pa.Table:
    """Pairs of 40 users, named by texts, and 60 items, in the order of their times.

    Args:
        rows: How many.
        seed: Draws them.
    """
    draw = np.random.default_rng(seed)
    users = (40 * draw.random(rows) ** 1.5).astype(int)
    columns = {
        "user": [f"u{user}" for user in users],
        "item": (60 * draw.random(rows) ** 1.5).astype(int),
        "when": np.sort(draw.integers(0, 10_000, rows)) + 0.5,
        "other": draw.random(rows),
    }
    return pa.table(columns)


def write_log(folder: Path, table: pa.Table, *, files: int = 3, row_group: int = 77) -> Path:
    """Write a table as the files of a folder, which is returned.

    Args:
        folder: Made if it is not there.
        table: The log.
        files: How many.
        row_group: Rows of a row group.
    """
    folder.mkdir(exist_ok=True)
    size = -(-table.num_rows // files)
    for number in range(files):
        part = table.slice(number * size, size)
        pyarrow.parquet.write_table(part, folder / f"part-{number:03}.parquet", row_group_size=row_group)
    return folder


def log_spec(folder: Path, *, stream: bool = True, split: str = "time", **training: Any) -> ExperimentSpec:
    """A small training of two id towers over such a folder.

    Args:
        folder: The log; it is encoded below ``cache`` beside it.
        stream: Or read into memory.
        split: Its kind.
        **training: Settings of the loop.
    """
    examples: dict[str, Any] = {"path": str(folder), "query": "user", "candidate": "item"}
    if split == "time":
        examples["time"] = "when"
    if stream:
        examples["stream"] = {"cache": str(folder.parent / "cache")}
    tower = {"kind": "id", "dim": 8}
    return parse(
        ExperimentSpec,
        {
            "data": {"examples": examples, "split": {"kind": split, "validation": 0.1, "test": 0.1}},
            "model": {"kind": "two_tower", "query": tower, "candidate": tower},
            "training": {"epochs": 2, "batch_size": 32, **training},
            "evaluation": {"k": [5], "baselines": [{"kind": "popularity"}]},
        },
    )
