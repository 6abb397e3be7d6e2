"""The page on answers: its files and specs are written, and every command of it runs as it stands, in its order.

The commands are checked for what the page says of them; a control shows that a command that fails is found.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from towerkit.cli import app

PAGE = Path(__file__).resolve().parents[2] / "docs" / "answers.md"
FILE = re.compile(r"^```\w+ (?:file|spec)=(?P<name>\S+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of each command."""
    lines = [line for block in CONSOLE.finditer(text) for line in block["body"].splitlines()]
    return [shlex.split(line.removeprefix("$ towerkit ")) for line in lines if line.startswith("$ towerkit ")]


def run_all(each: list[list[str]]) -> dict[str, str]:
    """Run commands in this folder: words -> what was printed, standard error included."""
    found = {}
    for words in each:
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"towerkit {' '.join(words)}: {result.output} {result.exception!r}"
        found[" ".join(words)] = result.output
    return found


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What every command of the page printed."""
    text = PAGE.read_text(encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        files = list(FILE.finditer(text))
        for file in files:
            Path(file["name"]).write_text(file["body"], encoding="utf-8")
        found = run_all(commands(text))
        found["#files"] = " ".join(file["name"] for file in files)
        found["#folder"] = str(Path.cwd())
    return found


def test_every_command_of_the_page_runs(printed: dict[str, str]) -> None:
    assert len(printed) >= 17
    assert set(printed["#files"].split()) == {
        "shop.yaml", "reviews.yaml", "sold-out.csv", "newcomers.jsonl", "people.csv", "pairs.csv", "new-reviews.csv",
    }  # fmt: skip


def test_what_the_page_says_of_them_is_so(printed: dict[str, str]) -> None:
    folder = Path(printed["#folder"])
    chosen = next(
        text for words, text in printed.items() if "--where 'price" in words or "--where price < 40 and" in words
    )
    assert len(re.findall(r"^ u0001 ", chosen, re.MULTILINE)) == 3
    slip = printed['recommend runs/shop --query u0001 -k 5 --where category == "Lighting"']
    assert "no row has 'Lighting' in 'category'; did you mean 'lighting'?" in slip
    rows = printed["recommend runs/shop --rows newcomers.jsonl -k 3"]
    assert rows.count("True") == 3 and rows.count("False") == 9
    table = pyarrow.parquet.read_table(folder / "recommendations.parquet")
    assert table.num_rows == 2400 and not (folder / "recommendations.parquet.parts").exists()
    people = json.loads(printed["embed runs/shop people.csv --side query --json"])["rows"]
    assert [row["cold"] for row in people] == [False, True] and len(people[0]["vector"]) == 16
    assert pyarrow.csv.read_csv(folder / "predictions.csv").column("cold").to_pylist() == [False, True]
    pairs = printed["predict runs/shop pairs.csv"]
    assert "False" in pairs and "True" in pairs and "title" in pairs


def test_a_command_that_fails_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planted = "```console\n$ towerkit recommend runs/nothing --query u0001\n```\n"
    with pytest.raises(AssertionError, match="runs/nothing"):
        run_all(commands(planted))
