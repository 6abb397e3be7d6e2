"""The gallery: what `towerkit new` writes.

Pinned here:
- every use names examples that exist, and every example that is not of another's use stands in the gallery;
- a project's specs are specs, which read nothing beside their folder;
- a project of the bundled shop trains as it is written;
- what holds files already, an unknown use and half a question are refused and say how to go on.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.core.errors import DataError, SpecError
from towerkit.gallery import begin, examples_folder, uses
from towerkit.spec import load_spec

NOT_THERE = {
    "shop_ablation.yaml": "made for its planted truth",
    "emoji.yaml": "its table is made by a tool of the repository",
    "census_multitask.yaml": "as adult_multitask.yaml",
}


def test_every_example_is_of_a_use() -> None:
    named = {name for use in uses().values() for name in use.files}
    assert named | set(NOT_THERE) == {path.name for path in examples_folder().glob("*.yaml")}
    assert not named & set(NOT_THERE)


@pytest.mark.parametrize("name", list(uses()))
def test_a_project_is_whole(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TOWERKIT_DATA", "MINILM"):
        monkeypatch.setenv(variable, str(tmp_path / "data"))
    page, *specs = begin(tmp_path / "mine", name)
    assert [path.name for path in specs] == list(uses()[name].files)
    assert f"towerkit train {specs[0].name} --run" in page.read_text()
    for path in specs:
        load_spec(path)
        assert "../" not in path.read_text() and "examples/" not in path.read_text()


def test_a_project_of_the_shop_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["new", "mine", "--like", "snacks", "--json"])
    files = json.loads(told.stdout)["files"]
    command = ["train", files[1], "--run", "run", "--set", "training.epochs=1", "--json"]
    told = CliRunner().invoke(app, command, catch_exceptions=False)
    assert json.loads(told.stdout)["kind"] == "joint"


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(DataError, match="holds files already; name a folder that does not exist"):
        begin(tmp_path, "search")
    with pytest.raises(DataError, match=r"kept: cannot be written: .*; name another folder"):
        begin(tmp_path / "kept", "search")
    assert (tmp_path / "kept").read_text() == "mine"
    with pytest.raises(
        SpecError, match=r"There is no example like 'searches'; did you mean 'search'\? The uses are 'ads'"
    ):
        begin(tmp_path / "new", "searches")
    assert not (tmp_path / "new").exists()


def test_the_uses_are_listed() -> None:
    told = CliRunner().invoke(app, ["new", "--json"])
    assert [each["name"] for each in json.loads(told.stdout)["uses"]] == list(uses())
    assert all(name in CliRunner().invoke(app, ["new"]).stdout for name in uses())
