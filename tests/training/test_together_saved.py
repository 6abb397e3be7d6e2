"""What several processes save and go on from: here they are threads, as in ``test_together.py``.

Invariants:
- a training that some processes began and others go on with ends where one process ends, for tables whole and in shards, queries
  at home, each update;
- a process that has resumed holds nothing of the checkpoint but what it trains;
- the state before a loss that is no number is that of one process: tables and what is remembered of them are whole.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from towerkit.core.spec import parse
from towerkit.core.world import ALONE, World
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.experiment import recipe_of
from towerkit.spec import ModelingSpec
from towerkit.storage.tensors import load_tensors
from towerkit.testing.worlds import together
from towerkit.training import fit
from towerkit.training.checkpoint import Checkpoints, Saved
from towerkit.training.fit import fit_recipe
from towerkit.training.progress import Silent, Step
from towerkit.training.state import LossError, seeded_torch

UPDATES: list[dict[str, Any]] = [
    {"kind": "two_backprop"},
    {"kind": "one_backprop", "debias": True},
    {"kind": "one_backprop", "refresh": "epoch"},
]


class Interrupted(Exception):
    """Ctrl-C, say."""


class Until(Silent):
    """Interrupts a training after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, step: Step) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted


class Prepares:
    """A recipe whose models begin alike in threads, which share torch's generator."""

    lock = threading.Lock()

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.recipe, name)

    def prepare(self, *given: Any) -> Any:
        with self.lock, seeded_torch(5):
            return self.recipe.prepare(*given)


@pytest.fixture(autouse=True)
def one_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "seeded_torch", lambda key: contextlib.nullcontext())


def dataset() -> Dataset:
    draw = np.random.default_rng(3)
    columns = {"user": draw.integers(0, 11, 61), "item": (17 * draw.random(61) ** 2).astype(np.int64)}
    split = {"kind": "random", "validation": 0.2, "test": 0.0}
    examples = {"path": "rows", "query": "user", "candidate": "item"}
    return make_dataset(parse(DataSpec, {"examples": examples, "split": split}), read_table(columns))


def spec(update: dict[str, Any], tables: str = "whole") -> ModelingSpec:
    tower = {"kind": "id", "dim": 6}
    training = {
        "batch_size": 20,
        "epochs": 4,
        "patience": 2,
        "checkpoint_every": 1,
        "partition": "query",
        "tables": tables,
        "optimizer": {"kind": "adam", "lr": 0.05, "rows": "touched"},
    }
    given = {
        "model": {"kind": "two_tower", "query": tower, "candidate": tower},
        "objective": {"loss": {"kind": "sampled_softmax"}, "negatives": [{"kind": "uniform", "count": 3}]},
        "update": update,
        "training": training,
    }
    return parse(ModelingSpec, given)


def train(size: int, chosen: ModelingSpec, folder: Path, progress: Callable[[], Silent] = Silent) -> dict[str, Tensor]:
    """The weights at the end; none after a loss that is no number, which all processes are told."""
    data = dataset()

    def work(world: World) -> dict[str, Tensor]:
        checkpoints = Checkpoints(folder, {"spec": {}, "data": {}}, every=chosen.training.checkpoint_every)
        recipe: Any = Prepares(recipe_of(chosen, data))
        with contextlib.suppress(LossError):  # raised out of a thread, it would end the others before they have saved
            return dict(fit_recipe(recipe, data, chosen.training, progress(), checkpoints, world).model.state_dict())
        return {}

    with seeded_torch(0):
        return together(size, work)[0] if size > 1 else work(ALONE)


@pytest.mark.parametrize("tables", ["whole", "sharded"])
@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (3, 1), (1, 3)])
@pytest.mark.parametrize("update", UPDATES, ids=lambda update: "-".join(map(str, update.values())))
def test_others_go_on(update: dict[str, Any], before: int, after: int, tables: str, tmp_path: Path) -> None:
    if tables == "sharded" and "refresh" in update:
        tables = "whole"  # refused, see test_together.py
    chosen = spec(update, tables)
    right = train(1, chosen, tmp_path / "alone")
    with pytest.raises(Interrupted):
        train(before, chosen, tmp_path / "parted", lambda: Until(5))
    for name, tensor in train(after, chosen, tmp_path / "parted").items():
        torch.testing.assert_close(
            tensor, right[name], rtol=2e-4, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_nothing_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    chosen, seen = spec({"kind": "two_backprop"}, "sharded"), list[int]()

    class Looks(Silent):
        def step(self, step: Step) -> None:
            seen.append(sum(len(each.tensors) for each in gc.get_objects() if type(each) is Saved))

    with pytest.raises(Interrupted):
        train(2, chosen, tmp_path / "parted", lambda: Until(5))
    train(2, chosen, tmp_path / "parted", Looks)
    assert seen[2:]  # in the first steps the other thread may still read its own
    assert max(seen[2:]) == 0


@pytest.mark.parametrize("update", UPDATES[:2], ids=lambda update: update["kind"])
def test_the_state_before_a_failure_is_whole(update: dict[str, Any], tmp_path: Path) -> None:
    chosen, found = spec(update), {}
    wild = chosen.training.optimizer.model_copy(update={"lr": 1e30})  # a spec would refuse it
    chosen = chosen.model_copy(update={"training": chosen.training.model_copy(update={"optimizer": wild})})
    for size in (1, 2):
        assert train(size, chosen, tmp_path / f"run{size}.checkpoint") == {}
        found[size] = load_tensors(tmp_path / f"run{size}.failed" / "state.safetensors")
    assert found[1].keys() == found[2].keys()
    for name, right in found[1].items():
        if not name.startswith(("torch.", "objective.effective")):
            sizes = [np.log10(1.0 + np.abs(each)) for each in (found[2][name], right)]  # of the digits little is left
            np.testing.assert_allclose(*sizes, atol=0.5, err_msg=name)
