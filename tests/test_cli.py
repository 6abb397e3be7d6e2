"""The command line.

- Every command does what its help says, on a small table of one's own, and ``--json`` prints one object and nothing else.
- A problem that towerkit knows ends with its message on standard error, status 1, and no traceback; with ``--json`` the
  object on standard output says it too.
- Help is quick: no heavy package is imported for it.
"""

from __future__ import annotations

import csv
import gc
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from towerkit import cli
from towerkit.cli import ending
from towerkit.run import Run

Call = Callable[..., tuple[int, str, str]]

SPEC = """
data:
  examples: {path: clicks.csv, query: user, candidate: item, time: when}
  entities: {item: {path: items.csv, key: id, title: name}}
model:
  kind: two_tower
  query: {kind: id, dim: 8}
  candidate: {towers: {id: {kind: id, dim: 8}, table: {kind: table, columns: [color], dim: 8}}}
update: {kind: one_backprop, beta: 0.5}
training: {epochs: 3, batch_size: 64}
evaluation: {k: [3, 5]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clicks of two groups of users on two groups of items, and a spec."""
    path = tmp_path_factory.mktemp("own")
    draw = random.Random(0)
    rows = [(f"u{u}", f"i{draw.randrange(10) * 2 + u % 2}", 1000 + n) for n in range(20) for u in range(30)]
    _write(path / "clicks.csv", ["user", "item", "when"], rows)
    _write(
        path / "items.csv",
        ["id", "name", "color"],
        [(f"i{n}", f"Item {n}", "red" if n % 2 else "blue") for n in range(20)],
    )
    _write(path / "newcomers.csv", ["name", "color"], [("Item new", "red")])
    _write(path / "pairs.csv", ["user", "item"], [("u1", "i3"), ("nobody", "i3")])
    (path / "spec.yaml").write_text(SPEC)
    return path


