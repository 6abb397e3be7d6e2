"""The suite runs every script it finds, keeps their lines, and says which failed.

- Lines are kept in the place of earlier ones of the same benchmark and size; others stay.
- A script that fails does not stop the others, and the exit code tells; a name that is not there is refused with the list.
- Tiny figures are never kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Import = Callable[[str], Any]


@pytest.fixture
def suite(benchmark_module: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The suite over two scripts of a temporary folder, the first of which fails."""
    module = benchmark_module("suite")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "LATEST", tmp_path / "latest.jsonl")
    monkeypatch.setattr(module, "MEASURED", tmp_path / "measured.jsonl")
    (tmp_path / "bench_a.py").write_text("raise SystemExit(3)")
    (tmp_path / "bench_b.py").write_text("import json; print(json.dumps({'benchmark': 'b', 'n': 1}))")
    return module


def start(suite: Any, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["suite.py", *words])
    suite.main()


def test_a_failure_does_not_stop_the_others(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="failed: a"):
        start(suite, monkeypatch, "--tiny")
    assert json.loads(suite.LATEST.read_text()) == {"benchmark": "b", "n": 1}


def test_lines_are_kept_in_the_place_of_the_same_ones(suite: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"benchmark": "b", "n": 1, "old": True}, {"benchmark": "b", "n": 2, "old": True}]
    suite.MEASURED.write_text("".join(json.dumps(line) + "\n" for line in lines))
    start(suite, monkeypatch, "--only", "b", "--keep")
    kept = [json.loads(line) for line in suite.MEASURED.read_text().splitlines()]
    assert kept == [{"benchmark": "b", "n": 1}, {"benchmark": "b", "n": 2, "old": True}]


def test_an_unknown_name_and_tiny_figures_are_refused(
    suite: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in ((["--only", "c"], "names c; there are a, b"), (["--tiny", "--keep"], "mean nothing")):
        with pytest.raises(SystemExit):
            start(suite, monkeypatch, *words)
        assert said in capsys.readouterr().err
    assert not suite.MEASURED.exists()
