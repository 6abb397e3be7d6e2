"""docs/benchmarks.md is what the measured figures give, and a figure that misses its target never goes without a word."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"


@pytest.fixture
def write() -> Iterator[Any]:
    """The script as a module."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module("write")
    sys.path.pop(0)


def line(**about: Any) -> dict[str, Any]:
    """A measured line of an epoch against the obvious loop."""
    side = {"median_s": 0.5, "q1_s": 0.4, "q3_s": 0.6, "min_s": 0.3, "max_s": 0.7}
    sides = {
        "by hand": {**side, "median_s": 25.0},
        "towerkit torch": {**side, "median_s": 5.0},
        "towerkit compiled": side,
    }
    ratios = {
        "by hand / towerkit torch": {"median": 5.0, "q1": 4.5, "q3": 5.5},
        "by hand / towerkit compiled": {"median": 50.0, "q1": 45.0, "q3": 55.0},
    }
    machine = {"machine": "m", "python": "3", "commit": "c", "load": 1.0, "repeats": 3}
    return {"benchmark": "one-backprop epoch", **machine, "sides": sides, "ratios": ratios, **about}


def notes_of(write: Any) -> dict[str, dict[str, str]]:
    return {"missed": dict.fromkeys([target.key for target in write.TARGETS], "because"), "remarks": {}}


def test_the_page_is_what_the_script_writes() -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "write.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_page_is_linked() -> None:
    assert "\nbenchmarks\n" in (ROOT / "docs" / "index.md").read_text()


def test_the_best_engine_counts_and_stands_beside_its_baseline(write: Any) -> None:
    row = write.table([line()]).splitlines()[2]
    assert "| >= 40x | 50x [45, 55] | by hand 25.00 s, towerkit compiled 500.0 ms | met |" in row


def test_a_miss_says_by_how_much(write: Any) -> None:
    ratios = {"by hand / towerkit torch": {"median": 5.0, "q1": 4.5, "q3": 5.5}}
    assert "| **missed** by 35x |" in write.table([line(ratios=ratios)])


def test_another_loop_of_the_same_word_is_not_taken(write: Any) -> None:
    ratios = {"vectorized, autograd / towerkit compiled": {"median": 90.0, "q1": 90.0, "q3": 90.0}}
    read = next(target.read for target in write.TARGETS if target.key == "epoch-vectorized")
    assert read([line(ratios=ratios)]) is None


def test_a_miss_without_a_note_is_an_error(write: Any) -> None:
    notes = notes_of(write)
    ratios = {"by hand / towerkit torch": {"median": 5.0, "q1": 4.5, "q3": 5.5}}
    assert "per-pair" not in write.why([line()], notes)  # met: its note is not shown
    assert "per-pair Python sampling with a PyTorch step*: because" in write.why([line(ratios=ratios)], notes)
    del notes["missed"]["epoch-by-hand"]
    with pytest.raises(SystemExit, match=r"epoch-by-hand is missed"):
        write.why([line(ratios=ratios)], notes)


def test_what_is_not_built_is_missed(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = replace(write.TARGETS[0], key="a-dream", read=write.not_built)
    monkeypatch.setattr(write, "TARGETS", (*write.TARGETS, one))
    assert "| **missed**: not built |" in write.table([line()])
    notes = notes_of(write)
    del notes["missed"]["a-dream"]
    with pytest.raises(SystemExit, match=r"a-dream is missed"):
        write.why([line()], notes)


def test_streaming_is_read_with_its_load_and_its_pages(write: Any) -> None:
    sides = {name: {"median_s": value} for name, value in (("10 rows", 2e-6), ("100 rows", 2.2e-6))}
    ratios = {
        "100 rows / 10 rows": {"median": 1.1, "q1": 1.0, "q3": 1.2},
        "100 rows / 10 rows, processor time": {"median": 1.05, "q1": 1.0, "q3": 1.1},
    }
    timed = {"benchmark": "streamed interactions", "sides": sides, "ratios": ratios, "load": 2.0}
    memory = {"benchmark": "streamed peak memory", "resident_bytes": 3e9, "peak_bytes": 1e9, "whole": False}
    rows = write.table([timed, memory])
    assert (
        "| <= 1.15x | 1.1x [1, 1.2] | per interaction 100 rows 2.20 µs, 10 rows 2.00 µs; of processor time 1.05x"
        in rows
    )
    assert "| <= 4 GB | 3 GB | from the files to the second window of training; 1.00 GB without the pages" in rows


def test_presets_are_read_as_quality(write: Any, tmp_path: Path) -> None:
    figures = {"spectral": {"recall@20": 0.2, "ndcg@20": 0.16}, "item_knn": {"recall@20": 0.1, "ndcg@20": 0.1}}
    row = {"figures": figures, "command_seconds": 50.5, "load_before": 1.0, "commit": "c"}
    (tmp_path / "presets.json").write_text(json.dumps({"gowalla": row}))
    rows = write.table(write.presets(tmp_path / "presets.json"))
    assert "| <= 60 s | 50.5 s | NDCG@20 of item knn 0.1000; load 1.0, commit c | met |" in rows
    assert "| >= 0.192 | 0.2 |" in rows and "| <= 180 s | - |" in rows
    figures["best"] = {"recall@20": 0.21, "ndcg@20": 0.17}
    row = row | {"figures": figures, "best_seconds": 170.2}
    (tmp_path / "presets.json").write_text(json.dumps({"gowalla": row}))
    rows = write.table(write.presets(tmp_path / "presets.json"))
    assert "| <= 180 s | 170 s | NDCG@20 of spectral 0.1600, item knn 0.1000;" in rows and "| >= 0.195 | 0.21 |" in rows
    assert write.presets(tmp_path / "nothing.json") == []


def test_where_a_peer_is_ahead_it_is_named(write: Any) -> None:
    ratios = {"by hand / towerkit compiled": {"median": 0.5, "q1": 0.4, "q3": 0.6}}
    text = write.peers([line(data="d", peer={"version": "p 1"}, alike="same", ratios=ratios)], {})
    assert "| **by hand** |" in text and "same" in text
    assert "left out, no index" in write.peers([line(left_out="no index", ratios={})], {})


def test_the_measured_lines_are_whole_runs() -> None:
    lines = [json.loads(text) for text in (FOLDER / "measured.jsonl").read_text().splitlines()]
    for each in lines:
        assert {"benchmark", "commit", "machine", "threads", "repeats", "sides", "load"} <= set(each)
    names = {each["benchmark"] for each in lines}
    assert {"one-backprop epoch", "bpr epoch", "softmax step, two_backprop", "machine", "peak memory"} <= names
    notes = tomllib.loads((FOLDER / "notes.toml").read_text())
    assert set(notes) == {"remarks", "missed", "peers"}
