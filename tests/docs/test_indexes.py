"""The page on indexes: its commands run as they stand, in its order, and what it says of them is so.

Commands under ``console fails`` must fail; those that need faiss are left out where it is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from towerkit.cli import app
from towerkit.cli.ending import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "indexes.md"
SPEC = re.compile(r"^```yaml spec=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console(?P<fails> fails)?\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
HAS_FAISS = importlib.util.find_spec("faiss") is not None


def run(words: list[str]) -> Result:
    """One command."""
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every command of the page has run; ``printed.json`` has what each printed."""
    text, place = PAGE.read_text(encoding="utf-8"), tmp_path_factory.mktemp("page")
    printed: dict[str, tuple[int, str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, body in SPEC.findall(text):
            Path(name).write_text(body, encoding="utf-8")
        for block in CONSOLE.finditer(text):
            lines = [shlex.split(line.removeprefix("$ towerkit ")) for line in block["body"].splitlines()]
            for words in lines:
                if HAS_FAISS or not {"--recall", "--factory"} & set(words):
                    result = run(words)
                    fails = bool(block["fails"]) and words is lines[-1]
                    assert (result.exit_code != 0) == fails, f"{words}: {result.output} {result.exception!r}"
                    printed[" ".join(words)] = (result.exit_code, f"{result.output}{result.exception or ''}")
    (place / "printed.json").write_text(json.dumps(printed), encoding="utf-8")
    return place


def test_the_answers_are_those_without_an_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    asked = ["recommend", "runs/shop", "--query", "u0001", "-k", "3", "--json"]
    one, other = (json.loads(run([*asked, *more]).stdout)["rows"] for more in ([], ["--index", "indexes/exact"]))
    assert [{**row, "score": round(row["score"], 4)} for row in one] == [
        {**row, "score": round(row["score"], 4)} for row in other
    ]


def test_another_space_is_refused(folder: Path) -> None:
    printed = json.loads((folder / "printed.json").read_text())
    _, told = printed["recommend runs/other --query u0001 --index indexes/exact"]
    assert "indexes/exact holds vectors of the space" in told


@pytest.mark.skipif(not HAS_FAISS, reason="needs towerkit[ann]")
def test_the_table_is_printed_and_kept(folder: Path) -> None:
    printed = json.loads((folder / "printed.json").read_text())
    _, table = printed["index runs/shop --recall 0.98 --out indexes/best"]
    assert "recall@20" in table and "HNSW32_SQ8" in table and "float16" in table and "with 240 known queries" in table
    kept = json.loads((folder / "indexes" / "best" / "index.json").read_text())["measured"]
    assert kept["trials"][kept["picked"]]["recall"] >= 0.98 and len(kept["trials"]) >= 13
    assert {path.name for path in (folder / "indexes" / "graph").iterdir()} == {
        "index.json", "keys.arrow", "manifest.json", "measure.safetensors", "native.faiss", "queries.arrow",
        "queries.safetensors", "vectors.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("index runs/shop", "index needs --out"),
        ("index runs/shop --kind exact --nprobe 3 --out x", "--kind exact compares every candidate"),
        ("index runs/shop --nprobe 3 --out x", "with --factory HNSW32"),
        ("index runs/shop --out indexes/exact", "already exists"),
        ("index indexes/exact --out x", "'index'"),
        ("recommend runs/shop --query u0001 --index runs/shop", "is a Run of the kind 'two_tower' and no index"),
        ("recommend runs/shop --all --out x.csv --index indexes/exact", "--all and --candidates rank exactly"),
        ("recommend runs/shop --query u0001 --index nowhere", "There is no folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["towerkit", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (1, 2)
    assert told in " ".join(capsys.readouterr().err.split())
