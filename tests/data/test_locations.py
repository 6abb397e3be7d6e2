"""Where files lie (`towerkit.data.locations`).

Pinned here:
- relative paths start at the base, `${NAME}` and `~` expand, and what cannot expand is told;
- a missing file or member is told with the nearest one;
- damage and bombs in compressed files become data errors, never tracebacks of zlib or zipfile.
"""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from towerkit.core.errors import DataError
from towerkit.data import locations
from towerkit.data.locations import FileBytes, data_folder, expand, extension, locate
from towerkit.data.readers import SourceSpec, read_table

ROWS = b"a,b\n1,2\n"


def refusal(path: str, base: Path, **options: int) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, base=base, **options)
    return str(caught.value)


def packed(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


# ---- paths


def test_relative_paths_start_at_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "t.csv").write_bytes(ROWS)
    assert read_table("../t.csv", base=tmp_path / "specs").name == "../t.csv"
    monkeypatch.chdir(tmp_path)
    assert locate("t.csv").path.is_file()
    assert read_table(Path("t.csv")).data.num_rows == 1


def test_names_of_the_environment_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_bytes(ROWS)
    monkeypatch.setenv("MY_PLACE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("${MY_PLACE}/t.csv").path == tmp_path / "t.csv"
    assert locate("~/t.csv").path == tmp_path / "t.csv"
    with pytest.raises(DataError, match=r"MY_PLAC is not set; did you mean 'MY_PLACE'\?"):
        expand("${MY_PLAC}/t.csv")


def test_the_data_folder_is_set_or_lies_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "BESIDE", "a-name-no-machine-has/data")
    below = tmp_path / "home" / "project" / "examples"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("TOWERKIT_DATA", raising=False)
    with pytest.raises(DataError, match=r"\$\{TOWERKIT_DATA\}/t\.csv: TOWERKIT_DATA is not set, .*; set TOWERKIT_DATA"):
        expand("${TOWERKIT_DATA}/t.csv")
    beside = tmp_path / "home" / "a-name-no-machine-has" / "data"
    beside.mkdir(parents=True)
    assert Path(expand("${TOWERKIT_DATA}")) == data_folder("") == beside
    monkeypatch.setenv("TOWERKIT_DATA", "elsewhere")
    assert expand("${TOWERKIT_DATA}/x") == "elsewhere/x"


def test_what_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(ROWS)
    (tmp_path / "sub").mkdir()
    assert "there is no file 'rating.csv' in" in refusal("rating.csv", tmp_path)
    assert "did you mean 'ratings.csv'?" in refusal("rating.csv", tmp_path)
    assert "sub: is a folder without a Parquet file (*.parquet) below it; name one file in it" in refusal(
        "sub", tmp_path
    )
    assert "Its files are 'ratings.csv'." in refusal(".", tmp_path)
    assert "its folder" in (message := refusal("nowhere/t.csv", tmp_path)) and "nowhere does not exist" in message


@pytest.mark.parametrize(("name", "ending"), [("A.CSV", ".csv"), ("a.tsv.gz", ".tsv"), ("u.data", ".data"), ("x", "")])
def test_extensions(name: str, ending: str) -> None:
    assert extension(name) == ending


def test_unknown_extensions_say_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "t.cvs").write_bytes(ROWS)
    message = refusal("t.cvs", tmp_path)
    assert "t.cvs: the extension '.cvs' does not tell the format; did you mean '.csv'?" in message
    assert "format: delimited" in message
    assert read_table(SourceSpec(path="t.cvs", format="delimited"), base=tmp_path).data.num_rows == 1


# ---- archives


def test_gzip(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(ROWS))
    assert read_table("t.csv.gz", base=tmp_path).data.to_pylist() == [{"a": 1, "b": 2}]


