"""``towerkit ablate``: tables, one JSON object, a file, trainings that are kept beside it, messages for wrong words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import towerkit as tk
from towerkit.cli import main

from .conftest import ADAM, table


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A Run that knows where its data is."""
    model = {"kind": "tower_model", "towers": {"a": table("age", 4), "b": table("category", 4)},
             "heads": {"recommended": {"kind": "binary", "column": "recommended"}}}  # fmt: skip
    training = {"epochs": 2, "batch_size": 256, "optimizer": ADAM}
    spec = {"data": {"examples": {"path": "builtin:shop-small/reviews"}}, "model": model, "training": training}
    return tk.fit(spec, run=folder / "command").path


def call(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["towerkit", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_tables_and_verdicts(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "found.json"
    words = ["ablate", run, "--columns", "--mode", "mean", "--mode", "retrain", "--repeats", "1", "--out", out]
    assert call(monkeypatch, *words) == 0
    told = capsys.readouterr()
    for part in ("parameters", "auc: ", "trained again without", "one column shuffled", "dropping a ", "[retrain]."):
        assert part in told.out
    assert "without a, seed 0: training" in told.err
    kept = json.loads(out.read_text())
    assert kept["kind"] == "ablation"
    assert set(kept["modes"]) == {"mean"}
    assert set(kept["retrain"]) == {"a", "b"}
    assert "already is a concat" in kept["skipped"]["backbone"]
    assert call(monkeypatch, *words, "--json") == 0
    again = capsys.readouterr()
    assert json.loads(again.out)["retrain"] == kept["retrain"]
    assert "without a, seed 0: kept from before" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0,x"], "--seeds are whole numbers with commas between, such as 0,1; received '0,x'"),
        (["--out", "found.txt"], "--out is a .json file; received found.txt"),
        (["--tower", "c"], "There is no tower 'c' to take away"),
    ],
)
def test_wrong_words(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    assert call(monkeypatch, "ablate", run, *words, "--json") == 1
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]
