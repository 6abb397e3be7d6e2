"""The game of a Run of any kind: its model, its held-out rows, and the figures that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from towerkit.ablation.game import Game
from towerkit.ablation.members import LateGame, RankFusionGame
from towerkit.ablation.merged import RankerGame, predictor_game
from towerkit.ablation.two_towers import Asked, JointGame, two_tower_game
from towerkit.core.errors import RunError, SpecError, listed, nearest
from towerkit.core.random import generator
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.data.stream.log import Log
from towerkit.data.table import Table
from towerkit.ensembles.late import LateFusion
from towerkit.ensembles.rank_fusion import RankFusion
from towerkit.evaluation.selection import graded
from towerkit.measurable import held_out_part
from towerkit.metrics.ranking import RANKING_METRICS
from towerkit.metrics.shown import headline, headlines
from towerkit.models.answer import Retriever, TaskPredictor
from towerkit.models.joint import for_candidate
from towerkit.models.joint_retriever import JointRetriever
from towerkit.models.pair_scorer import PairScorer
from towerkit.run import Run
from towerkit.spec import ModelingSpec
from towerkit.trained import RankingModel, ranking_task_of

_MOST_LEARNED = 5_000
"""Training rows that a mean is taken over."""


def game_of(run: Run, spec: ModelingSpec, dataset: Dataset | Log, metrics: Sequence[str]) -> Game:
    """The game of a Run.

    Args:
        run: Trained.
        spec: Its spec.
        dataset: Its data.
        metrics: Figures, as :func:`chosen_metrics` gives them.

    Raises:
        RunError: If nothing of the model could be taken away.
    """
    game = _game(run.model, run, spec, dataset, metrics)
    if len(game.parts) < 2:
        only = next(iter(game.parts), "none")
        raise RunError(
            f"{run.path} has one tower, '{only}': without it nothing is left that looks at a row, so there is nothing to "
            "compare. Ablate a Run of two towers or more."
        )
    return game


def chosen_metrics(run: Run, asked: Sequence[str]) -> list[str]:
    """The figures that are compared: those that are named, or the headline of each task.

    Args:
        run: What was measured.
        asked: Names.

    Raises:
        SpecError: If one was not measured, or belongs to all lists together.
    """
    known = [name for name in run.evaluation.metrics if _is_per_row(name, run)]
    for name in asked:
        if name not in known:
            raise SpecError(
                f"'{name}' is no figure of single queries or rows of {run.path}{nearest(name, known) or '.'} There are "
                f"{listed(known, 30)}."
            )
    return list(dict.fromkeys(asked)) or _headlines(known, run.evaluation.protocol.get("rankings", ()))


def _headlines(known: Sequence[str], rankings: Iterable[str]) -> list[str]:
    """Of each ranking of a joint model its own, else of each task."""
    of = {name: [each.removeprefix(f"{name}/") for each in known if each.startswith(f"{name}/")] for name in rankings}
    return [f"{name}/{headline(own)}" for name, own in of.items() if own] or headlines(known)


def _is_per_row(metric: str, run: Run) -> bool:
    """Coverage and the like belong to all lists together, or ask who is popular; a tower is judged by right answers."""
    plain = metric.rpartition("/")[2]
    ranks = run.evaluation.protocol["kind"] in ("ranking", "joint")
    task = metric.rpartition("/")[0]
    if not ranks or (task and task in run.evaluation.protocol.get("tasks", {})):
        return True
    return plain == "auc" or plain.partition("@")[0] in RANKING_METRICS


def _game(model: Any, run: Run, spec: ModelingSpec, dataset: Dataset | Log, metrics: Sequence[str]) -> Game:
    if isinstance(model, Retriever):
        return two_tower_game(model, dataset, _asked(model, spec, dataset, metrics))
    assert isinstance(dataset, Dataset)
    if isinstance(model, JointRetriever):
        games = {}
        for name, retriever in model.members.items():
            own = for_candidate(dataset, name)
            wanted = [each.partition("/")[2] for each in metrics if each.startswith(f"{name}/")]
            games[name] = two_tower_game(retriever, own, _asked(retriever, spec, own, wanted, f"{name}/"))
        return JointGame({name: game for name, game in games.items() if game.asked.metrics})
    held_out, learned = _rows(dataset)
    if isinstance(model, PairScorer):
        return _ranker(model, spec, dataset, metrics, held_out, learned)
    if isinstance(model, RankFusion):
        return RankFusionGame(model, _asked(model, spec, dataset, metrics), _bytes(run, model.members))
    several = len(model.tasks) > 1
    if isinstance(model, TaskPredictor):
        return predictor_game(model, dataset, held_out, learned, metrics, several=several)
    assert isinstance(model, LateFusion)
    return LateGame(model, held_out, learned, tuple(metrics), _bytes(run, model.members), several)


def _ranker(
    model: PairScorer, spec: ModelingSpec, dataset: Dataset, metrics: Sequence[str], held_out: Table, learned: Table
) -> Game:
    of_tasks = [name for name in metrics if name.rpartition("/")[0] in model.tasks]
    tasks = predictor_game(model.predictor, dataset, held_out, learned, of_tasks, several=True) if of_tasks else None
    ranking = [name for name in metrics if name not in of_tasks] or [f"ndcg@{max(spec.evaluation.k)}"]
    return RankerGame(model, _asked(model, spec, dataset, ranking), model.spec.reads(dataset), tasks)


def _asked(
    model: RankingModel, spec: ModelingSpec, dataset: Dataset | Log, metrics: Sequence[str], prefix: str = ""
) -> Asked:
    _, held_out, _ = held_out_part(dataset)
    keys = (dataset.labelled(entity, held_out) for entity in (model.query_entity, model.candidate_entity))
    grades = graded(dataset, held_out)
    task = ranking_task_of(model, *keys, exclude_seen=spec.evaluation.exclude_seen, grades=grades)
    return Asked(task, tuple(metrics), spec.evaluation.gain, prefix)


def _rows(dataset: Dataset) -> tuple[Table, Table]:
    """The held-out rows, and some training rows."""
    _, held_out, _ = held_out_part(dataset)
    train = dataset.parts.train
    if len(train) > _MOST_LEARNED:
        train = np.sort(generator(0, "ablation", "training rows").permutation(train)[:_MOST_LEARNED])
    return _taken(dataset, held_out), _taken(dataset, train)


def _taken(dataset: Dataset, rows: Rows) -> Table:
    return replace(dataset.examples, data=dataset.examples.data.take(rows), first_row=0)


def _bytes(run: Run, members: Mapping[str, Any]) -> dict[str, int]:
    """Member -> the size of its files."""
    files = run.manifest.files
    return {
        name: sum(entry.bytes for path, entry in files.items() if path.startswith(f"model/members/{name}/"))
        for name in members
    }
