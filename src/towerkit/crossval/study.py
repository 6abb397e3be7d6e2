"""Cross-validation of a spec: every fold trained and measured by itself, side by side where asked, each kept once it is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from towerkit.core.errors import SpecError, TrainingError
from towerkit.core.remarks import collecting
from towerkit.core.spec import parse
from towerkit.crossval.folds import Fold, folds_of, resolved_plan
from towerkit.crossval.plans import AnyPlan, PlanSpec, RandomPlan, TimePlan
from towerkit.crossval.result import CrossValidation, Measured, together
from towerkit.data.dataset import Dataset, read_dataset
from towerkit.data.fingerprint import fingerprint
from towerkit.evaluation.kept import Kept, KeptEvaluation
from towerkit.experiment import train_and_evaluate
from towerkit.measurable import held_out_part
from towerkit.spec import ExperimentSpec, ModelingSpec, plain
from towerkit.training.progress import Progress, Silent, Staged

Tell = Callable[[int, int], None]


def crossval(
    spec: ModelingSpec,
    dataset: Dataset | None = None,
    *,
    plan: AnyPlan | None = None,
    seeds: Sequence[int] = (),
    workers: int = 1,
    kept: Path | None = None,
    base: Path | None = None,
    progress: Progress | None = None,
    tell: Tell = lambda done, total: None,
) -> CrossValidation:
    """Train and measure a spec on every fold of a plan.

    Args:
        spec: What is trained; its split says how large the validation part of each fold is, and nothing else.
        dataset: The rows; read from where the spec says when not given.
        plan: How the rows are divided; windows of time where there is a time, else folds spread evenly.
        seeds: One repetition each, of the division and the training; the spec's own when not given.
        workers: Folds that are trained side by side, each in a process of its own.
        kept: Folder in which every finished fold is kept: a second call goes on from there.
        base: The folder that relative paths of the spec's data start from.
        progress: Told of each training, where there is one worker.
        tell: Told how many folds are done, of all.

    Raises:
        SpecError: If the plan does not fit the model, or the data is streamed.
        DataError: If the rows do not suffice for the folds.
        TrainingError: If a training fails, or a worker dies.
    """
    if workers < 1:
        raise SpecError(f"workers must be at least 1; received {workers}.")
    whole = _dataset(spec, dataset, base)
    plan = resolved_plan(plan, spec, whole)
    seeds = list(dict.fromkeys(seeds)) or [spec.training.seed]
    divisions = {seed: folds_of(plan, spec, whole, seed) for seed in seeds}
    tasks = [_Task(_seeded(spec, seed), seed, fold) for seed, folds in divisions.items() for fold in folds]
    memory = Kept(kept)
    found = {place: one for place, task in enumerate(tasks) if (one := task.measured(memory)) is not None}
    tell(len(found), len(tasks))
    left = [place for place in range(len(tasks)) if place not in found]
    if workers == 1 or len(left) < 2:
        for place in left:
            found[place] = tasks[place].done(memory, progress or Silent())
            tell(len(found), len(tasks))
    else:
        for place, measured in _side_by_side(tasks, left, min(workers, len(left)), kept):
            found[place] = measured
            tell(len(found), len(tasks))
    return together(plan.model_dump(), seeds, [found[place] for place in range(len(tasks))], _notes(plan, whole))


@dataclass(frozen=True)
class _Task:
    """One fold under one seed."""

    spec: ModelingSpec
    seed: int
    fold: Fold

    @property
    def identity(self) -> dict[str, Any]:
        """What it is kept under: the spec without its data's place, the rows of each part, the seed."""
        described = {key: value for key, value in plain(self.spec).items() if key != "data"}
        return {"spec": described, "data": fingerprint(self.fold.dataset), "seed": self.seed}

    def measured(self, memory: Kept) -> Measured | None:
        """What was kept of it."""
        kept = memory.get(self.identity)
        return None if kept is None else self._of(kept)

    def done(self, memory: Kept, progress: Progress) -> Measured:
        """Train, measure and keep it."""
        started = time.perf_counter()
        told = Staged(progress, f"{self.fold.name}, seed {self.seed}:")
        outcome = train_and_evaluate(self.spec, self.fold.dataset, told)
        baselines = {
            name: {metric: value.value for metric, value in each.metrics.items() if value.value == value.value}
            for name, each in outcome.baselines.items()
        }
        more = {"seconds": time.perf_counter() - started, "baselines": baselines}
        memory.put(self.identity, outcome.evaluation, more)
        return self._of(KeptEvaluation(outcome.evaluation, more))

    def _of(self, kept: KeptEvaluation) -> Measured:
        dataset = self.fold.dataset
        held_out = held_out_part(dataset)[1]
        about = kept.more["baselines"], kept.more["seconds"]
        return Measured(self.fold.name, self.seed, kept.evaluation, dataset.parts.sizes(), held_out, *about)


