"""An error leads to a page of docs, wherever towerkit is installed.

- Every class of errors names a page that is there, and that an installed package carries.
- The command line names it below the message, and in ``--json``; a page that is not there is not named.
- A shell completes commands, options and the uses of the gallery.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from towerkit.cli import main
from towerkit.core.errors import TowerkitError
from towerkit.guide import page_path

ROOT = Path(__file__).parents[1]


def classes(base: type[TowerkitError] = TowerkitError) -> Iterator[type[TowerkitError]]:
    """The class and all below it."""
    yield base
    for each in base.__subclasses__():
        yield from classes(each)


@pytest.mark.parametrize("error", sorted({*classes()}, key=lambda each: each.__name__))
def test_every_error_has_a_page_that_is_installed(error: type[TowerkitError]) -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    name = f"docs/{error.page}.md"
    assert (ROOT / name).is_file() and included["force-include"][name] == f"towerkit/{name}"


def test_the_command_line_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["towerkit", "evaluate", str(tmp_path / "nothing"), "--json"])
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("more:  ") and err.endswith("docs/runs.md\n")
    assert json.loads(out)["error"]["page"] == err.splitlines()[-1].removeprefix("more:  ")


def test_a_path_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert page_path("data") == str(Path("docs", "data.md")) and page_path("no such page") is None
    monkeypatch.chdir(tmp_path)
    assert page_path("data") == str(ROOT / "docs" / "data.md")


@pytest.mark.parametrize(
    ("words", "found"),
    [("towerkit tra", ["train"]), ("towerkit new x --like sea", ["search"]), ("towerkit studio --ba", ["--base"])],
)
def test_a_shell_completes(words: str, found: list[str]) -> None:
    asked = {"_TOWERKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "towerkit"], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == found, done.stderr
