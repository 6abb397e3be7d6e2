"""Every loss, sort of negatives, update and match beside every other, in as few trainings as pairs allow.

``python -m towerkit.testing.pairwise`` prints the table: the score of each training on the shop against chance.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from towerkit.api import read
from towerkit.core.errors import SpecError
from towerkit.core.random import stream
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset
from towerkit.data.shop.tables import shop_table
from towerkit.evaluation.ranking import ranking_values
from towerkit.experiment import train_and_evaluate
from towerkit.index.ranker import Ranker
from towerkit.models.answer import Retriever
from towerkit.spec import ModelingSpec
from towerkit.trained import ranking_task_of
from towerkit.training.fit import batches_of
from towerkit.training.loop import Selection, Silent
from towerkit.training.recipes import RetrievalRecipe
from towerkit.training.state import seeded_torch

MARGIN = 1.5
"""Every training must reach so many times the NDCG@10 of chance."""
FACTORS: Mapping[str, Mapping[str, Any]] = {
    "loss": {
        "bpr": {"kind": "bpr"},
        "bce": {"kind": "bce"},
        "softmax": {"kind": "softmax", "temperature": 0.2, "learn_temperature": True},
        "sampled_softmax": {"kind": "sampled_softmax", "temperature": 0.2},
        "bilateral_softmax": {"kind": "bilateral_softmax", "temperature": 0.2},
        "contrastive": {"kind": "contrastive"},
        "triplet": {"kind": "triplet"},
        "ccl": {"kind": "ccl"},
        "directau": {"kind": "directau", "gamma": 0.3},
    },
    "negatives": {
        "": None,
        "uniform": [{"kind": "uniform", "count": 8}],
        "shared": [{"kind": "uniform", "count": 128, "shared": True}],
        "popularity": [{"kind": "popularity", "count": 8}],
        "in_batch": [{"kind": "in_batch"}],
        "queue": [{"kind": "in_batch"}, {"kind": "queue", "size": 512}],
        "hard": [{"kind": "hard", "count": 2, "pool": 8}],
        "mixture": [{"kind": "in_batch"}, {"kind": "popularity", "count": 64, "shared": True}, {"kind": "uniform"}],
    },
    "update": {
        "two_backprop": {"kind": "two_backprop"},
        "one_backprop": {"kind": "one_backprop", "beta": 0.9},
        "last": {"kind": "one_backprop", "beta": 0.9, "duplicates": "last"},
        "debias": {"kind": "one_backprop", "beta": 0.9, "debias": True},
        "epoch": {"kind": "one_backprop", "beta": 0.9, "start": "mean_of_items", "refresh": "epoch"},
        "stop_gradient": {"kind": "stop_gradient", "side": "query"},
        "ema": {"kind": "ema", "side": "both", "momentum": 0.9},
        "alternating": {"kind": "alternating", "every": 2},
    },
    "match": {"dot": {"kind": "dot"}, "cosine": {"kind": "cosine"}, "euclidean": {"kind": "euclidean"}},
}
Choice = tuple[str, ...]
"""A level of each factor, in the order of ``FACTORS``."""


@dataclass(frozen=True)
class Found:
    """What one training gave."""

    choice: Choice
    ndcg: float
    finite: bool
    seconds: float


def spec_of(choice: Choice) -> ModelingSpec | None:
    """The spec of a choice; None where towerkit refuses it as ill-posed."""
    loss, negatives, update, match = (FACTORS[name][level] for name, level in zip(FACTORS, choice, strict=True))
    ids = {"kind": "id", "dim": 16}
    if update["kind"] == "stop_gradient":  # against random vectors that never move there is nothing to generalize from
        ids["start"] = "spectral"
    objective = {"loss": loss} if negatives is None else {"loss": loss, "negatives": negatives}
    try:
        found = parse(
            ModelingSpec,
            {
                "model": {"kind": "two_tower", "query": ids, "candidate": ids, "match": match},
                "objective": objective,
                "update": update,
                "training": {
                    "epochs": 20,
                    "batch_size": 256,
                    "optimizer": {"lr": 0.03},
                    "patience": 20,
                    "validate_every": 4,
                    "refit": False,
                },
                "evaluation": {"k": [10]},
            },
        )
    except SpecError:
        return None
    if negatives is None and found.objective.negatives:
        return None  # the default negatives are another level
    return found


def cover() -> list[Choice]:
    """Choices in which every well-posed pair of levels stands together at least once, chosen greedily."""
    valid = [choice for choice in itertools.product(*FACTORS.values()) if spec_of(choice) is not None]
    pairs = {choice: set(pairs_of(choice)) for choice in valid}
    open_pairs = set().union(*pairs.values())
    chosen: list[Choice] = []
    while open_pairs:
        best = max(valid, key=lambda choice: len(pairs[choice] & open_pairs))
        chosen.append(best)
        open_pairs -= pairs[best]
    return chosen


def pairs_of(choice: Choice) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Every two levels of a choice, with their factors."""
    return itertools.combinations(zip(FACTORS, choice, strict=True), 2)