def test_members_may_hold_blanks_and_be_compressed_again(tmp_path: Path) -> None:
    packed(tmp_path / "a.zip", **{"in side/my rows.csv": ROWS, "t.csv.gz": gzip.compress(ROWS)})
    for member in ("in side/my rows.csv", "t.csv.gz"):
        assert read_table(f"a.zip::{member}", base=tmp_path).data.to_pylist() == [{"a": 1, "b": 2}]


def test_an_archive_alone_means_its_one_data_file(tmp_path: Path) -> None:
    packed(
        tmp_path / "a.zip", **{"d/": b"", "d/t.csv": ROWS, "d/plot.png": b"", "__MACOSX/t.csv": b"", "d/.t.csv": b""}
    )
    table = read_table("a.zip", base=tmp_path)
    assert table.name == "a.zip"
    assert table.data.num_rows == 1


def test_an_archive_with_several_asks_which(tmp_path: Path) -> None:
    packed(tmp_path / "ratings.zip", **{"rating.csv": ROWS, "movies.csv": ROWS})
    message = refusal("ratings.zip", tmp_path)
    assert "holds 2 files that could be meant, so say which one with 'ratings.zip::MEMBER'" in message
    assert "did you mean 'rating'?" in message
    assert "They are 'movies.csv', 'rating.csv'." in message


def test_a_missing_member_is_told_with_the_nearest(tmp_path: Path) -> None:
    packed(tmp_path / "a.zip", **{"deep/in/the/archive/movies.csv": ROWS})
    message = refusal("a.zip::movie.csv", tmp_path)
    assert "the archive has no member 'movie.csv'; did you mean 'movies.csv'?" in message
    assert "its members are 'deep/in/the/archive/movies.csv'" in message


# ---- damage


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(str(list(range(5000))), "ascii"))
    for name, content, told in (
        ("t.csv.gz", ROWS, "cannot be unpacked (Not a gzipped file (b'a,'))"),
        ("cut.csv.gz", whole[: len(whole) // 2], "the compressed file ends too early"),
        ("bad.csv.gz", whole[:200] + b"\xff" * 40 + whole[240:], "cannot be unpacked"),
    ):
        (tmp_path / name).write_bytes(content)
        assert f"{name}: {told}" in refusal(name, tmp_path)


def test_damaged_zip(tmp_path: Path) -> None:
    (tmp_path / "t.zip").write_bytes(ROWS)
    assert "t.zip: is not a usable zip archive (File is not a zip file)" in refusal("t.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("t.csv", ROWS)
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(ROWS, b"a,b\n7,2\n"))
    assert "a.zip: cannot be unpacked (Bad CRC-32 for file 't.csv')" in refusal("a.zip", tmp_path)


def test_a_member_with_a_password(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", **{"t.csv": ROWS})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag "encrypted" of the member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and of the directory at the end
    path.write_bytes(content)
    assert "a.zip: this member cannot be unpacked (File 't.csv' is encrypted" in refusal("a.zip", tmp_path)


def test_small_files_that_unpack_to_large_ones(tmp_path: Path) -> None:
    large = b"a\n" + b"1\n" * 50_000
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(large))
    packed(tmp_path / "t.zip", **{"t.csv": large})
    for name in ("t.csv.gz", "t.zip"):
        assert f"{name}: unpacks to more than the allowed 10,000 bytes" in refusal(name, tmp_path, max_bytes=10_000)
        assert read_table(name, base=tmp_path, max_bytes=len(large)).data.num_rows == 50_000
    (tmp_path / "plain.csv").write_bytes(large)
    assert read_table("plain.csv", base=tmp_path, max_bytes=10).data.num_rows == 50_000


def test_reading_all_at_once_keeps_the_cap(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"x" * 1000))
    location = locate("t.csv.gz", base=tmp_path)
    with pytest.raises(DataError, match="allowed 999 bytes"), FileBytes(location, max_bytes=999) as stream:
        stream.read()
    with FileBytes(location, max_bytes=1000) as stream:
        assert len(stream.read()) == 1000
