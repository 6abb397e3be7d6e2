"""BPR or LightGCN of RecBole: its own loader, trainer and epoch, on nearly all pairs (it insists on held-out parts)."""

from __future__ import annotations

import time
from pathlib import Path

import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer
from serve import column, job, serve, with_best_threads


def main() -> None:
    """An epoch, and its seconds as if it had all pairs."""
    told = job()
    users, items = column(told["users"]), column(told["items"])
    folder = Path("pairs")
    folder.mkdir()
    lines = (f"{user}\t{item}" for user, item in zip(users.tolist(), items.tolist(), strict=True))
    (folder / "pairs.inter").write_text("\n".join(["user_id:token\titem_id:token", *lines, ""]))
    settings = {
        "data_path": ".",
        "load_col": {"inter": ["user_id", "item_id"]},
        "embedding_size": told["dim"],
        "train_batch_size": told["batch"],
        "learning_rate": 0.001,
        "eval_args": {"split": {"RS": [0.98, 0.01, 0.01]}, "group_by": None, "order": "RO", "mode": "full"},
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "save_dataset": False,
        "worker": 0,
        "n_layers": 3,
    }
    config = Config(model=told["model"], dataset="pairs", config_dict=settings)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    share = len(train.dataset) / len(users)

    def epoch_seconds() -> float:
        started = time.perf_counter()
        trainer._train_epoch(train, 0)
        return (time.perf_counter() - started) / share

    epoch_seconds()
    threads = with_best_threads(epoch_seconds, torch.set_num_threads)
    version = f"RecBole {recbole.__version__}, {told['model']}"
    serve(epoch_seconds, {"version": version, "threads": threads, "share_of_pairs": round(share, 4)})


if __name__ == "__main__":
    main()
