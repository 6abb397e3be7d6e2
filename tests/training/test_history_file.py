"""The history as a file that grows.

Invariants:
- one line of strict JSON per epoch, there as soon as the epoch is told; NaN and infinity are null, all else as it was;
- an old file is begun anew at the first epoch, not before; the folder is made when it is needed;
- what the disk refuses is a RunError that names the file; what else is told writes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towerkit.core.errors import RunError
from towerkit.training.history_file import HistoryFile, history_line
from towerkit.training.progress import Step


def tell(history: HistoryFile, record: dict[str, Any]) -> None:
    history.epoch(record, stage="train", epochs=9, is_best=False)


def test_each_epoch_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint" / "deep" / "history.jsonl"
    history = HistoryFile(path)
    for number in (1, 2, 3):
        tell(history, {"epoch": number, "loss": 0.5 / number})
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == [{"epoch": n, "loss": 0.5 / n} for n in range(1, number + 1)]


def test_an_old_file_is_begun_anew_at_the_first_epoch(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    tell(HistoryFile(path), {"epoch": 1})
    again = HistoryFile(path)
    assert path.read_text() == '{"epoch": 1}\n'
    tell(again, {"epoch": 7})
    tell(again, {"epoch": 8})
    assert path.read_text() == '{"epoch": 7}\n{"epoch": 8}\n'


def test_what_else_is_told_writes_nothing(tmp_path: Path) -> None:
    history = HistoryFile(tmp_path / "deep" / "history.jsonl")
    history.step(Step("train", 1, 0.5, 0.1))
    history.end({"ndcg@10": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_refuses_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot write .*file/history\.jsonl: .*; check the free space"):
        tell(HistoryFile(tmp_path / "file" / "history.jsonl"), {"epoch": 1})


@given(st.dictionaries(st.text(max_size=3), st.floats() | st.integers() | st.text(max_size=3) | st.none(), max_size=5))
def test_a_line_is_strict_json_of_the_record(record: dict[str, Any]) -> None:
    def refused(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    line = history_line(record)
    assert line.endswith("\n") and line.count("\n") == 1
    infinite = {float("inf"), float("-inf")}
    expected = {name: None if value != value or value in infinite else value for name, value in record.items()}
    assert json.loads(line, parse_constant=refused) == expected