def _write(path: Path, header: list[str], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Call:
    """Run the command line in this process, in the folder of the data: status, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["towerkit", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    """Two Runs, trained by the command line in processes of their own."""
    for name, settings in {"one": [], "two": ["--set", "update.kind=two_backprop"]}.items():
        command = [sys.executable, "-m", "towerkit", "train", "spec.yaml", "--run", f"runs/{name}", *settings]
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
    return folder / "runs"


def test_train_says_what_it_read_and_measured(call: Call) -> None:
    status, out, err = call("train", "spec.yaml", "--run", "runs/shown")
    assert status == 0
    assert "ndcg@5" in out
    assert "popularity" in out
    assert "item_knn" in out
    assert "20 candidates, all ranked" in out
    assert "Run: runs/shown" in out
    assert "clicks.csv, 600 rows" in err
    assert "epoch 1/3" in err
    status, _, err = call("train", "spec.yaml", "--run", "runs/shown")
    assert status == 1
    assert "already exists" in err
    assert call("train", "spec.yaml", "--run", "runs/shown", "--overwrite", "--set", "training.epochs=1")[0] == 0


def test_train_by_workers_answers_as_one_process(call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towerkit.scale.ray_train.train_on", lambda *_, **__: Run.load(runs / "one"))
    status, out, err = call("train", "spec.yaml", "--run", "runs/by", "--on", "local", "--workers", "2", "--json")
    assert status == 0, err
    alone = json.loads(call("train", "spec.yaml", "--run", "runs/alone", "--json")[1])
    found = json.loads(out)
    assert found.keys() - alone.keys() == {"workers"} and not alone.keys() - found.keys()
    assert (found["epochs"], found["workers"]) == (alone["epochs"], 2)


def test_train_goes_on_from_a_run(call: Call, runs: Path) -> None:
    status, _, err = call(
        "train", "spec.yaml", "--run", "runs/next", "--from", str(runs / "one"), "--set", "training.seed=5"
    )
    assert status == 0, err
    assert "went on from the Run `one`" in (runs / "next" / "card.md").read_text()
    status, _, err = call(
        "train", "spec.yaml", "--run", "runs/other", "--from", str(runs / "one"), "--set", "model.query.dim=9"
    )
    assert status == 1
    status, _, err = call(
        "train",
        "spec.yaml",
        "--run",
        "runs/other",
        "--from",
        str(runs / "one"),
        "--set",
        "model.candidate.towers.table.layers=[9]",
    )
    assert status == 1 and "model.candidate.towers.table.layers was [64] and is [9]" in err


def test_train_as_json_is_one_object(call: Call) -> None:
    status, out, _ = call("train", "spec.yaml", "--run", "runs/json", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["kind"] == "two_tower"
    assert found["run"] == "runs/json"
    assert set(found["metrics"]["ndcg@5"]) == {"value", "low", "high", "n"}
    assert set(found["baselines"]) == {"popularity", "recent_popularity", "item_knn"}
    assert found["protocol"]["split"]["kind"] == "time"


def test_evaluate_shows_the_stored_figures_or_measures_new_rows(call: Call, runs: Path) -> None:
    _, out, _ = call("evaluate", str(runs / "one"), "--json")
    stored = json.loads(out)
    assert stored["protocol"]["part"] == "test"
    status, out, _ = call("evaluate", str(runs / "one"), "--data", "pairs.csv", "--json")
    assert status == 0
    assert json.loads(out)["protocol"]["part"] == "new data (pairs.csv)"
    assert "popularity" in call("evaluate", str(runs / "one"))[1]
    assert "1 queries unknown" in call("evaluate", str(runs / "one"), "--data", "pairs.csv")[1]


def test_compare_gives_paired_differences(call: Call, runs: Path) -> None:
    status, out, _ = call("compare", str(runs / "one"), str(runs / "two"), "--json")
    found = json.loads(out)["differences"][str(runs / "two")]["ndcg@5"]
    assert status == 0
    assert found["difference"] == pytest.approx(found["second"] - found["first"])
    assert found["low"] <= found["difference"] <= found["high"]
    assert "verdict" in call("compare", str(runs / "one"), str(runs / "two"))[1]
    status, _, err = call("compare", str(runs / "one"))
    assert status == 1
    assert "at least two Runs; received 1" in err


def test_recommend_for_a_key_a_history_and_a_new_candidate(call: Call, runs: Path) -> None:
    one = str(runs / "one")
    _, out, _ = call("recommend", one, "--query", "u1", "-k", "3", "--include-seen", "--json")
    rows = json.loads(out)["rows"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["title"].startswith("Item ")
    assert not rows[0]["cold"]
    _, out, _ = call("recommend", one, "--query", "nobody", "-k", "2", "--json")
    assert [row["cold"] for row in json.loads(out)["rows"]] == [True, True]
    _, out, _ = call("recommend", one, "--history", "i1, i3", "-k", "18", "--json")
    answered = {row["item"] for row in json.loads(out)["rows"]}
    assert len(answered) == 18
    assert not answered & {"i1", "i3"}
    _, out, _ = call("recommend", one, "--candidates", "newcomers.csv", "-k", "4", "--json")
    assert all(row["user"].startswith("u") for row in json.loads(out)["rows"])
    status, _, err = call("recommend", one, "--query", "u1", "--history", "i1")
    assert status == 1
    assert "exactly one of --query, --rows, --history, --candidates and --all" in err


def test_recommend_chooses_and_tells_why_there_are_fewer(call: Call, runs: Path, folder: Path) -> None:
    one = str(runs / "one")
    (folder / "stock.csv").write_text("item,left\ni1,2\ni3,1\nx9,1\n")
    status, out, err = call("recommend", one, "--query", "u1", "--include-seen", "--allow", "stock.csv", "--json")
    found = json.loads(out)
    assert status == 0 and {row["item"] for row in found["rows"]} == {"i1", "i3"}
    assert found["notes"][0].startswith("allow: 1 of its 3 keys are unknown, such as 'x9'")
    assert found["notes"][1].startswith(
        "Fewer than the 10 answers asked for: 2. The catalogue has 20 candidates; allow keeps 2"
    )
    status, out, err = call(
        "recommend", one, "--query", "u1", "--include-seen", "--allow", "i1, i3", "--where", "color == 'red'"
    )
    assert status == 0 and out.count("Item") == 2 and "note: Fewer than the 10 answers" in err
    status, _, err = call("recommend", one, "--query", "u1", "--allow", "nowhere.csv")
    assert status == 1 and "there is no file 'nowhere.csv'" in err
    status, _, err = call("recommend", one, "--query", "u1", "--where", "color = 'red'")
    assert status == 1 and "character 7: two values are compared with ==" in err and "        ^" in err.splitlines()
    status, _, err = call("recommend", one, "--candidates", "newcomers.csv", "--where", "color == 'red'")
    assert status == 1 and "--candidates asks for queries" in err


def test_embed_a_folder(call: Call, runs: Path, folder: Path) -> None:
    (folder / "rows").mkdir()
    for place in range(2):
        keys = pyarrow.table(
            {"id": [f"i{2 * place}", f"i{2 * place + 1}"], "name": ["a", "b"], "color": ["red", "blue"]}
        )
        pyarrow.parquet.write_table(keys, folder / "rows" / f"{place}.parquet")
    words = ("embed", str(runs / "one"), "rows", "--side", "candidate")
    status, out, err = call(*words, "--out", "vectors", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert (found["out"], found["files"], found["rows"], found["cold"], found["workers"]) == ("vectors", 2, 4, 0, 1)
    assert pyarrow.parquet.read_table(folder / "vectors" / "1.parquet").num_rows == 2
    status, _, err = call(*words, "--out", "vectors")
    assert (status, "vectors already exists" in err) == (1, True)
    status, _, err = call(*words, "--out", "other", "--workers", "2")
    assert (status, "--workers 2 goes with --on" in err) == (2, True)
    status, _, err = call("embed", str(runs / "one"), "--side", "candidate", "--on", "local")
    assert (status, "give ROWS and --out FOLDER" in err) == (2, True)


def test_recommend_everyone_and_similar_and_embed(call: Call, runs: Path, folder: Path) -> None:
    one = str(runs / "one")
    status, _, err = call("recommend", one, "--all")
    assert status == 1 and "--all answers every known query: give --out FILE" in err
    status, out, err = call("recommend", one, "--all", "--out", "all.parquet", "-k", "2", "--json")
    assert status == 0 and json.loads(out) == {"out": "all.parquet", "queries": 30, "rows": 60}
    assert "30 of 30 queries answered" in err
    assert pyarrow.parquet.read_table(folder / "all.parquet").num_rows == 60
    status, out, err = call("recommend", one, "--all", "--out", "all.csv", "-k", "19")
    assert status == 0 and "rows for 30 queries written to all.csv" in out
    assert "note: 30 of 30 queries have fewer than the 19 answers asked for" in err
    status, out, _ = call("similar", one, "--item", "i4", "-k", "3", "--json")
    assert status == 0 and [row["similar_to"] for row in json.loads(out)["rows"]] == ["i4"] * 3
    assert call("similar", one, "--candidate", "i4", "-k", "3", "--json")[1] == out
    assert "exactly one of --item and --query" in call("similar", one)[2]
    status, out, _ = call("embed", one, "--side", "query")
    assert status == 0 and "… 8 in all]" in out
    status, _, err = call("embed", one, "--side", "query", "--out", "vectors.csv")
    assert status == 1 and "'vector' holds lists, which CSV has no place for" in err
    assert call("embed", one, "--side", "both")[0] == 2


def test_an_interrupted_answer_to_everyone_says_how_to_go_on(
    call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("towerkit.recommend.everyone.by_place", stop)
    status, out, err = call("recommend", str(runs / "one"), "--all", "--out", "stopped.parquet", "-k", "2")
    assert status == 130 and "stands in stopped.parquet.parts: the same command goes on from there" in err
    monkeypatch.undo()
    status, out, err = call("recommend", str(runs / "one"), "--all", "--out", "stopped.parquet", "-k", "2")
    assert status == 0 and "60 rows for 30 queries" in out


def test_predict_scores_pairs_and_writes_files(call: Call, runs: Path, folder: Path) -> None:
    status, out, _ = call("predict", str(runs / "one"), "pairs.csv", "--out", "scores.parquet", "--json")
    assert status == 0
    assert json.loads(out) == {"out": "scores.parquet", "rows": 2}
    written = pyarrow.parquet.read_table(folder / "scores.parquet").to_pylist()
    assert [row["cold"] for row in written] == [False, True]
    status, _, err = call("predict", str(runs / "one"), "pairs.csv", "--out", "scores.xlsx")
    assert status == 1
    assert "'.arrow', '.csv', '.parquet'" in err


def test_doctor_on_a_file_and_on_a_run(call: Call, runs: Path, folder: Path) -> None:
    _, out, _ = call("doctor", "clicks.csv", "--json")
    found = json.loads(out)
    assert found["rows"] == 600
    assert found["suggested_roles"] == {"query": "user", "candidate": "item"}
    assert "query: user, candidate: item" in call("doctor", "clicks.csv")[1]
    assert "golden request is answered" in call("doctor", str(runs / "one"))[1]
    status, out, _ = call("doctor", "nothing.csv")
    assert status == 1
    assert "nothing.csv" in out
    (folder / "empty.csv").write_text("")
    assert call("doctor", "empty.csv")[0] == 1


def test_schema_is_a_json_schema_of_specs(call: Call) -> None:
    found = json.loads(call("schema", "--json")[1])
    assert set(found["properties"]) >= {"data", "model", "training", "evaluation"}
    assert json.loads(call("schema")[1]) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nothing.yaml", "--run", "runs/x"], "nothing.yaml does not exist. Spec files there: spec.yaml"),
        (["train", "spec.yaml", "--run", "runs/x", "--set", "training.epoch=5"], "did you mean 'epochs'?"),
        (["train", "spec.yaml", "--run", "runs/x", "--set", "data.examples.path=click.csv"], "clicks.csv"),
        (["evaluate", "spec.yaml"], "spec.yaml"),
        (["recommend", "runs/nowhere", "--query", "u1"], "runs/nowhere"),
    ],
    ids=["no spec", "unknown key", "no data file", "not a Run", "no Run"],
)
def test_a_known_problem_is_a_message_and_never_a_traceback(call: Call, words: list[str], message: str) -> None:
    status, out, err = call(*words)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    told = json.loads(call(*words, "--json")[1])["error"]
    assert message in told["message"]
    assert told["type"].endswith("Error")


def test_a_defect_is_said_to_be_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("towerkit.doctor.examine", broken)
    status, _, err = call("doctor", "clicks.csv")
    assert status == 1
    assert "ZeroDivisionError: oh. This is a defect" in err


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; import towerkit.cli; print([m for m in ('torch', 'numpy', 'pyarrow', 'pydantic') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["train", "spec.yaml"], "Missing option '--run'"),
        (["recommend", "runs/one", "--query", "u1", "-k", "0"], "'-k'"),
        (["train", "spec.yaml", "--run", "runs/one", "--workers", "-3"], "-3"),
        (["serve", "runs/one", "--port", "web"], "'web'"),
    ],
)
def test_wrong_words_are_one_object_too(call: Call, words: list[str], part: str) -> None:
    status, out, err = call(*words, "--json")
    assert status == 2
    assert json.loads(out)["error"]["type"] == "UsageError"
    assert part in json.loads(out)["error"]["message"] and part in err
    status, out, err = call(*words)
    assert (status, out) == (2, "") and part in err


def test_a_stopped_training_says_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("towerkit.data.stream.opening.read_dataset", stop)
    status, out, err = call("train", "spec.yaml", "--run", "runs/stopped", "--json")
    assert status == 130 and json.loads(out)["error"]["type"] == "Interrupted"
    assert err == "error: stopped by the user\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes the streams")
def test_closed_streams_swallow_what_is_written(runs: Path, closed: str) -> None:
    command = (
        f'"{sys.executable}" -m towerkit train spec.yaml --run runs/closed --overwrite --set training.epochs=1 {closed}'
    )
    assert subprocess.run(["sh", "-c", command], cwd=runs.parent, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", ["evaluate runs/one", "recommend runs/one --query u1 --json"])
def test_a_full_disk_is_no_defect(runs: Path, words: str) -> None:
    command = f'"{sys.executable}" -m towerkit {words} >/dev/full'
    done = subprocess.run(["sh", "-c", command], cwd=runs.parent, capture_output=True, check=False, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write the answer: No space left")
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_without_the_signs(runs: Path) -> None:
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for words, part in ((["evaluate", "runs/one"], "\\xb7 ties"), (["doctor", "clicks.csv", "--json"], '"kind"')):
        command = [sys.executable, "-m", "towerkit", *words]
        done = subprocess.run(command, cwd=runs.parent, capture_output=True, check=False, text=True, env=plain)
        assert done.returncode == 0 and part in done.stdout, done.stderr


@pytest.mark.parametrize(
    "words", ["recommend --query u1", "similar --item i1", "embed --side query", "predict pairs.csv"]
)
def test_a_file_of_no_known_kind_is_refused_before_anything_is_read(call: Call, words: str) -> None:
    """Not after an hour of answers: the Run is not even there."""
    command, *others = words.split()
    status, out, err = call(command, "no-run", *others, "--out", "answers.xlsx")
    assert status == 1 and not out
    assert "answers.xlsx" in err and "'.parquet'" in err


def test_a_path_that_is_not_there_is_told_once(call: Call) -> None:
    status, out, err = call("doctor", "runs/no-such-run")
    assert status == 1
    assert (out + err).count("there is no") == 1


def test_a_command_looks_for_cycles_seldom_and_not_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    before, at_exit = gc.get_threshold(), list[Any]()
    monkeypatch.setattr("towerkit.cli.ending.atexit.register", at_exit.append)
    try:
        ending._collect_seldom()
        assert gc.get_threshold() == (10_000, *before[1:])
    finally:
        gc.set_threshold(*before)
    (leave,), frozen = at_exit, list[int]()
    monkeypatch.setattr("towerkit.cli.ending.gc.freeze", lambda: frozen.append(1))
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    leave()
    assert frozen == [1]
    monkeypatch.setitem(sys.modules, "onnx", cli)
    leave()
    assert frozen == [1]