def _dataset(spec: ModelingSpec, dataset: Dataset | None, base: Path | None) -> Dataset:
    if dataset is not None:
        return dataset
    if not isinstance(spec, ExperimentSpec):
        raise SpecError("The spec says nothing of data: add the key data, or give a data set.")
    if spec.data.examples.stream is not None:
        raise SpecError(
            "Folds are cut from rows in memory, and data.examples.stream never has them there together. Remove it, or measure "
            "one split."
        )
    return read_dataset(spec.data, base=base, seed=spec.training.seed)


def _seeded(spec: ModelingSpec, seed: int) -> ModelingSpec:
    """The spec with a seed, and without what is for a single training: trackers, segments, models of each task alone."""
    training = spec.training.model_copy(update={"seed": seed, "track": ()})
    evaluation = spec.evaluation.model_copy(update={"segments": (), "single_task": False})
    return spec.model_copy(update={"training": training, "evaluation": evaluation})


def _notes(plan: AnyPlan, dataset: Dataset) -> list[str]:
    if dataset.roles.time is None or isinstance(plan, TimePlan):
        return []
    how = "at random" if isinstance(plan, RandomPlan) else f"by {plan.kind} folds"
    return [
        f"Rows are divided {how}, so models learn from rows that are later than those they are asked for; --by time never does."
    ]


_GIVEN: dict[str, Any] = {}
"""What a worker process was started with."""


def _start(spec: Mapping[str, Any], tasks: Sequence[_Task], kept: Path | None, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    _GIVEN.update(tasks=tasks, kept=Kept(kept), spec=spec)


def _work(place: int) -> Measured:
    """One fold, in a worker."""
    with collecting():
        measured: Measured = _GIVEN["tasks"][place].done(_GIVEN["kept"], Silent())
    return measured


def _side_by_side(
    tasks: Sequence[_Task], left: Sequence[int], workers: int, kept: Path | None
) -> Iterator[tuple[int, Measured]]:
    """Folds as they are done, each by a process of its own; a fresh one, for forks after training are ended by OpenMP."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    with _quiet_pool(workers, (plain(tasks[0].spec), tasks, kept, threads)) as pool:
        running = {pool.submit(_work, place): place for place in left}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                place = running.pop(future)
                try:
                    yield place, future.result()
                except BrokenProcessPool:
                    kept_too = f" What is done is kept in {kept}; call it again." if kept else ""
                    raise TrainingError(
                        f"A worker was ended while it trained {tasks[place].fold.name}, perhaps for want of memory.{kept_too} Use "
                        "fewer workers."
                    ) from None


@contextmanager
def _quiet_pool(workers: int, given: tuple[Any, ...]) -> Iterator[ProcessPoolExecutor]:
    """A pool whose waiting work is dropped when something goes wrong."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=given)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def plan_of(kind: str, **settings: Any) -> AnyPlan:
    """A plan from words, checked.

    Args:
        kind: One of :data:`towerkit.crossval.plans.PLANS`.
        **settings: ``folds``, ``column``, ``learn``; those that are None are left out.

    Raises:
        SpecError: If there is no such plan, or it has no such setting.

    Example:
        >>> plan_of("grouped", folds=3, column=None)
        GroupedPlan(kind='grouped', folds=3, column=None)
    """
    given = {name: value for name, value in settings.items() if value is not None}
    return parse(PlanSpec, {"plan": {"kind": kind, **given}}, "the plan of the folds").plan
