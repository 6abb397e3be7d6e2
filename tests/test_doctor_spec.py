"""Doctor reads the data of a spec: every table, the sizes of the parts, and all problems, not only the first."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from towerkit.doctor import examine, show_findings

SPEC = """
data:
  examples: {path: clicks.csv, query: user, candidate: item, time: when}
  entities: {item: {path: items.csv, key: id, title: name}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """Sixty clicks on five items, and a spec of their data alone."""
    rows = "".join(f"u{n % 7},i{n % 5},{1700000000 + n}\n" for n in range(60))
    (tmp_path / "clicks.csv").write_text("user,item,when\n" + rows)
    (tmp_path / "items.csv").write_text("id,name\n" + "".join(f"i{n},Item {n}\n" for n in range(5)))
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path / "spec.yaml"


def look(spec: Path) -> tuple[dict[str, Any], str]:
    """What was found, and what was printed."""
    found = examine(str(spec))
    console = Console(width=200, record=True, file=io.StringIO())
    show_findings(found, console)
    return found, console.export_text()


def test_tables_and_parts(spec: Path) -> None:
    found, printed = look(spec)
    assert found["problems"] == []
    assert found["parts"] == {"train": 48, "validation": 6, "test": 6}
    assert found["tables"]["examples"]["pairs"]["queries"] == 7
    assert found["tables"]["examples"]["time"]["first"] == "2023-11-14T22:13:20"
    assert found["tables"]["item"]["rows"] == 5
    assert "no model yet" in found["notes"][0]
    assert "train 48 · validation 6 · test 6" in printed


def test_a_search_collection(tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("".join(f".I {n}\n.T\ntitle {n}\n.W\nthe text {n}\n" for n in range(20)))
    (tmp_path / "queries").write_text("".join(f".I {n}\n.W\nwhich is {n}\n" for n in range(20)))
    (tmp_path / "judged").write_text("".join(f"{n} {n}\n" for n in range(20)) + "3 99\n")
    files = "documents: docs, queries: queries, qrels: judged"
    (tmp_path / "spec.yaml").write_text(f"data: {{collection: {{format: smart, {files}}}}}\n")
    found, printed = look(tmp_path / "spec.yaml")
    assert found["problems"] == []
    assert {name: table["rows"] for name, table in found["tables"].items()} == {
        "examples": 20,
        "query": 20,
        "document": 20,
    }
    assert found["parts"] == {"train": 16, "validation": 2, "test": 2}
    assert "1 of 21 judgements are of a document that docs lacks" in printed
    (tmp_path / "judged").write_text("1 2 3 4 5\n")
    found, printed = look(tmp_path / "spec.yaml")
    assert found["problems"] == [found["problems"][0]]
    assert "judged, line 1: a judgement of format: smart is" in printed


def test_every_problem_is_told(spec: Path) -> None:
    (spec.parent / "items.csv").write_text("id,name\ni1,One\ni1,Two\ni2,Three\n")
    clicks = (spec.parent / "clicks.csv").read_text().replace("u3,i3,1700000003", "u3,,1700000003")
    (spec.parent / "clicks.csv").write_text(clicks)
    spec.write_text(SPEC + "model: {kind: two_towers}\n")
    found, printed = look(spec)
    told = "\n".join(found["problems"])
    assert "two_towers" in told
    assert "items.csv, line 3: 'i1' stood before" in told
    assert found["parts"] is None
    assert printed.count("problem: ") == len(found["problems"]) >= 3
    (spec.parent / "items.csv").unlink()
    told = "\n".join(examine(str(spec))["problems"])
    assert "items.csv" in told and found["tables"]["examples"]["rows"] == 60


def test_a_given_test_table_is_read_like_the_examples(spec: Path) -> None:
    (spec.parent / "train.dat").write_text("".join(f"u{n % 7}|i{n % 5}\n" for n in range(60)))
    (spec.parent / "later.dat").write_text("u1|i1\nu2|i2\n")
    spec.write_text(
        "data:\n  examples: {path: train.dat, separator: '|', names: [user, item], query: user, candidate: item}\n"
        "  test: {path: later.dat}\n"
    )
    found, _ = look(spec)
    assert found["problems"] == []
    assert found["tables"]["test"]["pairs"]["events"] == 2
    assert found["parts"]["test"] == 2


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "doctor reads the key 'data'"),
        ("[1]", "doctor reads the key 'data'"),
        ("data: {example: {}}", "did you mean 'examples'?"),
        ("data: [", "not valid YAML"),
        ("data: {examples: {path: nowhere.csv}}", "nowhere.csv"),
    ],
)
def test_a_spec_that_is_none(tmp_path: Path, content: str, part: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    found, _ = look(tmp_path / "a.yaml")
    assert part in found["problems"][0]


def test_a_spec_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    assert "a.yaml cannot be read" in examine(str(tmp_path / "a.yaml"))["problems"][0]
    assert "nothing.yaml cannot be read" in examine(str(tmp_path / "nothing.yaml"))["problems"][0]
