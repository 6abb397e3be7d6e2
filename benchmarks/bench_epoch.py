"""One epoch of one-backprop with id towers through towerkit's own step, beside the same arithmetic written bare.

The bare side is a plain PyTorch loop over the same batches: uniform negatives drawn in one call without looking at what the
user has, dense Adam of torch over the items, ``e_u <- beta e_u + (1 - beta) mean``. It is what the readable path is held
against: how much do distinct rows, exclusion of positives and the general step cost?
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from harness import alternate, report

from towerkit.core.spec import parse
from towerkit.data.dataset import make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.spec import ModelingSpec
from towerkit.training.fit import Prepared, batches_of
from towerkit.training.loop import Selection
from towerkit.training.recipes import RetrievalRecipe
from towerkit.training.state import train_step

DIM, NEGATIVES, BATCH, BETA = 32, 5, 1024, 0.99


def pairs(num_rows: int, num_users: int, num_items: int) -> dict[str, np.ndarray]:
    """Random pairs, items by a falling popularity."""
    draw = np.random.default_rng(0)
    items = (num_items * draw.random(num_rows) ** 2).astype(np.int64)
    return {"user": draw.integers(0, num_users, num_rows), "item": items}


def towerkit_side(columns: dict[str, np.ndarray]) -> tuple[Prepared, ModelingSpec, np.ndarray]:
    """A prepared training of the library."""
    tower = {"kind": "id", "dim": DIM}
    spec = parse(
        ModelingSpec,
        {
            "model": {"kind": "two_tower", "query": tower, "candidate": tower},
            "objective": {"negatives": [{"kind": "uniform", "count": NEGATIVES}]},
            "update": {"kind": "one_backprop", "beta": BETA},
            "training": {"batch_size": BATCH},
        },
    )
    examples = {"path": "benchmark", "query": "user", "candidate": "item"}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    dataset = make_dataset(parse(DataSpec, {"examples": examples, "split": split}), read_table(columns))
    recipe = RetrievalRecipe(spec.model, spec.objective, spec.update, Selection("loss", higher_is_better=False), None)
    return recipe.prepare(dataset, dataset.parts.train, spec.training), spec, dataset.parts.train


def bare_epoch(
    columns: dict[str, np.ndarray], users: torch.Tensor, items: torch.nn.Parameter, optimizer: torch.optim.Adam
) -> None:
    """The same arithmetic without the library."""
    user, item = torch.from_numpy(columns["user"]), torch.from_numpy(columns["item"])
    for rows in torch.randperm(len(user)).split(BATCH):
        query, positive = users[user[rows]], item[rows]
        drawn = torch.randint(len(items), (len(rows), NEGATIVES))
        candidates = items[torch.cat([positive[:, None], drawn], dim=1)]
        loss = -torch.log_softmax(torch.einsum("bd,bnd->bn", query, candidates), dim=1)[:, 0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            users.index_add_(0, user[rows], (1.0 - BETA) * (items[positive] - query))


def main() -> None:
    """Time an epoch of both, in turns."""
    tiny = "--tiny" in sys.argv
    columns = pairs(4_000 if tiny else 80_000, 943, 1_682)
    prepared, spec, rows = towerkit_side(columns)
    users, items = torch.randn(943, DIM) * 0.1, torch.nn.Parameter(torch.randn(1_682, DIM) * 0.1)
    optimizer = torch.optim.Adam([items], lr=1e-3)

    def library_epoch() -> None:
        for batch in batches_of(prepared, rows, spec.training, 0):
            train_step(prepared.state, batch)

    def bare() -> None:
        bare_epoch(columns, users, items, optimizer)

    seconds = alternate({"towerkit": library_epoch, "bare torch": bare}, repeats=3 if tiny else 9)
    ratio = float(np.median(np.array(seconds["towerkit"]) / np.array(seconds["bare torch"])))
    report("epoch", seconds, n=len(rows), dim=DIM, dtype="float32", ratio=round(ratio, 2))


if __name__ == "__main__":
    main()
