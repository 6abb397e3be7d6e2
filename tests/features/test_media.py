"""Columns of files.

Invariants:
- bytes, paths beside the table, paths below a folder or in an archive as root, and ``{}.png`` of a value give the same rows;
- a path does not leave its root; an address, a folder, a missing member and a huge file each have their reason;
- a bad file counts as absent, is remarked once with row and reason, or is refused; empty cells are no faults; many files that are
  all bad are a mistake of the spec;
- each distinct file is decoded once, and not again in the next training: the cache is read; a damaged entry is decoded again;
  what a request brings is not kept;
- where the rows do not fit into memory each batch reads its own from the cache, or from the files where the cache is gone;
- the portable column holds the files and encodes alike without them;
- a coarse grid of pixels, with a flag, is what baselines see.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from towerkit.core.errors import DataError, SpecError
from towerkit.core.remarks import collecting
from towerkit.core.spec import parse
from towerkit.data.batch import Stored, joined, take
from towerkit.data.readers import read_table
from towerkit.data.shop import shop_table
from towerkit.data.table import Table
from towerkit.features import media
from towerkit.features.base import State
from towerkit.features.cells import Opener, Place, Unusable
from towerkit.features.design import coarse
from towerkit.features.image import ImageFeature, ImageSpec

PICTURES: list[bytes] = shop_table("products", size="small")["image"].to_pylist()[:6]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOWERKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures as files, in a folder of their own, and in an archive."""
    (tmp_path / "below").mkdir()
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for place, content in enumerate(PICTURES):
            (tmp_path / "below" / f"{place}.png").write_bytes(content)
            archive.writestr(f"{place}.png", content)
    return tmp_path


def feature(**settings: Any) -> ImageFeature:
    return ImageSpec(column="image", size=12, **settings).restore(State({}))


def table(values: list[Any], folder: Path | None = None) -> Table:
    return Table(pa.table({"image": pa.array(values)}), "t.csv", folder=folder)


def pixels(column: Stored) -> np.ndarray[Any, Any]:
    """``[rows, ...]``, -1 where there is nothing."""
    found = np.full((len(column), 3, 12, 12), -1)
    present = torch.nonzero(~column.is_empty).flatten()
    found[present] = column.read(present).numpy()
    return found


def test_every_way_to_name_the_same_files(folder: Path) -> None:
    wanted = pixels(feature().read(table(PICTURES)))
    names = [f"{place}.png" for place in range(6)]
    below, archive = str(folder / "below"), str(folder / "all.zip")
    for given, settings in (
        (table([f"below/{name}" for name in names], folder), {}),
        (table([f"{folder}/below/{name}" for name in names]), {}),
        (table([f"all.zip::{name}" for name in names], folder), {}),
        (table(names, folder), {"root": "below"}),
        (table(names), {"root": below}),
        (table(names), {"root": archive}),
        (table(list(range(6))), {"root": archive, "pattern": "{}.png"}),
        (table([str(place) for place in range(6)]), {"root": below, "pattern": "{}.png"}),
    ):
        with collecting() as remarks:
            np.testing.assert_array_equal(pixels(feature(**settings).read(given)), wanted)
        assert remarks == []


def test_paths_start_where_the_table_lies(folder: Path) -> None:
    (folder / "t.csv").write_text("image,x\nbelow/0.png,1\nbelow/3.png,2\n")
    found = pixels(feature().read(read_table(folder / "t.csv")))
    np.testing.assert_array_equal(found, pixels(feature().read(table([PICTURES[0], PICTURES[3]]))))


@pytest.mark.parametrize(
    ("value", "root", "reason"),
    [
        ("nothing.png", None, "is not there"),
        ("below", None, "is a folder"),
        ("all.zip::nothing.png", None, "not among the 6 members of all.zip"),
        ("none.zip::a.png", None, "is in an archive none.zip that is not there"),
        ("t.csv::a.png", None, "cannot be unpacked"),
        ("https://x/y.png", None, "is an address; download the file"),
        ("../t.csv", "below", "leads out of the root below"),
        ("/etc/hostname", "below", "leads out of the root below"),
        ("link.png", "below", "leads out of the root below"),
        ("a\0b", None, "is not there|cannot be read"),
        ("9.png", "all.zip", "not among the 6 members"),
        (b"x" * 200, None, "has 200 bytes, and 100 are allowed"),
        ("t.csv", None, "has 130 bytes, and 100 are allowed"),
    ],
)
def test_why_a_cell_cannot_be_opened(folder: Path, value: str | bytes, root: str | None, reason: str) -> None:
    (folder / "t.csv").write_text("x" * 130)
    (folder / "below" / "link.png").symlink_to(folder / "t.csv")
    limit = 100 if "100 are" in reason else 10_000
    with Opener(Place(folder, root), limit) as opener, pytest.raises(Unusable, match=reason):
        opener.content(value)


def test_a_root_that_is_not_there_is_a_mistake_of_the_spec(folder: Path) -> None:
    with pytest.raises(DataError, match=r"The root nowhere of a column of files is not there"):
        feature(root="nowhere").read(table(["0.png"], folder))
    (folder / "plain").write_text("x")
    with pytest.raises(DataError, match=r"The root plain .* is neither a folder nor a zip archive"):
        feature(root="plain").read(table(["0.png"], folder))


