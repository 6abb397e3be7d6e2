"""The data part that a fetch prints parses, and reads the files: shown on equal files where we have them."""

from __future__ import annotations

import hashlib
import typing
import zipfile
from pathlib import Path

import pytest

from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.public_sets import PUBLIC_SETS
from towerkit.data.readers import SourceSpec
from towerkit.data.spec import DataSpec
from towerkit.spec import parse_yaml


def data_part(name: str, folder: str, replace: tuple[str, str] = ("", "")) -> DataSpec:
    text = PUBLIC_SETS[name].snippet(folder).replace(*replace)
    return parse(DataSpec, parse_yaml(text, name)["data"], name)


@pytest.mark.parametrize("name", sorted(PUBLIC_SETS))
@pytest.mark.parametrize("folder", ["${TOWERKIT_DATA}/x", "/a folder/with: 'signs' \"#1\"", "C:/data"])
def test_every_snippet_parses(name: str, folder: str) -> None:
    formats = typing.get_args(SourceSpec.model_fields["format"].annotation)
    if PUBLIC_SETS[name].files[0].kind == "adjacency" and "adjacency" not in formats:
        pytest.skip("this version does not read adjacency text")
    spec = data_part(name, folder)
    assert spec.examples.path.startswith(folder)
    assert spec.examples.query and spec.examples.candidate


def test_the_snippet_of_ml_100k_reads_it(data_root: Path) -> None:
    spec = data_part("ml-100k", "F", ("F/ml-100k.zip::ml-100k", str(data_root / "ml-100k" / "raw")))
    data = read_dataset(spec)
    assert data.examples.data.num_rows == 100_000
    assert data.entities["user"].table.data.num_rows == 943
    assert data.entities["item"].table.data.num_rows == 1682
    assert data.entities["item"].table.data.column("title")[0].as_py() == "Toy Story (1995)"
    assert data.split["kind"] == "time"


def test_the_snippet_of_ml_latest_small_reads_it(data_root: Path) -> None:
    folder = str(data_root / "ml-latest-small")
    data = read_dataset(data_part("ml-latest-small", "F", ("F/ml-latest-small.zip::ml-latest-small", folder)))
    assert data.examples.data.num_rows == 100_004
    assert data.entities["movieId"].table.data.num_rows == 9_125


def test_the_entities_of_ml_1m_are_read(data_root: Path) -> None:
    from towerkit.data.readers import read_table

    spec = data_part("ml-1m", "F", ("F/ml-1m.zip::ml-1m", str(data_root / "ml-1m" / "raw")))
    assert read_table(spec.entities["user"]).data.num_rows == 6_040
    assert read_table(spec.entities["item"]).data.num_rows == 3_883
    assert spec.examples.separator == "::"


def test_the_md5_that_is_told_of_gowalla_is_that_of_the_split(data_root: Path) -> None:
    with zipfile.ZipFile(data_root / "gowalla" / "light_gcn_gowalla.zip") as archive:
        for file in PUBLIC_SETS["gowalla"].files:
            content = archive.read(f"light_gcn_gowalla/{file.name}")
            assert hashlib.md5(content).hexdigest() == file.md5_elsewhere  # noqa: S324


def test_the_snippet_of_gowalla_reads_it(data_root: Path) -> None:
    if "adjacency" not in typing.get_args(SourceSpec.model_fields["format"].annotation):
        pytest.skip("this version does not read adjacency text")
    archive = f"{data_root}/gowalla/light_gcn_gowalla.zip::light_gcn_gowalla"
    data = read_dataset(data_part("gowalla", archive))
    assert data.parts.sizes()["test"] == 217_242
    assert data.examples.data.num_rows == 810_128 + 217_242
