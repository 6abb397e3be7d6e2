"""The rows of a log that are learned from: pairs by catalogue row, and what each query is known to have met."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.stream.arrays import chunks, groups_of, opened, rows_between, written
from towerkit.data.stream.log import PARTS, Log
from towerkit.data.stream.opening import kept


@dataclass(frozen=True, eq=False)
class LearnedPairs:
    """A log as one training sees it; the arrays lie on disk."""

    pairs: NDArray[np.int32]
    """``[rows, 2]`` the rows of the two catalogues, from 1, in the order of the log."""
    orders: tuple[NDArray[np.int32], NDArray[np.int32]]
    """Of each side ``[keys]``: the code of each catalogue row; known ones by their first row that is learned from, then the
    cold ones."""
    num_known: tuple[int, int]
    """Of each side, keys that are learned from."""
    starts: NDArray[np.int64]
    """``[query keys + 2]`` where the candidates of each query row begin; row 0 has none."""
    known: NDArray[np.int32]
    """``[distinct pairs]`` candidate rows, ascending for each query."""
    counts: NDArray[np.int64]
    """``[candidate keys + 1]`` rows of each candidate."""


def learned_pairs(log: Log) -> LearnedPairs:
    """Gather what is learned from, or open it as it was gathered before.

    Args:
        log: With the parts that are learned from.

    Raises:
        RunError: If it cannot be written.
    """
    folder = log.folder.with_name(f"{log.folder.name}-{'+'.join(log.learned)}")

    def make(draft: Path) -> dict[str, Any]:
        return {"log": log.seal, "num_known": _gather(log, draft)}

    manifest = kept(folder, make)
    if manifest.extra["log"] != log.seal:
        raise DataError(f"{folder} belongs to another log than {log.folder}; delete it.")
    orders = opened(folder / "order-0.npy"), opened(folder / "order-1.npy")
    first, second = manifest.extra["num_known"]
    arrays = {name: opened(folder / f"{name}.npy") for name in ("pairs", "starts", "known", "counts")}
    return LearnedPairs(orders=orders, num_known=(first, second), **arrays)


def _gather(log: Log, folder: Path) -> list[int]:
    codes = [log.codes(column) for column in log.pair]
    taken = np.isin(np.arange(len(PARTS)), [PARTS[name] for name in log.learned])
    part_numbers = log.part_numbers()
    rows_of, known = [], []
    for side, column in enumerate(log.pair):
        order, num_known = _order(codes[side], part_numbers, taken, len(log.keys[column]))
        with written(folder / f"order-{side}.npy", np.int32, order.shape) as append:
            append(order)
        row_of = np.empty(len(order), np.int32)
        row_of[order] = np.arange(1, len(order) + 1, dtype=np.int32)
        rows_of.append(row_of)
        known.append(num_known)
    counts = [np.zeros(len(row_of) + 1, np.int64) for row_of in rows_of]
    with written(folder / "pairs.npy", np.int32, (len(log.parts.train), 2)) as append:
        for part in chunks(log.num_rows):
            mask = taken[part_numbers[part]]
            sides = [row_of[code[part][mask]] for row_of, code in zip(rows_of, codes, strict=True)]
            for own, rows in zip(counts, sides, strict=True):
                own += np.bincount(rows, minlength=len(own))
            append(np.stack(sides, axis=1))
    with written(folder / "counts.npy", np.int64, counts[1].shape) as append:
        append(counts[1])
    _write_histories(opened(folder / "pairs.npy"), counts[0], len(counts[1]), folder)
    return known


def _order(
    codes: NDArray[np.int32], part_numbers: NDArray[np.uint8], taken: NDArray[np.bool_], num_keys: int
) -> tuple[NDArray[np.int32], int]:
    """The codes as the catalogue has them, and how many of them are learned from."""
    never = len(codes)
    first = np.full(num_keys, never, np.int64)
    for part in chunks(len(codes)):
        rows = part.start + np.flatnonzero(taken[part_numbers[part]])
        own = codes[rows]
        unseen = first[own] == never
        first[own[unseen][::-1]] = rows[unseen][::-1]  # of several rows of one key the first one is written last
    order = np.argsort(first, kind="stable").astype(np.int32)
    return order, int(np.count_nonzero(first < never))


def _write_histories(pairs: NDArray[np.int32], counts: NDArray[np.int64], num_candidates: int, folder: Path) -> None:
    """The distinct pairs by query and candidate: as many queries at a time as can be sorted in memory."""
    lengths = np.zeros(len(counts), np.int64)
    pieces = folder / "known.raw"
    with pieces.open("wb") as file:
        for low, high in groups_of(counts):
            rows = rows_between(pairs[:, 0], low, high)
            own = pairs[rows].astype(np.int64)
            cells = np.sort(own[:, 0] * num_candidates + own[:, 1])
            cells = cells[np.diff(cells, prepend=-1) > 0]  # np.unique of NumPy 2.4 takes 45 times as long
            lengths += np.bincount(cells // num_candidates, minlength=len(counts))
            file.write((cells % num_candidates).astype(np.int32).data)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    with written(folder / "starts.npy", np.int64, starts.shape) as append:
        append(starts)
    with written(folder / "known.npy", np.int32, (int(starts[-1]),)) as append:
        raw = np.memmap(pieces, np.int32, "r") if starts[-1] else np.empty(0, np.int32)
        for part in chunks(len(raw)):
            append(np.asarray(raw[part]))
        del raw
    pieces.unlink()
