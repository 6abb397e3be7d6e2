"""A small training that several workers share, and what tells whether they ended where one process does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.run import Run
from towerkit.run_writer import train_run
from towerkit.spec import ExperimentSpec
from towerkit.training.progress import Silent

_ID = {"kind": "id", "dim": 8}
_TABLE = {"kind": "table", "columns": ["price", "category"], "layers": [8], "dim": 8}
_PURCHASES = {"path": "builtin:shop-small/purchases", "query": "user_id", "candidate": "product_id", "time": "time"}

SPEC: Mapping[str, Any] = {
    "data": {
        "examples": _PURCHASES,
        "entities": {"product_id": {"path": "builtin:shop-small/products"}},
        "split": {"kind": "time", "validation": 0.1, "test": 0.1},
    },
    "model": {"kind": "two_tower", "query": _ID, "candidate": {"towers": {"id": _ID, "table": _TABLE}}},
    "objective": {
        "loss": {"kind": "sampled_softmax"},
        "negatives": [{"kind": "in_batch"}, {"kind": "uniform", "count": 3}],
    },
    "update": {"kind": "one_backprop", "beta": 0.9, "debias": True},
    "training": {"epochs": 2, "batch_size": 500, "checkpoint_every": 3, "optimizer": {"kind": "sgd", "lr": 2.0}},
    "evaluation": {"k": [5]},
}
"""All that workers exchange plays a part: sparse and dense gradients, vectors of towers, queries at home with their counts.

The optimizer is plain: Adam makes whole steps of the rounding of a gradient that is zero, such as that of a bias that all
candidates share.
"""


def spec_of(**training: Any) -> ExperimentSpec:
    """The spec with other settings of its training."""
    return parse(ExperimentSpec, {**SPEC, "training": {**SPEC["training"], **training}})


def train_alone(run: Path, *, resume: bool = False, overwrite: bool = False, **training: Any) -> Run:
    """The Run that one process writes.

    Args:
        run: Its folder.
        resume: Go on where a training of this Run was saved, by however many workers.
        overwrite: Replace an existing Run.
        **training: Other settings of its training.
    """
    spec = spec_of(**training)
    data = read_dataset(spec.data, seed=spec.training.seed)
    return train_run(run, spec, data, Silent(), resume=resume, overwrite=overwrite)[0]


def furthest(found: Run, right: Run) -> dict[str, float]:
    """How far two Runs of the spec are from each other: the largest difference of a weight, and of a figure.

    Args:
        found: One.
        right: The other.
    """
    theirs, ours = found.model.model.state_dict(), right.model.model.state_dict()  # type: ignore[union-attr]
    assert theirs.keys() == ours.keys()
    figures = right.evaluation.metrics
    return {
        "weight": max(float((theirs[name] - tensor).abs().max()) for name, tensor in ours.items()),
        "figure": max(abs(found.evaluation.metrics[name].value - figures[name].value) for name in figures),
    }
