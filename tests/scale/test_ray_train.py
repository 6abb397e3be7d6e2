"""Training on Ray; needs the extra ``ray``. Long: a cluster takes seconds to start.

Invariants:
- two workers that Ray starts, one of which is killed in the middle, write the Run of a single process; the loss of time is said;
- the epochs are told while they come, and which is the best;
- an error on purpose ends the training at once, with its own message, in place of being tried again;
- so does an error of code, with what raised it and where, also if another worker is busy meanwhile and then finds itself alone;
- a first worker that is lost with its machine leaves nothing that stops the next one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from towerkit.core.errors import TrainingError
from towerkit.data.dataset import read_dataset
from towerkit.run import Run
from towerkit.testing.by_workers import furthest, spec_of, train_alone
from towerkit.training.progress import Silent

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs towerkit[ray]"),
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.timeout(900),
]
LONG = {"batch_size": 50, "checkpoint_every": 1}
"""Many seconds of steps, so that a worker is found and killed before they end."""


class Told(Silent):
    """Remembers the epochs."""

    def __init__(self) -> None:
        self.epochs: list[tuple[str, int]] = []
        self.best, self.refit = 0, 0

    def epoch(self, record: Any, *, stage: str, epochs: int, is_best: bool) -> None:
        self.epochs.append((stage, record["epoch"]))
        self.best = record["epoch"] if is_best else self.best
        self.refit = epochs if stage == "refit" else self.refit


def train(run: Path, progress: Silent, said: list[str], **changes: Any) -> Run:
    from towerkit.scale.ray_train import train_on

    spec = spec_of(**changes)
    dataset = read_dataset(spec.data, seed=spec.training.seed)
    return train_on("local", 2, run, spec, dataset, progress, place=Path(), say=said.append)


def kill_a_worker(checkpoint: Path, killed: list[int], over: threading.Event) -> None:
    """Once something is saved, kill one of Ray's training workers."""
    while not over.wait(0.02):
        if any(checkpoint.glob("0*/state.json")):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    parents = (process / "environ").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if name.startswith("ray::") and "Worker" in name and os.environ["RAY_AUTH_TOKEN"] in parents:
                    killed.append(int(process.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return


def test_a_killed_worker(tmp_path: Path) -> None:
    told, said, killed, over = Told(), list[str](), list[int](), threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "run.checkpoint", killed, over), daemon=True)
    killer.start()
    found = train(tmp_path / "run", told, said, **LONG)
    over.set()
    assert killed, "nobody was killed"
    assert any("A worker died" in text and "s of work since then are lost" in text for text in said), said
    off = furthest(found, train_alone(tmp_path / "alone", **LONG))
    assert off["weight"] < 1e-5, off
    assert off["figure"] < 1e-6, off
    assert ("train", 1) in told.epochs
    figures = [
        (record["validation/ndcg@5"], -record["epoch"])
        for record in map(json.loads, (tmp_path / "run" / "history.jsonl").read_text().splitlines())
        if record["stage"] == "train"
    ]
    assert told.best == told.refit == -max(figures)[1]


def test_an_error_on_purpose_is_not_tried_again(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(TrainingError, match="must be finite"):
        train(tmp_path / "run", Silent(), said, optimizer={"kind": "sgd", "lr": 1e6})
    assert not any("started again" in text for text in said), said


def test_an_error_of_code_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.scale import ray_train

    def breaks(config: Any) -> None:  # within a function, so that Ray sends it whole: workers cannot import a test
        import time

        import torch.distributed as dist

        from towerkit.scale.ray_train import _worker
        from towerkit.training import state

        reduce, steps = state.reduce_gradients, iter(range(100))

        def reduce_or_break(world: Any, *more: Any) -> None:
            if next(steps) == 4:
                if world.rank == 1:
                    raise KeyError("colour")
                until = time.monotonic() + 60
                while dist.is_initialized() and time.monotonic() < until:  # Ray takes the group away from who is left
                    time.sleep(0.001)
            reduce(world, *more)

        state.reduce_gradients = reduce_or_break  # type: ignore[assignment]
        _worker(config)

    monkeypatch.setattr(ray_train, "_worker", breaks)
    said: list[str] = []
    with pytest.raises(TrainingError, match=r"Worker 1 failed with KeyError: 'colour' \(.*, in reduce_or_break\)"):
        train(tmp_path / "run", Silent(), said, checkpoint_every=1)
    assert not any("started again" in text for text in said), said


def test_the_machine_of_the_first_worker_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.scale import ray_train

    met = tmp_path / "met"

    def vanishes(config: Any) -> None:
        import os
        import platform

        from towerkit.scale.ray_train import _worker
        from towerkit.training import state

        reduce, steps = state.reduce_gradients, iter(range(1000))

        def reduce_or_vanish(world: Any, *more: Any) -> None:
            if world.rank == 0 and next(steps) == 4 and platform.node() == "another-machine":
                os._exit(9)
            reduce(world, *more)

        if not met.exists():
            platform.node = lambda: "another-machine"
        state.reduce_gradients = reduce_or_vanish  # type: ignore[assignment]
        _worker(config)

    def say(text: str) -> None:
        met.touch()
        said.append(text)

    monkeypatch.setattr(ray_train, "_worker", vanishes)
    said: list[str] = []
    spec = spec_of(checkpoint_every=1)
    dataset = read_dataset(spec.data, seed=spec.training.seed)
    found = ray_train.train_on("local", 2, tmp_path / "run", spec, dataset, Silent(), place=Path(), say=say)
    assert ["started again" in text for text in said] == [True], said
    assert "LostProcessError" not in said[0], "what the lost one died of, in place of what the other one met"
    off = furthest(found, train_alone(tmp_path / "alone", checkpoint_every=1))
    assert off["weight"] < 1e-5, off
    assert off["figure"] < 1e-6, off
