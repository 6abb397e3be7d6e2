"""The library as a side of a benchmark: seconds per epoch of its own training loop, with any engine that it has.

A training is started from scratch for each measurement, by the function that ``towerkit train`` calls; an epoch counts from
the end of the one before it, so reading, encoding and compiling stay outside.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

import torch
from reference.one_backprop import Pairs

from towerkit.core.errors import TowerkitError
from towerkit.core.spec import parse
from towerkit.data.dataset import Dataset, make_dataset
from towerkit.data.readers import read_table
from towerkit.data.spec import DataSpec
from towerkit.experiment import recipe_of
from towerkit.spec import ModelingSpec
from towerkit.training.fit import Trained, fit_recipe
from towerkit.training.progress import Silent
from towerkit.training.spec import TrainingSpec


class Clock(Silent):
    """Notes the moment at which each epoch ends."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def epoch(self, record: Mapping[str, Any], *, stage: str, epochs: int, is_best: bool) -> None:
        """One epoch is over."""
        self.moments.append(time.perf_counter())


def engines() -> list[str]:
    """The engines that the installed library names, ``auto`` left out; the fastest is expected last."""
    known = [name for name in get_args(TrainingSpec.model_fields["engine"].annotation) if name != "auto"]
    return sorted(known, key=lambda name: name != "torch")


def dataset_of(pairs: Pairs) -> Dataset:
    """The pairs as a data set whose rows are all for training."""
    examples = {"path": "benchmark", "query": "user", "candidate": "item"}
    split = {"kind": "random", "validation": 0.0, "test": 0.0}
    columns = {"user": pairs.users, "item": pairs.items}
    return make_dataset(parse(DataSpec, {"examples": examples, "split": split}), read_table(columns))


def train(dataset: Dataset, modeling: Mapping[str, Any], *, epochs: int, progress: Silent | None = None) -> Trained:
    """Train as the command does, without validation."""
    settings = {**modeling, "training": {**modeling.get("training", {}), "epochs": epochs}}
    spec = parse(ModelingSpec, settings)
    return fit_recipe(recipe_of(spec, dataset), dataset, spec.training, progress or Silent())


def epoch_timer(dataset: Dataset, modeling: Mapping[str, Any], *, epochs: int) -> Callable[[], float]:
    """A side for ``alternate_timed``: each call trains afresh and gives the median seconds of an epoch but the first."""

    def timed() -> float:
        clock = Clock()
        train(dataset, modeling, epochs=1 + epochs, progress=clock)
        return statistics.median(
            after - before for before, after in zip(clock.moments, clock.moments[1:], strict=False)
        )

    return timed


def with_engine(modeling: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """The same spec for another engine."""
    return {**modeling, "training": {**modeling.get("training", {}), "engine": engine}}


def library_sides(
    dataset: Dataset, modeling: Mapping[str, Any], *, epochs: Mapping[str, int], fastest_only: bool = False
) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    """A side for each engine that takes the spec, and why the others do not.

    Args:
        dataset: What to train on.
        modeling: The spec, its engine left open.
        epochs: Engine -> epochs per measurement; an engine that is not named takes as many as ``torch``.
        fastest_only: Only the fastest engine that takes the spec.
    """
    sides, refused = {}, {}
    for engine in reversed(engines()):
        side = epoch_timer(dataset, with_engine(modeling, engine), epochs=epochs.get(engine, epochs["torch"]))
        try:
            train(dataset, with_engine(modeling, engine), epochs=1)
        except TowerkitError as error:
            refused[engine] = str(error)
        else:
            sides[f"towerkit {engine}"] = side
            if fastest_only:
                break
    return sides, refused


def fastest_threads(
    timed: Callable[[], float], *, rounds: int = 3, patience_s: float = 8.0
) -> tuple[Callable[[], float], int]:
    """The side with the number of threads that suits it best: small operations of PyTorch often wait more than they work.

    Args:
        timed: The side.
        rounds: How often each number is tried.
        patience_s: No further round is begun after so many seconds.

    Returns:
        The side, which sets the number for its own time alone; and the number.
    """
    choices = sorted({1, torch.get_num_threads()})
    found: dict[int, list[float]] = {count: [] for count in choices}
    started = time.perf_counter()
    for place in range(rounds if len(choices) > 1 else 0):
        if place and time.perf_counter() - started > patience_s:
            break
        for count in choices:
            with torch_threads(count):
                found[count].append(timed())
    best = min(choices, key=lambda count: statistics.median(found[count] or [0.0]))

    def with_best() -> float:
        with torch_threads(best):
            return timed()

    return with_best, best


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside the block, PyTorch uses so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
