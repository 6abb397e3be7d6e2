"""``towerkit train --preset`` and what it infers of a file (`towerkit.cli.presets`, `towerkit.doctor.interactions`).

Pinned here:
- any file of pairs goes: CSV, Parquet, adjacency text, columns without names; roles are guessed, or given with ``--query``
  and ``--candidate``; what cannot be told apart is refused;
- with a test file the validation rows are each query's last ones, unless the file is sorted by candidate;
- ``--dry-run`` prints the spec that it starts from and writes nothing; ``--set`` fixes a setting, of the data too;
- ``--json`` says what was chosen; every wrong word ends with its message.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from towerkit import cli
from towerkit.cli.presets import seconds_of
from towerkit.core.errors import DataError, SpecError
from towerkit.doctor.interactions import describe_pairs

Call = Callable[..., tuple[int, str, str]]


def pairs() -> list[tuple[int, int]]:
    draw = np.random.default_rng(0)
    return [(u, 2 * int(i) + u % 2) for u in range(40) for i in draw.permutation(15)[: 6 + u % 4]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pairs in four forms, and test pairs."""
    path = tmp_path_factory.mktemp("pairs")
    rows = pairs()
    table = pa.table({"customer_id": [u for u, _ in rows], "sku": [f"s{i}" for _, i in rows]})
    pq.write_table(table, path / "pairs.parquet")
    _text(path / "pairs.csv", ["user,item", *(f"{u},{i}" for u, i in rows)])
    _text(path / "sorted.csv", ["user,item", *(f"{u},{i}" for u, i in sorted(rows))])
    _text(path / "odd.csv", ["who,what", *(f"{u},{i}" for u, i in rows)])
    _text(path / "pairs.txt", _lines(rows))
    _text(path / "same.txt", [f"{u} {u + 1} {u + 2}" for u in range(20)])
    draw = np.random.default_rng(1)
    test = [(u, 2 * int(i) + u % 2) for u in range(40) for i in draw.permutation(15)[:3]]
    _text(path / "test.csv", ["user,item", *(f"{u},{i}" for u, i in test)])
    _text(path / "test.txt", _lines(test))
    return path


def _lines(rows: Sequence[tuple[int, int]]) -> list[str]:
    return [" ".join(map(str, [user, *(i for u, i in rows if u == user)])) for user in sorted({u for u, _ in rows})]


