"""What a model predicts of raw rows, in words; of a ranker, beside the score of each pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from towerkit.data.readers import Table
from towerkit.ensembles.late import LateFusion
from towerkit.evaluation.answers import answer_columns
from towerkit.heads.decision import UNTOUCHED
from towerkit.models.answer import TaskPredictor
from towerkit.models.pair_scorer import PairScorer
from towerkit.recommend.pairs import pair_scores


def task_answers(model: TaskPredictor | LateFusion, table: Table) -> pa.Table:
    """Per task the class, its probabilities, or the number; ``cold`` where keys are read.

    Args:
        model: Answers tasks.
        table: Rows with the columns that it reads.

    Raises:
        DataError: If a column is missing or a value is of another kind.
    """
    columns = _answers(model, table)
    cold = model.cold(table)
    if cold is not None:
        columns["is_cold" if "cold" in columns else "cold"] = cold
    return pa.table(columns)


def scored_with_tasks(model: PairScorer, table: Table) -> pa.Table:
    """The score of each pair, with what its row says of the request, and the answers of the tasks beside the ranking.

    Args:
        model: A trained ranker.
        table: Pairs of keys, with the columns that towers read of the request.

    Raises:
        DataError: If a column is missing or a value is of another kind.
    """
    found = pair_scores(model, table)
    if model.reads_requests:
        scores = model.predictor.scores(table)
        found = found.set_column(found.column_names.index("score"), "score", pa.array(scores, pa.float32()))
    for name, values in _answers(model.predictor, table).items() if model.tasks else ():
        found = found.append_column(name, values if isinstance(values, pa.Array) else pa.array(np.asarray(values)))
    return found


def _answers(model: TaskPredictor | LateFusion, table: Table) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for task, probabilities in model.predict(table).items():
        columns |= answer_columns(task, model.tasks[task], probabilities, model.decisions.get(task, UNTOUCHED))
    return columns
