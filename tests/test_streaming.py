"""A training from Parquet that is never in memory, from the spec to the Run (`examples.stream`).

Pinned here:
- the same rows give the same bits as from memory, by both engines, in one window and in many, with and without a refit: tables,
  history, figures, baselines, catalogues and trained pairs;
- a stopped training goes on bit for bit; one whose files have changed is refused;
- the Run is an ordinary one: another process opens it without the log and gives the same answer;
- what a stream cannot do is refused before it is encoded or trained, with the key and the reason.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from towerkit import cli
from towerkit.api import fit
from towerkit.core.errors import DataError, RunError, SpecError, TrainingError
from towerkit.core.spec import parse
from towerkit.data.stream.log import Log
from towerkit.data.stream.opening import open_data
from towerkit.doctor import examine
from towerkit.experiment import estimates_of
from towerkit.run import Run
from towerkit.spec import ExperimentSpec
from towerkit.testing.logs import log_spec, small_log, write_log
from towerkit.training.progress import Silent, Step


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A product of matrices is rounded by the number of threads that take part in it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log of 600 rows in three files."""
    return write_log(tmp_path / "log", small_log())


def changed(spec: ExperimentSpec, **parts: Any) -> ExperimentSpec:
    return parse(ExperimentSpec, {**spec.model_dump(exclude_unset=True), **parts})


def tables(run: Run) -> dict[str, torch.Tensor]:
    return dict(run.model.model.state_dict())


