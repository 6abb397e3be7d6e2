"""A log that is encoded piece by piece (`towerkit.data.stream.pieces`).

Pinned here:
- the encoded log is that of one pass, bit for bit, for every split, however the rows are cut and whoever is first;
- pieces are whole row groups in the order of the log, small files together, each row in one of them;
- a piece that is made twice, as after a death, changes nothing;
- the first row of the log that cannot be used is named as one pass names it, whichever piece is read first.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerkit.core.errors import DataError
from towerkit.data.stream import pieces
from towerkit.data.stream.files import LogFiles
from towerkit.data.stream.opening import open_log
from towerkit.data.stream.pieces import encode_by_pieces, pieces_of
from towerkit.testing.logs import log_spec, small_log, write_log


def last_first(function: Callable[[Any], Any], given: Sequence[Any]) -> Iterator[Any]:
    """Calls for the last piece first; an error is that of the first piece that has one."""
    found: dict[int, Any] = {}
    for place in reversed(range(len(given))):
        try:
            found[place] = function(given[place])
        except DataError as error:
            found[place] = error
    for place in range(len(given)):
        if isinstance(found[place], DataError):
            raise found[place]
        yield found[place]


def twice(function: Callable[[Any], Any], given: Sequence[Any]) -> Iterator[Any]:
    for piece in given:
        function(piece)
        yield function(piece)


def sealed(folder: Path, most: int | None = None, each: Any = map, **more: Any) -> str:
    """The seal of a log that is encoded anew: in one pass, or in pieces of so many rows."""
    shutil.rmtree(folder.parent / "cache", ignore_errors=True)
    encode = None if most is None else lambda files, roles, draft: encode_by_pieces(files, roles, draft, each, most)
    log = open_log(log_spec(folder, **more).data, encode=encode)
    assert not (log.folder / "pieces").exists()
    return log.seal


@pytest.mark.parametrize("split", ["time", "per_query", "random", "grouped"])
def test_pieces_make_the_log_of_one_pass(tmp_path: Path, split: str) -> None:
    folder = write_log(tmp_path / "log", small_log())
    whole = sealed(folder, split=split)
    assert sealed(folder, 1, last_first, split=split) == whole
    assert sealed(folder, 250, twice, split=split) == whole


def test_many_small_files_an_empty_one_and_a_giant_row_group(tmp_path: Path) -> None:
    folder, table = tmp_path / "log", small_log(600)
    write_log(folder, table.slice(0, 90), files=30, row_group=2)
    pq.write_table(table.slice(0, 0), folder / "part-500.parquet")
    pq.write_table(table.slice(90), folder / "part-900.parquet", row_group_size=510)
    files = LogFiles.open(log_spec(folder).data.examples, ("user", "item", "when"))
    found = pieces_of(files, 40)
    assert [piece.num_rows for piece in found] == [39, 39, 12, 510]
    assert [piece.first for piece in found] == [0, 39, 78, 90]
    assert [len(piece.stretches) for piece in found] == [13, 13, 5, 1]  # the empty file has a row group too
    assert found[0].stretches[0].groups == (0, 1)
    assert sealed(folder, 40, last_first) == sealed(folder)


def test_the_first_bad_row_is_named_as_one_pass_names_it(tmp_path: Path) -> None:
    table = small_log(600)
    users = table.column("user").to_pylist()
    users[333] = users[599] = None
    folder = write_log(tmp_path / "log", table.set_column(0, "user", pa.array(users)))
    with pytest.raises(DataError) as alone:
        sealed(folder)
    assert "part-001.parquet, row 134" in str(alone.value)
    for each in (map, last_first):
        with pytest.raises(DataError) as by_pieces:
            sealed(folder, 50, each)
        assert str(by_pieces.value) == str(alone.value)
    assert not any((tmp_path / "cache").iterdir())


def test_a_code_is_that_of_the_first_appearance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with the pieces merged in another order the log is another one."""
    folder = write_log(tmp_path / "log", small_log())
    whole, merged = sealed(folder), pieces._merged
    monkeypatch.setattr(pieces, "_merged", lambda given, *more: merged(given[::-1], *more))
    assert sealed(folder, 100) != whole


def test_put_writes_rows_where_they_belong(tmp_path: Path) -> None:
    from towerkit.data.stream.arrays import made, opened, put

    for dtype, width in ((np.int32, ()), (np.float64, (3,)), (np.uint8, (2, 2))):
        path = tmp_path / f"{np.dtype(dtype).name}.npy"
        made(path, dtype, (5, *width))
        rows = np.arange(2 * int(np.prod(width, initial=1))).reshape(2, *width).astype(dtype)
        put(path, 3, rows)
        put(path, 1, rows[:0])
        assert np.array_equal(opened(path)[3:], rows)
        assert not opened(path)[:3].any()
        assert opened(path).dtype == dtype
