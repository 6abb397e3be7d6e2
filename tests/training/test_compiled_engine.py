"""The compiled engine beside the torch engine, which is its plain twin.

Invariants:
- same draws, same order, same settings: losses, tables, what the optimizer and the update remember, and the reported negatives
  are equal within the rounding of float32, step by step, for every loss, match, update and optimizer that both know;
- the result does not depend on the number of threads, nor on how many steps a span has: bit for bit;
- a training that was stopped and resumed ends with the same bits;
- a loss that is not finite stops before the tables move, and says the step;
- where it cannot run a spec it says why, and ``auto`` takes the torch engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from towerkit.core.errors import SpecError, TrainingError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.spec import ModelingSpec
from towerkit.training import compiled
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import RetrievalRecipe
from towerkit.training.snapshot import restore, snapshot
from towerkit.training.state import seeded_torch
from towerkit.training.steps import torch_steps


def dataset(num_rows: int = 300, *, weighted: bool = False) -> Dataset:
    draw = np.random.default_rng(5)
    columns: dict[str, Any] = {
        "user": draw.integers(0, 23, num_rows),
        "item": (37 * draw.random(num_rows) ** 2).astype(np.int64),
        "weight": draw.choice([0.0, 0.5, 1.0, 3.0], num_rows),
    }
    examples = {"path": "test", "query": "user", "candidate": "item"} | ({"weight": "weight"} if weighted else {})
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    return make_dataset(parse(DataSpec, {"examples": examples, "split": split}), read_table(columns))


def spec(**changes: Any) -> ModelingSpec:
    tower = {"kind": "id", "dim": changes.pop("dim", 9)}
    model = {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": changes.pop("match", "dot")}}
    training = {"batch_size": 32, "optimizer": {"kind": "adam", "lr": 0.02}} | changes.pop("training", {})
    objective = {"loss": changes.pop("loss", "sampled_softmax"), "negatives": [{"kind": "uniform", "count": 4}]}
    if "negatives" in changes:
        objective["negatives"] = changes.pop("negatives")
    if isinstance(objective["loss"], str):
        objective["loss"] = {"kind": objective["loss"]}
    return parse(ModelingSpec, {"model": model, "objective": objective, "training": training, **changes})


def prepared(chosen: ModelingSpec, data: Dataset, engine: str) -> Prepared:
    training = chosen.training.model_copy(update={"engine": engine})
    recipe = RetrievalRecipe(
        chosen.model, chosen.objective, chosen.update, Selection("loss", higher_is_better=False), lambda *_: {}
    )
    with seeded_torch(1):
        found = recipe.prepare(data, data.parts.train, training)
        # A random start of realistic size: scores differ, and no loss is flat.
        for side in (found.state.model.query, found.state.model.candidate):
            for tower in side.id_towers().values():
                torch.nn.init.normal_(tower.table, std=0.5)
    return found


def run(found: Prepared, chosen: ModelingSpec, data: Dataset, epochs: int = 2) -> list[float]:
    rows, losses = data.parts.train, []
    advance = found.advance or torch_steps(
        found.state, lambda epoch, done: batches_of(found, rows, chosen.training, epoch, done)
    )
    for epoch in range(epochs):
        for stepped in advance(epoch, 0):
            losses += stepped.losses
    return losses


LOSSES: dict[str, dict[str, Any]] = {
    "sampled_softmax": {"loss": {"kind": "sampled_softmax", "temperature": 0.7}},
    "bpr": {"loss": "bpr"},
    "bce": {"loss": {"kind": "bce", "negative_weight": 2.0}},
    "triplet": {"loss": {"kind": "triplet", "margin": 0.4}},
    "cosine softmax": {"loss": {"kind": "sampled_softmax", "temperature": 0.2}, "match": "cosine"},
    "bilateral_softmax": {"loss": {"kind": "bilateral_softmax", "temperature": 0.2, "ratio": 1.2}, "match": "cosine"},
    "contrastive": {"loss": {"kind": "contrastive", "margin": 0.1}, "match": "cosine"},
    "ccl": {"loss": {"kind": "ccl", "margin": 0.1, "negative_weight": 4.0}, "match": "cosine"},
}
UPDATES: dict[str, dict[str, Any]] = {
    "two_backprop": {"kind": "two_backprop"},
    "one_backprop": {"kind": "one_backprop", "beta": 0.9},
    "one_backprop last": {"kind": "one_backprop", "beta": 0.9, "duplicates": "last"},
    "one_backprop debias": {"kind": "one_backprop", "beta": 0.9, "debias": True},
    "one_backprop epoch": {"kind": "one_backprop", "beta": 0.9, "refresh": "epoch", "start": "mean_of_items"},
    "stop query": {"kind": "stop_gradient", "side": "query"},
    "stop candidate": {"kind": "stop_gradient", "side": "candidate"},
    "alternating": {"kind": "alternating", "every": 3},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"kind": "adam", "lr": 0.02, "weight_decay": 0.01},
    "adam of all rows": {"kind": "adam", "lr": 0.02, "weight_decay": 0.01, "rows": "all"},
    "adagrad": {"kind": "adagrad", "lr": 0.05, "schedule": {"kind": "linear", "warmup": 5}},
    "rowwise_adagrad": {"kind": "rowwise_adagrad", "lr": 0.05},
    "rowwise_adagrad of all rows": {"kind": "rowwise_adagrad", "lr": 0.05, "rows": "all", "weight_decay": 0.01},
    "sgd": {"kind": "sgd", "lr": 0.5},
}
CASES = {
    **{f"loss {name}": case for name, case in LOSSES.items()},
    **{f"update {name}": {"update": case} for name, case in UPDATES.items()},
    **{f"update {name}, cosine": {"update": case, **LOSSES["ccl"]} for name, case in UPDATES.items()},
    **{f"optimizer {name}": {"training": {"optimizer": case}} for name, case in OPTIMIZERS.items()},
    "popularity": {"negatives": [{"kind": "popularity", "count": 3}]},
    "popularity, bilateral": {"negatives": [{"kind": "popularity", "count": 3}], **LOSSES["bilateral_softmax"]},
    "one negative": {"negatives": [{"kind": "uniform", "count": 1}], "loss": "bpr"},
    "positives allowed": {"negatives": [{"kind": "uniform", "count": 3, "exclude_positives": False}]},
    "one dimension": {"dim": 1},
    "wide": {"dim": 67},
    "one batch": {"training": {"batch_size": 1000}},
    "single rows": {"training": {"batch_size": 1}},
    "short batches left out": {"training": {"drop_last": True}},
}


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_both_engines_take_the_same_steps(case: Mapping[str, Any], weighted: bool) -> None:
    data, chosen = dataset(weighted=weighted), spec(**case)
    fast, plain = prepared(chosen, data, "compiled"), prepared(chosen, data, "torch")
    assert fast.advance is not None and plain.advance is None
    np.testing.assert_allclose(run(fast, chosen, data), run(plain, chosen, data), rtol=2e-4, atol=2e-5)
    ours, theirs = snapshot(fast.state), snapshot(plain.state)
    moved = [name for name in theirs if name in ours]
    assert [name for name in theirs if name not in ours] == []
    for name in moved:
        np.testing.assert_allclose(ours[name].numpy(), theirs[name].numpy(), rtol=5e-3, atol=5e-5, err_msg=name)
    assert fast.state.objective.report() == pytest.approx(plain.state.objective.report(), rel=1e-3)
