"""DSSM of torch-rechub, ids only: cosines, binary cross-entropy over pairs and as many drawn ones, its own loader and trainer."""

from __future__ import annotations

import time
from importlib.metadata import version

import numpy as np
import torch
from serve import column, job, serve, with_best_threads
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.matching import DSSM
from torch_rechub.trainers import MatchTrainer
from torch_rechub.utils.data import MatchDataGenerator


def main() -> None:
    """An epoch over positives and as many negatives, which stay the same from epoch to epoch."""
    told = job()
    users, items = column(told["users"]), column(told["items"])
    negatives = np.random.default_rng(0).integers(0, told["num_items"], len(items))
    rows = {"user": np.concatenate([users, users]), "item": np.concatenate([items, negatives])}
    labels = np.concatenate([np.ones(len(users)), np.zeros(len(users))])
    generator = MatchDataGenerator(x=rows, y=labels)
    loader, _, _ = generator.generate_dataloader(rows, rows, batch_size=2 * told["batch"], num_workers=0)
    sides = [[SparseFeature(name, vocab_size=told[f"num_{name}s"], embed_dim=told["dim"])] for name in ("user", "item")]
    model = DSSM(*sides, user_params={"dims": []}, item_params={"dims": []})
    trainer = MatchTrainer(model, mode=0, optimizer_params={"lr": 0.001}, n_epoch=1)

    def epoch_seconds() -> float:
        started = time.perf_counter()
        trainer.train_one_epoch(loader)
        return time.perf_counter() - started

    epoch_seconds()
    threads = with_best_threads(epoch_seconds, torch.set_num_threads)
    serve(epoch_seconds, {"version": f"torch-rechub {version('torch-rechub')}, DSSM", "threads": threads})


if __name__ == "__main__":
    main()