def _text(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Call:
    """Run the command in this process, in the folder of the data: status, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["towerkit", "train", "--preset", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_file_of_pairs_to_a_run(call: Call, folder: Path) -> None:
    status, out, err = call("spectral", "--data", "pairs.csv", "--test", "test.csv", "--run", "run")
    assert status == 0, err
    assert "Chosen on validation: query_exponent" in out and "Run: run" in out and "popularity" in out
    assert "search epoch 1" in err
    spec = json.loads((folder / "run" / "spec.json").read_text())
    assert spec["data"]["split"] == {"kind": "per_query", "validation": 0.1, "test": 0.0, "take": "last"}
    status, _, err = call("spectral", "--data", "pairs.csv", "--run", "run")
    assert status == 1 and "already exists" in err


def test_the_best_preset(call: Call, folder: Path) -> None:
    pairs = "builtin:shop-small/purchases"
    status, out, err = call("best", "--data", pairs, "--run", "best")
    assert status == 0, err
    assert "Chosen on validation: " in out and "spectral share 0." in out and "cooccurrence share 0." in out
    assert "member spectral" in out and "search epoch 1" in err
    settings = ("--set", "model.members.spectral.query.dim=4", "--set", "model.members.spectral.candidate.dim=4")
    status, out, err = call("best", "--data", pairs, "--run", "held", "--json", *settings)
    assert status == 0, err
    found = json.loads(out)["chosen"]
    assert found["spectral"]["dim"] == 4 and sum(part["share"] for part in found.values()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["pairs.parquet", "pairs.txt"])
def test_other_forms(call: Call, name: str) -> None:
    status, out, err = call("spectral", "--data", name, "--run", f"run-{name}", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["chosen"]["kind"] == "spectral" and found["metrics"]["recall@20"]["n"] > 30
    assert ("read as a user and its items" in err) == (name == "pairs.txt")


def test_a_dry_run_prints_where_it_starts(call: Call, folder: Path) -> None:
    words = ("--set", "model.query.dim=8", "--set", "model.candidate.dim=8", "--set", "evaluation.k=[3]")
    status, out, _ = call("spectral", "--data", "pairs.txt", "--test", "test.txt", "--dry-run", *words)
    spec = json.loads(out)
    assert status == 0 and spec["model"]["query"]["dim"] == 8 and spec["evaluation"]["k"] == [3]
    assert spec["data"]["examples"]["format"] == "adjacency" and spec["data"]["test"]["path"] == "test.txt"
    assert not (folder / "none").exists()
    _, out, _ = call("spectral", "--data", "odd.csv", "--query", "who", "--candidate", "what", "--dry-run")
    assert json.loads(out)["data"]["examples"]["query"] == "who"


def test_what_is_set_is_not_searched(call: Call, folder: Path) -> None:
    words = ("--set", "model.query.dim=5", "--set", "model.candidate.dim=5", "--set", "data.split.validation=0.3")
    status, out, err = call("spectral", "--data", "pairs.csv", "--run", "five", "--json", "--budget", "60s", *words)
    assert status == 0, err
    assert json.loads(out)["chosen"]["dim"] == 5
    records = [json.loads(line) for line in (folder / "five" / "history.jsonl").read_text().splitlines()]
    assert {record["dim"] for record in records if record["stage"] == "search"} == {5}


def test_wrong_words(call: Call) -> None:
    for words, message in (
        (("other", "--data", "pairs.csv", "--run", "x"), "There is no preset 'other'"),
        (("spectral", "--run", "x"), "--preset needs --data"),
        (("spectral", "--data", "pairs.csv"), "Missing option '--run'"),
        (("spectral", "--data", "none.csv", "--run", "x"), "none.csv"),
        (
            ("spectral", "--data", "odd.csv", "--run", "x"),
            "no column looks like the query of a pair; the columns are 'what', 'who'",
        ),
        (("spectral", "--data", "odd.csv", "--query", "whom", "--run", "x"), "has no column 'whom' for --query"),
        (("spectral", "--data", "same.txt", "--run", "x"), "set format: adjacency"),
        (("spectral", "--data", "pairs.csv", "--run", "x", "--budget", "soon"), "--budget is a time such as 120s"),
        (("spectral", "spec.yaml", "--data", "pairs.csv", "--run", "x"), "--preset takes the place of a spec file"),
        (("spectral", "--data", "pairs.csv", "--run", "x", "--set", "model.query.dmi=3"), "dmi"),
    ):
        status, _, err = call(*words)
        assert status in (1, 2) and message in " ".join(err.replace("│", " ").split()), (words, err)


def test_options_of_a_preset_need_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words, message in (
        (["--run", "x"], "Missing argument 'SPEC'"),
        (["s.yaml", "--data", "d"], "goes with --preset"),
    ):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["towerkit", "train", *words, "--run", "x"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2 and message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_sorted_rows_say_nothing_of_time(folder: Path) -> None:
    assert describe_pairs(str(folder / "pairs.csv"), {}, with_time=True).in_order
    assert describe_pairs(str(folder / "pairs.txt"), {}, with_time=True).in_order
    assert not describe_pairs(str(folder / "sorted.csv"), {}, with_time=True).in_order
    with pytest.raises(DataError, match="whole numbers with blanks"):
        describe_pairs(str(folder / "same.txt"), {}, with_time=True)
    given = describe_pairs(str(folder / "same.txt"), {"format": "adjacency"}, with_time=False)
    assert given.examples["query"] == "user"


@pytest.mark.parametrize("wrong", ["", "0", "-1s", "2 days", "1e3"])
def test_budgets(wrong: str) -> None:
    assert seconds_of("1h") == 3600 and seconds_of("1.5 min") == 90
    with pytest.raises(SpecError, match=f"received '{wrong}'"):
        seconds_of(wrong)
