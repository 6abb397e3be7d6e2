"""The demo checks itself: it passes on the planted shop, and fails when what was planted is taken away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from towerkit import demo
from towerkit.data.readers import Table
from towerkit.data.shop import shop_table

pytestmark = pytest.mark.long


def test_the_demo_finds_what_was_planted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "towerkit", "demo", "--run", str(tmp_path / "demo"), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["passed"]
    assert [check["passed"] for check in found["checks"]] == [True, True, True, True]
    assert {Path(path).name for path in found["runs"].values()} == {"two_tower", "tower_model", "late_fusion"}


@pytest.mark.parametrize(
    ("table", "column", "failing"),
    [("purchases", "product_id", 0), ("reviews", "recommended", 1)],
    ids=["no taste in purchases", "no sentiment in labels"],
)
def test_the_demo_fails_when_the_planted_truth_is_shuffled_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, column: str, failing: int
) -> None:
    def shuffled(path: str) -> Table:
        name = path.rpartition("/")[2]
        data = shop_table(name)
        if name == table:
            order = pa.array(np.random.default_rng(0).permutation(data.num_rows))
            data = data.set_column(data.column_names.index(column), column, data.column(column).take(order))
        return Table(data, path, 0)

    monkeypatch.setattr("towerkit.data.readers._builtin", shuffled)
    found: dict[str, Any] = demo.run_demo(tmp_path / "demo", overwrite=False, quiet=True)
    assert not found["passed"]
    assert not found["checks"][failing]["passed"]