@lru_cache(maxsize=1)
def shop() -> Dataset:
    """The small shop's purchases, split by time."""
    return read(shop_table("purchases", size="small"), query="user_id", candidate="product_id", time="time")


def measure(choice: Choice) -> Found:
    """Train one choice: are all gradients of its first steps finite, and how well does it rank?"""
    started = time.perf_counter()
    spec = spec_of(choice)
    assert spec is not None
    finite = gradients_are_finite(spec, shop())
    outcome = train_and_evaluate(spec, shop(), Silent())
    return Found(choice, outcome.evaluation.metrics["ndcg@10"].value, finite, time.perf_counter() - started)


def gradients_are_finite(spec: ModelingSpec, dataset: Dataset, steps: int = 3) -> bool:
    """Whether every gradient of the first steps is finite, and at least one is not zero."""
    recipe = RetrievalRecipe(spec.model, spec.objective, spec.update, Selection("ndcg@10", True), lambda *_: {})  # type: ignore[arg-type]
    moved = False
    with seeded_torch(stream(0, "torch")):
        prepared = recipe.prepare(dataset, dataset.parts.train, spec.training)
        state = prepared.state
        for _, batch in zip(range(steps), batches_of(prepared, dataset.parts.train, spec.training, 0), strict=False):
            state.optimizer.zero_grad()
            state.balancer.backward(state.objective(state.model, batch))
            for parameter in state.optimizer.parameters:
                if parameter.grad is not None:
                    values = parameter.grad.coalesce().values() if parameter.grad.is_sparse else parameter.grad
                    moved |= bool(values.any())
                    if not torch.isfinite(values).all():
                        return False
            state.optimizer.step()
            if state.update is not None:
                state.update.after_step(state.model, batch)
            state.objective.after_step()
            state.step += 1
    return moved


class Chance(Ranker):
    """Random scores: what a model that learned nothing would reach."""

    exact = True

    def __init__(self, num_queries: int, num_candidates: int, seed: int) -> None:
        self.num_queries, self.num_candidates, self.seed = num_queries, num_candidates, seed

    def scores(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores drawn anew for each request."""
        draw = np.random.default_rng((self.seed, *queries[:1].tolist()))
        return draw.random((len(queries), self.num_candidates), dtype=np.float32)


@lru_cache(maxsize=1)
def chance() -> float:
    """The mean NDCG@10 of twenty random rankers on the shop's test part."""
    outcome = train_and_evaluate(spec_or_fail(), shop(), Silent())
    assert isinstance(outcome.model, Retriever)
    keys = [shop().labelled(entity, shop().parts.test) for entity in ("user_id", "product_id")]
    task = ranking_task_of(outcome.model, *keys)
    size = len(outcome.model.query.keys) + 1, len(outcome.model.candidate.keys)
    return float(np.mean([ranking_values(Chance(*size, seed), task, [10])["ndcg@10"].mean() for seed in range(20)]))


def spec_or_fail() -> ModelingSpec:
    """The plainest choice."""
    found = spec_of(("bpr", "uniform", "two_backprop", "dot"))
    assert found is not None
    return found


def main() -> None:
    """Print every training of the cover, the worst last."""
    chosen = cover()
    print(f"{len(chosen)} trainings cover all well-posed pairs; chance NDCG@10 {chance():.4f}, margin {MARGIN} times")
    found = sorted((measure(choice) for choice in chosen), key=lambda each: -each.ndcg)
    for each in found:
        mark = "" if each.finite and each.ndcg > MARGIN * chance() else "  BELOW"
        print(
            f"{each.ndcg:.4f} {each.ndcg / chance():5.1f}x {each.seconds:5.1f} s  {' + '.join(filter(None, each.choice))}{mark}"
        )
    below = [each for each in found if not each.finite or each.ndcg <= MARGIN * chance()]
    print(
        f"finite gradients in {sum(each.finite for each in found)} of {len(found)}; above the margin {len(found) - len(below)}"
    )
    if below:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
