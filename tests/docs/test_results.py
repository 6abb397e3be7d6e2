"""docs/results.md is what its measured figures give: it is made by a script, and edited nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
