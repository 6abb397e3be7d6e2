"""What a training on Ray does about workers that die, with the attempts of Ray's workers played by this process.

Invariants:
- a worker that dies when the Run is written already ends nothing: the Run is given, and no checkpoint is left;
- a Run that was there before is not taken for the one of this training, nor is one that is gone;
- epochs are told as the workers write them down, with the best one, and of a refit how many there will be;
- where nothing was saved, nobody is told to resume; a checkpoint that is not whole yet is none.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from towerkit.core.errors import TrainingError
from towerkit.data.dataset import read_dataset
from towerkit.run import Run
from towerkit.scale import ray_train
from towerkit.scale.job import Job
from towerkit.testing.by_workers import spec_of, train_alone
from towerkit.training.checkpoint import checkpoint_folder
from towerkit.training.progress import Silent


@contextlib.contextmanager
def no_session(address: str, workers: int) -> Iterator[None]:
    yield


def train(monkeypatch: pytest.MonkeyPatch, run: Path, said: list[str], attempts: list[Any], **more: Any) -> Run:
    monkeypatch.setattr(ray_train, "ray_session", no_session)
    monkeypatch.setattr(ray_train, "_able", lambda workers: workers)
    monkeypatch.setattr(ray_train, "_attempt", lambda job, workers: attempts.pop(0)(job))
    spec = spec_of()
    dataset = read_dataset(spec.data, seed=spec.training.seed)
    return ray_train.train_on("local", 2, run, spec, dataset, Silent(), place=Path(), say=said.append, **more)


def writes_and_dies(job: Job) -> str:
    train_alone(Path(job.run), overwrite=job.overwrite)
    folder = checkpoint_folder(Path(job.run))
    folder.mkdir()
    (folder / "history.jsonl").write_text("")
    return "a worker is gone"


def takes_away_and_dies(job: Job) -> str:
    """A first worker that is killed between the renames that replace a Run."""
    Path(job.run).rename(Path(job.run).with_name(".run.old-1-x"))
    return "a worker is gone"


def test_a_death_after_the_run_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    found = train(monkeypatch, tmp_path / "run", said, [writes_and_dies])
    assert found.path == tmp_path / "run"
    assert [text for text in said if "A worker died" in text] == [
        "A worker died (a worker is gone) when the Run was there already. Nothing is lost."
    ]
    assert not checkpoint_folder(tmp_path / "run").exists()


def test_a_death_before_an_older_run_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_alone(tmp_path / "run")
    before, said = (tmp_path / "run" / "manifest.json").read_bytes(), list[str]()
    attempts = [lambda job: "a worker is gone", takes_away_and_dies, writes_and_dies]
    found = train(monkeypatch, tmp_path / "run", said, attempts, overwrite=True)
    assert not attempts
    assert (found.path / "manifest.json").read_bytes() != before
    assert sum("started again" in text for text in said) == 2


def dies_as_it_saves(job: Job) -> str:
    """A first worker that is killed when its first checkpoint is not whole yet."""
    half = checkpoint_folder(Path(job.run)) / ".000000001.tmp-1-x"
    half.mkdir(parents=True)
    (half / "state.json").write_text("{}")
    return "gone"


def test_a_death_while_the_first_checkpoint_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="There is no checkpoint yet"):
        train(monkeypatch, tmp_path / "run", [], [dies_as_it_saves], restarts=0)


def test_deaths_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError, match="Workers died 2 times, the last time: gone") as caught:
        train(monkeypatch, tmp_path / "run", [], [lambda job: "gone"] * 2, restarts=1)
    assert "--resume" not in str(caught.value)
    assert "0 s of this attempt are lost" in str(caught.value)


class Epochs(Silent):
    """Notes what is told of the epochs."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int, bool]] = []

    def epoch(self, record: Any, *, stage: str, epochs: int, is_best: bool) -> None:
        self.told.append((stage, record["epoch"], epochs, is_best))


def test_epochs_are_told(tmp_path: Path) -> None:
    spec, progress = spec_of(epochs=3), Epochs()
    records = [
        {"stage": "train", "epoch": 1 + i, "validation/ndcg@5": figure} for i, figure in enumerate((0.2, 0.3, 0.1))
    ]
    records += [{"stage": "refit", "epoch": 1 + i} for i in range(2)]
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    dataset = read_dataset(spec.data, seed=spec.training.seed)
    with ray_train._followed(tmp_path / "gone", spec, dataset, progress) as tell_rest:
        tell_rest(path)
    trained = [("train", 1, 3, True), ("train", 2, 3, True), ("train", 3, 3, False)]
    assert progress.told == [*trained, ("refit", 1, 2, False), ("refit", 2, 2, False)]