def test_bad_files_are_absent_and_told(folder: Path) -> None:
    values = ["below/0.png", "gone.png", None, "", "bad.png", "bad.png", "below/1.png"]
    (folder / "bad.png").write_bytes(PICTURES[0][:90])
    with collecting() as remarks:
        column = feature().read(table(values, folder))
    assert column.is_empty.tolist() == [False, True, True, True, True, True, False]
    (told,) = remarks
    assert told.startswith(
        "t.csv: 3 of 6 pictures in the column 'image' cannot be used and count as absent: row 2 ('gone.png') "
    )
    assert "is not there; row 5 ('bad.png') is damaged" in told
    with pytest.raises(
        DataError, match=r"'image' must hold pictures that can be read; row 2 \('gone.png'\) is not there"
    ):
        feature(on_error="refuse").read(table(values, folder))
    with pytest.raises(
        DataError, match="None of the 20 pictures that the column 'image' names can be used: row 1 .'0.jpg'"
    ):
        feature().read(table([f"{n}.jpg" for n in range(20)], folder))
    assert feature().read(table([f"{n}.jpg" for n in range(3)], folder)).is_empty.all()
    with pytest.raises(
        DataError, match="must hold paths or bytes of files; it holds list<item: string>|list<element: string>"
    ):
        feature().read(table([["a"]]))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each decoded file had."""
    calls: list[int] = []
    decode = ImageFeature.decode

    def count(self: ImageFeature, content: bytes) -> Any:
        calls.append(len(content))
        return decode(self, content)

    monkeypatch.setattr(ImageFeature, "decode", count)
    return calls


def test_each_distinct_file_is_decoded_once_and_kept(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    calls = counted(monkeypatch)
    rows = table([*PICTURES, *PICTURES[:3], None])
    first = pixels(feature().read(rows))
    assert len(calls) == 6 and not own_cache.exists()
    np.testing.assert_array_equal(first[6:9], first[:3])
    kept = pixels(feature().read(rows, kept=True))
    assert len(calls) == 12 and own_cache.exists()
    again = pixels(feature().read(rows, kept=True))
    assert len(calls) == 12
    np.testing.assert_array_equal(kept, first)
    np.testing.assert_array_equal(again, first)
    pixels(feature(fitting="pad").read(rows, kept=True))  # another setting is another file
    assert len(calls) == 18


def test_a_damaged_cache_is_not_believed(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    calls = counted(monkeypatch)
    wanted = pixels(feature().read(table(PICTURES), kept=True))
    (path,) = own_cache.rglob("*.sqlite")
    content = bytearray(path.read_bytes())
    for start in range(4096, len(content), 700):
        content[start] ^= 0xFF
    path.write_bytes(bytes(content))
    np.testing.assert_array_equal(pixels(feature().read(table(PICTURES), kept=True)), wanted)
    assert len(calls) > 6


def test_rows_that_do_not_fit_into_memory_are_read_by_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    names = [f"below/{place % 6}.png" for place in range(10)] + [None]
    wanted = pixels(feature().read(table(names, folder), kept=True))
    monkeypatch.setattr(media, "IN_MEMORY_BYTES", 100)
    calls = counted(monkeypatch)
    column = feature().read(table(names, folder), kept=True)
    np.testing.assert_array_equal(pixels(column), wanted)
    assert calls == []
    order = torch.tensor([10, 9, 0, 0, 3])
    np.testing.assert_array_equal(pixels(column.take(order)), wanted[order.numpy()])
    for path in own_cache.rglob("*.sqlite"):
        path.unlink()
    np.testing.assert_array_equal(pixels(column), wanted)
    assert len(calls) == 6
    request = feature().read(table(names, folder))
    np.testing.assert_array_equal(pixels(request), wanted)
    (folder / "below" / "2.png").write_bytes(PICTURES[3])
    with pytest.raises(
        DataError, match=r"Row 3 of the column 'image' was read before and cannot be read now \('below/2.png'\)"
    ):
        pixels(request)


def test_the_portable_column_needs_no_files(folder: Path) -> None:
    rows = table(["below/0.png", None, "gone.png", "below/5.png"], folder)
    wanted = pixels(feature().read(rows))
    (values,) = feature().portable(rows).values()
    for file in (folder / "below").iterdir():
        file.unlink()
    np.testing.assert_array_equal(pixels(feature().read(Table(pa.table({"image": values}), "in the Run"))), wanted)
    assert feature().portable(table(PICTURES)) == {}


def test_one_stored_column_behind_another_and_rows_of_it() -> None:
    unknown, known = feature().read(table([None])), feature().read(table(PICTURES))
    both = joined(unknown, known)
    assert isinstance(both, Stored)
    assert both.is_empty.tolist() == [True] + 6 * [False]
    taken = take({"a": both}, torch.tensor([0, 6]))["a"]
    assert isinstance(taken, Stored) and len(taken) == 2
    np.testing.assert_array_equal(pixels(taken)[1], pixels(known)[5])


def test_what_baselines_see_of_pictures() -> None:
    found = coarse(feature().read(table([None, PICTURES[0]])))
    assert found.shape == (2, 3 * 16 + 1)
    assert found[0].tolist() == [0.0] * 48 + [1.0]
    whole = pixels(feature().read(table(PICTURES[:1])))[0] / 255.0
    np.testing.assert_allclose(found[1, :16].reshape(4, 4)[0, 0], whole[0, :3, :3].mean(), rtol=1e-5)
    assert found[1, -1] == 0.0


@pytest.mark.parametrize("pattern", ["x.jpg", "{}{}.jpg", "{0}.jpg", "{a}.jpg", "{.jpg"])
def test_a_pattern_has_one_place(pattern: str) -> None:
    with pytest.raises(SpecError, match="a pattern has one {}"):
        parse(ImageSpec, {"column": "image", "pattern": pattern})
