"""docs/results.md is what its measured figures give: it is made by a script, and edited nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRITE = ROOT / "benchmarks" / "results" / "write.py"


def test_the_page_is_what_the_script_writes() -> None:
    done = subprocess.run([sys.executable, str(WRITE), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_example_is_on_the_page_with_distinct_seeds() -> None:
    runs = json.loads((WRITE.parent / "examples.json").read_text())
    page = (ROOT / "docs" / "results.md").read_text()
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run["example"], []).append(run["settings"]["training.seed"])
        for values in run["metrics"].values():
            for metric in values.values():
                assert metric["low"] <= metric["value"] <= metric["high"]
    assert {"clothing_multitask", "clothing_late", "scifact"} <= set(seeds)
    assert all(len(set(own)) == len(own) for own in seeds.values())
    assert page.count("The spec: examples/") == len(seeds)


def test_every_measured_run_is_on_the_page_with_all_its_seeds() -> None:
    content = json.loads((WRITE.parent / "results.json").read_text())
    assert not content["tiny"]
    seeds: dict[tuple[str, str], set[int]] = {}
    for run in content["runs"]:
        assert run["stage"] == "measure"
        seeds.setdefault((run["data"], run["variant"]), set()).add(run["settings"]["training.seed"])
    assert set(map(frozenset, seeds.values())) == {frozenset({0, 1, 2})}


def test_every_question_about_fusion_is_on_the_page_as_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(WRITE.parent))
    from fusion_rows import ROWS

    content = json.loads((WRITE.parent / "fusion.json").read_text())
    page = (ROOT / "docs" / "results.md").read_text()
    rows = {row.name: row for row in ROWS}
    assert len(rows) == len(ROWS)
    measured = {run["row"] for run in content["runs"]}
    assert {"emoji", "shop_joint", "posters", "films_tasks"} <= measured <= set(rows)
    for run in content["runs"]:
        for values in (run["metrics"], *run["beside"].values()):
            assert set(values) <= set(rows[run["row"]].metrics)
            assert all(metric["low"] <= metric["value"] <= metric["high"] for metric in values.values())
    keys = [(run["row"], run["model"], run["seed"]) for run in content["runs"]]
    assert len(set(keys)) == len(keys)
    for each in content["differences"]:
        assert {(each["row"], each[name], each["seed"]) for name in ("model", "than")} <= set(keys)
    for name in measured:
        assert page.count(f"### {rows[name].title}\n") == 1
    for row in ROWS:
        for model in row.models:
            assert set(model.keep) <= {"towers", "heads", "candidates"}
            model.settings_with(ROOT)  # names parts that the spec has
