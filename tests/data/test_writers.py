"""Answers come back from each form of file as they were; another form is refused with the ones that exist.

Lists of texts stand in CSV with ``|`` between them; a text with one in it is refused there.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from towerkit.core.errors import DataError
from towerkit.data.readers import read_table
from towerkit.data.writers import write_table

TABLE = pa.table({"user": ["u1", "u2"], "score": [0.5, -1.25], "cold": [True, False]})


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.arrow"])
def test_a_table_comes_back(tmp_path: Path, name: str) -> None:
    write_table(TABLE, tmp_path / name)
    assert read_table(tmp_path / name).data.to_pylist() == TABLE.to_pylist()


def test_what_cannot_be_written_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parqet.*did you mean '\.parquet'\?"):
        write_table(TABLE, tmp_path / "a.parqet")
    with pytest.raises(DataError, match="a.csv cannot be written: there is no folder .*nowhere.; make it"):
        write_table(TABLE, tmp_path / "nowhere" / "a.csv")


def test_lists_of_texts_stand_in_csv_with_a_separator(tmp_path: Path) -> None:
    table = pa.table({"tags": [["red", "new"], [], ["new"]], "n": [1, 2, 3]})
    for name in ("a.parquet", "a.arrow"):
        write_table(table, tmp_path / name)
        assert read_table(tmp_path / name).data.to_pylist() == table.to_pylist()
    write_table(table, tmp_path / "a.csv")
    assert read_table(tmp_path / "a.csv").data.column("tags").to_pylist() == ["red|new", None, "new"]
    with pytest.raises(DataError, match=r"a\.csv: the column 'tags' holds lists.*'red\|blue' has one in it"):
        write_table(pa.table({"tags": [["red|blue"]]}), tmp_path / "a.csv")
