"""Folders by an address (`towerkit.data.stores`); the store is this machine's disk, by ``file://``.

Pinned here:
- a log by an address is the log by its path: the same parts, rows and seals, so that one opens what the other encoded;
- one file by its address; a folder without a Parquet file, nothing at all, and an address that cannot be opened are told.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerkit.core.errors import DataError
from towerkit.data.parquet import parquet_parts
from towerkit.data.source import SourceSpec
from towerkit.data.stores import is_store, opened_store
from towerkit.data.stream.files import LogFiles
from towerkit.data.stream.opening import open_log
from towerkit.testing.logs import log_spec, small_log, write_log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log in three files below two partitions, beside files that are none of it."""
    (tmp_path / "log").mkdir()
    write_log(tmp_path / "log" / "month=1", small_log(300), files=2)
    write_log(tmp_path / "log" / "month=2", small_log(100, seed=1), files=1)
    (tmp_path / "log" / "_SUCCESS").touch()
    (tmp_path / "log" / "month=2" / ".part.parquet.crc").write_text("")
    (tmp_path / "log" / "month=2" / "_draft.parquet").write_text("")
    return tmp_path / "log"


def test_a_log_by_an_address_is_the_log_by_its_path(folder: Path) -> None:
    columns = ("user", "item", "when")
    here = LogFiles.open(SourceSpec(path=str(folder)), columns)
    there = LogFiles.open(SourceSpec(path=f"file://{folder}/"), columns)
    assert [part.path for part in there.parts] == [part.path for part in here.parts]
    assert len(there.parts) == 3
    assert there.seal() == here.seal()
    assert pa.concat_tables(there.batches()).equals(pa.concat_tables(here.batches()))
    assert there.parts[2].partitions == {"month": "2"}
    assert there.parts[0].name == f"file://{folder}/month=1/part-000.parquet"
    spec = log_spec(folder).data
    by_address = spec.model_copy(update={"examples": spec.examples.model_copy(update={"path": f"file://{folder}"})})
    log = open_log(by_address)
    assert open_log(spec).folder == log.folder


def test_one_file(folder: Path) -> None:
    (part,) = parquet_parts(f"file://{folder}/month=2/part-000.parquet")
    assert part.num_rows == 100
    assert part.name == f"file://{folder}/month=2/part-000.parquet"


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nothing: there is no such file or folder"):
        parquet_parts(f"file://{tmp_path}/nothing")
    with pytest.raises(DataError, match=r"has no Parquet file \(\*\.parquet\) below it"):
        parquet_parts(f"file://{tmp_path}")
    with pytest.raises(DataError, match=r"cannot be reached \(Unexpected query parameter.*Check the address"):
        opened_store("s3://bucket/clicks?nonsense=1")
    monkeypatch.setenv("STORE", "s3://bucket")
    assert is_store("${STORE}/clicks")
    pq.write_table(pa.table({"user": ["a"]}), tmp_path / "part.parquet")
    with pytest.raises(DataError, match=f"file://{tmp_path}/part.parquet.*'item'"):
        LogFiles.open(SourceSpec(path=f"file://{tmp_path}/part.parquet"), ("user", "item"))
