"""A two-tower of Keras (PyTorch below it) with keras-rs's retrieval layer: two embeddings, softmax over the batch's other rows."""

from __future__ import annotations

import statistics
import time

import keras
import keras_rs
import numpy as np
import torch
from serve import column, job, serve, with_best_threads


class TwoTower(keras.Model):
    """Ids only; training scores the batch, serving asks the brute-force layer."""

    def __init__(self, num_users: int, num_items: int, dim: int) -> None:
        super().__init__()
        self.users = keras.layers.Embedding(num_users, dim)
        self.items = keras.layers.Embedding(num_items, dim)
        self.retrieval = keras_rs.layers.BruteForceRetrieval(k=10, return_scores=False)
        self.softmax = keras.losses.CategoricalCrossentropy(from_logits=True)

    def call(self, inputs: dict[str, object], training: bool = False) -> tuple[object, object]:
        """Both vectors."""
        return self.users(inputs["user"]), self.items(inputs["item"])

    def compute_loss(
        self, x: object = None, y: object = None, y_pred: object = None, sample_weight: object = None, **_: object
    ) -> object:
        """Each query's own candidate against the others of the batch."""
        query, candidate = y_pred
        logits = keras.ops.matmul(query, keras.ops.transpose(candidate))
        return self.softmax(keras.ops.eye(keras.ops.shape(logits)[0]), logits)


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch."""

    def on_train_begin(self, logs: object = None) -> None:
        """Nothing was timed."""
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """It begins."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """It ends."""
        self.seconds.append(time.perf_counter() - self.started)


def main() -> None:
    """An epoch of ``fit`` over arrays in memory."""
    told = job()
    columns = {"user": column(told["users"]).astype("int32"), "item": column(told["items"]).astype("int32")}
    model = TwoTower(told["num_users"], told["num_items"], told["dim"])
    model.compile(optimizer=keras.optimizers.Adam(0.001))
    clock, labels = Clock(), np.zeros(len(columns["user"]), dtype="float32")

    def epoch_seconds() -> float:
        model.fit(columns, labels, batch_size=told["batch"], epochs=2, verbose=0, shuffle=True, callbacks=[clock])
        return statistics.median(clock.seconds[1:])

    epoch_seconds()
    threads = with_best_threads(epoch_seconds, torch.set_num_threads)
    about = f"keras-rs {keras_rs.__version__}, Keras {keras.__version__} on {keras.backend.backend()}"
    serve(epoch_seconds, {"version": about, "threads": threads})


if __name__ == "__main__":
    main()