def records(run: Run) -> list[dict[str, Any]]:
    lines = (run.path / "history.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def assert_same(one: Run, other: Run) -> None:
    mine, theirs = tables(one), tables(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert records(one) == records(other)
    assert one.model.query.keys.equals(other.model.query.keys)
    assert one.model.candidate.keys.equals(other.model.candidate.keys)
    assert (one.model.seen != other.model.seen).nnz == 0 and one.model.seen.nnz == other.model.seen.nnz > 300
    for name, metric in one.evaluation.metrics.items():
        assert metric.value == other.evaluation.metrics[name].value, name


# --- as from memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "training",
    [
        {"engine": "torch"},
        {"engine": "torch", "window_rows": 100, "refit": False},
        {"engine": "compiled", "window_rows": 64},
        {"engine": "torch", "drop_last": True, "accumulate": 2, "window_rows": 50},
    ],
    ids=str,
)
def test_the_same_bits_as_from_memory(folder: Path, tmp_path: Path, training: dict[str, Any]) -> None:
    runs = [
        fit(log_spec(folder, stream=stream, **training), run=tmp_path / f"run-{stream}") for stream in (False, True)
    ]
    assert_same(*runs)
    popularity = [run.baselines["popularity"].metrics["ndcg@5"].value for run in runs]
    assert popularity[0] == popularity[1] > 0


@pytest.mark.parametrize(
    "parts",
    [
        {"update": {"kind": "one_backprop", "debias": True}},
        {"objective": {"negatives": [{"kind": "popularity", "shared": True, "count": 20}]}},
        {"objective": {"loss": {"kind": "bpr"}, "negatives": [{"kind": "popularity", "count": 2}]}},
        {"objective": {"negatives": [{"kind": "in_batch"}]}},
    ],
    ids=lambda parts: str(next(iter(parts.values()))),
)
@pytest.mark.parametrize("engine", ["torch", "compiled"])
def test_other_updates_and_negatives(folder: Path, tmp_path: Path, engine: str, parts: dict[str, Any]) -> None:
    specs = [
        changed(log_spec(folder, stream=stream, engine=engine, window_rows=99), **parts) for stream in (False, True)
    ]
    assert_same(*(fit(spec, run=tmp_path / f"run-{place}") for place, spec in enumerate(specs)))


def test_rows_in_another_order_are_another_training(folder: Path, tmp_path: Path) -> None:
    runs = [fit(log_spec(folder, window_rows=window), run=tmp_path / f"run-{window}") for window in (50, 5000)]
    assert not torch.equal(*(next(iter(tables(run).values())) for run in runs))


# --- stopped and resumed ------------------------------------------------------------------------------------------


class StopAfter(Silent):
    """Ends the training as a fault would, after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, step: Step) -> None:
        """Count."""
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("engine", ["torch", "compiled"])
@pytest.mark.parametrize("steps", [1, 7, 15, 16, 33, 40])
def test_it_goes_on_bit_for_bit(folder: Path, tmp_path: Path, engine: str, steps: int) -> None:
    spec = log_spec(folder, engine=engine, window_rows=100, checkpoint_every=3)
    whole = fit(spec, run=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(spec, run=tmp_path / "run", resume=False, progress=StopAfter(steps))
    assert not (tmp_path / "run").exists()
    if steps == 15:
        shutil.rmtree(tmp_path / "cache")  # as somebody who needs the room: it is made again, to the same bits
    assert_same(whole, fit(spec, run=tmp_path / "run", resume=True))


def test_files_that_changed_are_another_training(folder: Path, tmp_path: Path) -> None:
    spec = log_spec(folder, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        fit(spec, run=tmp_path / "run", resume=False, progress=StopAfter(9))
    pq.write_table(small_log(30, seed=5), folder / "part-003.parquet")
    with pytest.raises(RunError, match=r"belongs to another training: the log .*log \(its rows, .* is another one"):
        fit(spec, run=tmp_path / "run", resume=True)


def test_a_bad_loss_names_a_row_of_the_log(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.objectives.retrieval import RetrievalObjective

    monkeypatch.setattr(
        RetrievalObjective, "__call__", lambda self, model, batch: {"retrieval": torch.tensor(float("nan"))}
    )
    with pytest.raises(
        TrainingError, match=r"names the 32 examples of .*log that the step read, the first one .*, row (\d+)"
    ):
        fit(log_spec(folder, engine="torch"), run=tmp_path / "run", resume=False)


# --- the Run ------------------------------------------------------------------------------------------------------


def test_another_process_answers_without_the_log(folder: Path, tmp_path: Path) -> None:
    run = fit(log_spec(folder), run=tmp_path / "run")
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "cache")
    code = "import sys; from towerkit.run import Run; print(Run.load(sys.argv[1]).recommend(['u3', 'nobody'], k=3))"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(run.recommend(["u3", "nobody"], k=3))


def test_the_run_says_what_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    run = fit(log_spec(folder), run=tmp_path / "run")
    told = json.loads((run.path / "data.json").read_text())
    assert told["rows"] == {"train": 479, "validation": 61, "test": 60}
    assert told["split"]["streamed"] is True
    assert [column["name"] for column in told["columns"]["example"]] == ["user", "item", "when"]
    assert all("example" not in column for column in told["columns"]["example"])


def test_the_baselines_are_those_of_a_table_without_times(folder: Path, tmp_path: Path) -> None:
    runs = [
        fit(
            changed(log_spec(folder, stream=stream, split="per_query"), evaluation={"k": [5]}),
            run=tmp_path / f"run-{stream}",
        )
        for stream in (False, True)
    ]
    assert [sorted(run.baselines) for run in runs] == [["item_knn", "popularity"]] * 2


# --- what it cannot do --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"update": {"kind": "one_backprop", "start": "mean_of_items"}},
            "update.start: mean_of_items and update.refresh: batch look at all rows at once",
        ),
        (
            {"model": {"kind": "two_tower", "query": {"kind": "spectral"}, "candidate": {"kind": "spectral"}}},
            "received spectral at model.query",
        ),
        (
            {
                "model": {
                    "kind": "two_tower",
                    "query": {"kind": "id", "dim": 8, "start": "spectral"},
                    "candidate": {"kind": "id", "dim": 8, "start": "spectral"},
                }
            },
            "model.query.start is spectral",
        ),
        (
            {"evaluation": {"baselines": [{"kind": "recent_popularity"}]}},
            "'recent_popularity' reads a table that data.examples.stream does not hold",
        ),
        ({"evaluation": {"segments": ["user.age"]}}, "user.age"),
    ],
    ids=lambda value: "" if isinstance(value, Mapping) else value[:30],
)
def test_what_needs_more_is_refused(folder: Path, tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    with pytest.raises((SpecError, DataError)) as caught:
        fit(changed(log_spec(folder), **parts), run=tmp_path / "run")
    assert said in str(caught.value)


def test_a_stream_does_not_go_on_from_a_run(folder: Path, tmp_path: Path) -> None:
    run = fit(log_spec(folder), run=tmp_path / "run")
    with pytest.raises(SpecError, match="goes on from a Run takes new data in memory"):
        fit(log_spec(folder), run=tmp_path / "next", base=run)


def test_nothing_held_out_is_refused(folder: Path, tmp_path: Path) -> None:
    spec = log_spec(folder).model_dump(exclude_unset=True)
    spec["data"]["split"] = {"kind": "random", "validation": 0.0, "test": 0.0}
    with pytest.raises(SpecError, match="holds neither validation nor test rows out"):
        fit(parse(ExperimentSpec, spec), run=tmp_path / "run")


# --- looked at before -----------------------------------------------------------------------------------------------


def test_an_estimate_and_a_doctor(folder: Path, tmp_path: Path) -> None:
    spec = log_spec(folder)
    log = open_data(spec.data)
    assert isinstance(log, Log)
    assert estimates_of(spec, log)["model"].steps_per_epoch == 15
    (tmp_path / "spec.yaml").write_text(
        "data: {examples: {path: log, query: user, candidate: item, stream: {cache: elsewhere}}}\n"
    )
    found = examine(str(tmp_path / "spec.yaml"))
    assert found["problems"] == [] and not (tmp_path / "elsewhere").exists()
    assert any("is streamed: 600 rows in 3 files" in note and "user (string)" in note for note in found["notes"])


def test_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = log_spec(folder).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    words = ["towerkit", "train", str(tmp_path / "spec.json"), "--run", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", words)
    with contextlib.suppress(SystemExit):
        cli.main()
    told = " ".join(capsys.readouterr().err.split())
    assert "encoding 600 rows of" in told
    assert "600 rows, streamed from" in told and "train 479 · validation 61 · test 60" in told
    assert Run.load(tmp_path / "run").evaluation.metrics["ndcg@5"].value > 0
