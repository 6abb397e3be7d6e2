"""BPR of ``implicit``: stochastic gradient descent pair by pair, threads without locks (Hogwild), negatives by popularity."""

from __future__ import annotations

import statistics
from typing import Any

import implicit
import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from serve import column, job, serve
from threadpoolctl import threadpool_limits


def main() -> None:
    """An epoch draws as many pairs as there are."""
    told = job()
    users, items = column(told["users"]), column(told["items"])
    shape = (told["num_users"], told["num_items"])
    pairs = csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)

    def epoch_seconds() -> float:
        seconds: list[float] = []

        def note(epoch: int, elapsed: float, *_: Any) -> None:
            seconds.append(elapsed)

        model = BayesianPersonalizedRanking(
            factors=told["dim"],
            learning_rate=told["lr"],
            regularization=0.01,
            iterations=1 + told["epochs"],
            random_state=0,
        )
        model.fit(pairs, show_progress=False, callback=note)
        return statistics.median(seconds[1:])

    with threadpool_limits(1, "blas"):
        serve(epoch_seconds, {"version": f"implicit {implicit.__version__}", "threads": "all"})


if __name__ == "__main__":
    main()
