"""Faults on purpose: trainings that are killed after a step, and what tells whether one that went on ended as if not.

The cases are small trainings on the bundled shop in which everything that a checkpoint must hold plays a part: dropout, a
queue of negatives, moments, counts of an update, a learned balance, both stretches of a refit.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from towerkit.core.random import stream
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.experiment import checkpoints_of, recipe_of
from towerkit.spec import ExperimentSpec
from towerkit.training.fit import Trained, fit_recipe
from towerkit.training.progress import Silent, Step
from towerkit.training.signals import StopSignals
from towerkit.training.snapshot import snapshot
from towerkit.training.state import seeded_torch

_PURCHASES: dict[str, Any] = {
    "examples": {
        "path": "builtin:shop-small/purchases",
        "query": "user_id",
        "candidate": "product_id",
        "time": "time",
    },
    "entities": {"product_id": {"path": "builtin:shop-small/products"}},
}
_TABLE = {"kind": "table", "columns": ["price", "category"], "layers": [64], "dim": 64, "dropout": 0.3}
_ID = {"kind": "id", "dim": 64}

CASES: Mapping[str, Mapping[str, Any]] = {
    "two_backprop, dropout, queue": {
        "data": _PURCHASES,
        "model": {"kind": "two_tower", "query": _ID, "candidate": {"towers": {"id": _ID, "table": _TABLE}}},
        "objective": {
            "loss": {"kind": "sampled_softmax", "temperature": 0.5},
            "negatives": [{"kind": "uniform", "count": 4}, {"kind": "in_batch"}, {"kind": "queue", "size": 900}],
        },
        "training": {"epochs": 2, "batch_size": 640, "optimizer": {"kind": "adam", "lr": 0.02}},
        "evaluation": {"k": [5]},
    },
    "one_backprop, debias": {
        "data": _PURCHASES,
        "model": {"kind": "two_tower", "query": _ID, "candidate": _ID},
        "update": {"kind": "one_backprop", "beta": 0.9, "debias": True},
        "training": {
            "epochs": 2,
            "batch_size": 640,
            "optimizer": {"kind": "adam", "lr": 0.02, "schedule": {"kind": "cosine", "warmup": 2}},
        },
        "evaluation": {"k": [5]},
    },
    "compiled, one_backprop": {
        "data": _PURCHASES,
        "model": {"kind": "two_tower", "query": _ID, "candidate": _ID},
        "objective": {"negatives": [{"kind": "popularity", "count": 4}]},
        "update": {"kind": "one_backprop", "beta": 0.9, "debias": True},
        "training": {
            "engine": "compiled",
            "epochs": 2,
            "batch_size": 640,
            "optimizer": {"kind": "adam", "lr": 0.02, "schedule": {"kind": "cosine", "warmup": 2}},
        },
        "evaluation": {"k": [5]},
    },
    "compiled, shared": {
        "data": _PURCHASES,
        "model": {"kind": "two_tower", "query": _ID, "candidate": _ID, "match": {"kind": "cosine"}},
        "objective": {
            "loss": {"kind": "sampled_softmax", "temperature": 0.2},
            "negatives": [{"kind": "in_batch"}, {"kind": "uniform", "count": 50, "shared": True}],
        },
        "update": {"kind": "alternating", "every": 2},
        "training": {
            "engine": "compiled",
            "epochs": 2,
            "batch_size": 640,
            "optimizer": {"kind": "rowwise_adagrad", "lr": 0.1},
        },
        "evaluation": {"k": [5]},
    },
    "ranker, absent towers, a task beside, gradnorm": {
        "data": {**_PURCHASES, "examples": {**_PURCHASES["examples"], "path": "builtin:shop-small/ratings"}},
        "model": {
            "kind": "ranker",
            "towers": {
                "user": {"kind": "id", "entity": "user_id", "dim": 32},
                "product": {**_TABLE, "entity": "product_id", "dim": 32},
                "when": {"kind": "table", "columns": ["time"], "layers": [], "dim": 8},
            },
            "layers": [16],
            "absent": 0.2,
            "heads": {"rating": {"kind": "ordinal", "column": "rating"}},
        },
        "objective": {
            "loss": {"kind": "sampled_softmax", "learn_temperature": True},
            "negatives": [{"kind": "uniform", "count": 3}, {"kind": "hard", "pool": 8, "count": 2}],
        },
        "balance": {"kind": "gradnorm"},
        "training": {"epochs": 2, "batch_size": 256, "optimizer": {"kind": "adam", "lr": 0.02}},
        "evaluation": {"k": [5]},
    },
    "joint, learned temperatures, queue": {
        "data": {
            "examples": {"path": "builtin:shop-small/baskets", "query": "user_id", "time": "time"},
            "entities": {"product_id": {"path": "builtin:shop-small/products"}},
        },
        "model": {
            "kind": "joint",
            "query": _ID,
            "candidates": {"product_id": {"towers": {"table": _TABLE}}, "snack_id": _ID},
        },
        "objective": {
            "loss": {"kind": "sampled_softmax", "temperature": 0.5, "learn_temperature": True},
            "negatives": [{"kind": "uniform", "count": 4}, {"kind": "queue", "size": 500}],
        },
        "training": {"epochs": 2, "batch_size": 900, "optimizer": {"kind": "adam", "lr": 0.02}},
        "evaluation": {"k": [5]},
    },
    "tower_model, uncertainty": {
        "data": {"examples": {"path": "builtin:shop-small/reviews"}},
        "model": {
            "kind": "tower_model",
            "towers": {
                "text": {"kind": "text", "columns": ["title", "text"], "dim": 128, "dropout": 0.2},
                "table": {"kind": "table", "columns": ["age", "category"], "layers": [64], "dim": 64, "dropout": 0.2},
            },
            "heads": {
                "recommended": {"kind": "binary", "column": "recommended"},
                "rating": {"kind": "ordinal", "column": "rating"},
            },
        },
        "balance": {"kind": "uncertainty"},
        "training": {"epochs": 2, "batch_size": 300, "optimizer": {"kind": "adam", "lr": 0.02}},
    },
    "tower_model, absent towers, experts, pcgrad": {
        "data": {"examples": {"path": "builtin:shop-small/reviews"}},
        "model": {
            "kind": "tower_model",
            "towers": {
                "text": {"kind": "text", "columns": ["title", "text"], "dim": 64},
                "table": {"kind": "table", "columns": ["age", "category"], "layers": [], "dim": 64},
            },
            "backbone": {"kind": "ple", "dim": 64, "levels": 2},
            "heads": {
                "recommended": {"kind": "binary", "column": "recommended"},
                "rating": {"kind": "ordinal", "column": "rating"},
            },
            "absent": 0.2,
        },
        "balance": {"kind": "pcgrad"},
        "training": {"epochs": 2, "batch_size": 300, "optimizer": {"kind": "adam", "lr": 0.02}},
    },
}
"""Name -> a whole spec in plain data."""


class Observer(Silent):
    """Calls a function after each step, counted over both stretches, before the step's checkpoint is written.

    Args:
        each: Given the number of the step, from 1.
    """

    def __init__(self, each: Callable[[int], None]) -> None:
        self.each, self.steps = each, 0

    def step(self, step: Step) -> None:
        """Call it."""
        self.steps += 1
        self.each(self.steps)


def kill_after(step: int) -> Callable[[int], None]:
    """A function for :class:`Observer` that kills this process, as ``kill -9`` does, after a step."""

    def kill(done: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def read_case(spec: Mapping[str, Any]) -> tuple[ExperimentSpec, Dataset]:
    """The parsed spec of a case and its data."""
    parsed = parse(ExperimentSpec, spec)
    return parsed, read_dataset(parsed.data, seed=parsed.training.seed)


def train_case(
    spec: ExperimentSpec,
    dataset: Dataset,
    folder: Path,
    *,
    every: int | str = 1,
    each: Callable[[int], None] = lambda step: None,
    stop: StopSignals | None = None,
) -> Trained:
    """Train, saving checkpoints in ``RUN.checkpoint`` and going on from what is there.

    Args:
        spec: What to train.
        dataset: Its data.
        folder: The Run that would be written.
        every: How often to save, as ``training.checkpoint_every``.
        each: Called after each step of this process.
        stop: Signals to listen to.
    """
    changed = spec.training.model_copy(update={"checkpoint_every": every})
    checkpoints = checkpoints_of(folder, spec.model_copy(update={"training": changed}), dataset, stop=stop)
    with checkpoints.held():
        return fit_recipe(recipe_of(spec, dataset), dataset, spec.training, Observer(each), checkpoints)


def digests(trained: Trained) -> dict[str, str]:
    """Part of the final state -> SHA-256 of its tensors; and of the history without its seconds.

    Dropout's generator is not among them: a training that is over has given it back.
    """
    found: dict[str, Any] = {}
    with seeded_torch(stream(0, "digest")):
        tensors = snapshot(trained.prepared.state)
    for name in sorted(tensors):
        part = name.partition(".")[0]
        digest = found.setdefault(part, hashlib.sha256())
        digest.update(name.encode() + str(tuple(tensors[name].shape)).encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    records = [{key: v for key, v in record.items() if key != "seconds"} for record in trained.history.records]
    found["history"] = hashlib.sha256(json.dumps(records).encode())
    return {part: digest.hexdigest() for part, digest in found.items()}
