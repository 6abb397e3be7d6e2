"""The golden request: a few questions with their answers, stored in a Run and asked again when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from towerkit.core.errors import RunError
from towerkit.data.readers import Table
from towerkit.data.roles import EXAMPLE
from towerkit.ensembles.late import LateFusion
from towerkit.models.answer import TaskPredictor
from towerkit.models.joint_retriever import JointRetriever
from towerkit.trained import Model, RankingModel, ranker_of

_TOLERANCE = 1e-4
"""How far a replayed answer may be from the stored one: float32 sums differ a little between machines."""
_DEPTH = 5


def golden_request(model: Model) -> dict[str, Any]:
    """Questions and answers of a trained model.

    A ranking model is asked for the first query rows and the unknown one; a predictor for rows made up from fitted
    statistics (one of typical values, one with everything missing), so that the Run stores no one's data.
    """
    return {"answers": _answers(model)}


def replay_golden(model: Model, golden: Mapping[str, Any], path: Path) -> None:
    """Ask again.

    Raises:
        RunError: If an answer differs by more than rounding.
    """
    stored, found = golden["answers"], _answers(model)
    same = stored.keys() == found.keys() and all(_close(stored[name], found[name]) for name in stored)
    if not same:
        raise RunError(
            f"{path}: the model answers its golden request differently than when it was saved; its files do not belong "
            "together, or this machine computes differently. Train the Run again."
        )


def _answers(model: Model) -> dict[str, list[Any]]:
    if isinstance(model, JointRetriever):
        parts = {name: _answers(each) for name, each in model.members.items()}
        return {f"{name}/{key}": values for name, part in parts.items() for key, values in part.items()}
    if isinstance(model, RankingModel):
        rows = np.arange(min(3, len(model.query.keys) + 1))
        scores = ranker_of(model).rank(rows, _DEPTH).scores
        return {"scores": [[float(score) for score in row if np.isfinite(score)] for row in scores]}
    rows_of_no_one = Table(sample_rows(model), "golden request", 0)
    return {task: values.tolist() for task, values in model.predict(rows_of_no_one).items()}


def sample_rows(model: TaskPredictor | LateFusion) -> pa.Table:
    """Two made-up rows: typical values, and everything missing."""
    typical: dict[str, Any] = {}
    if isinstance(model, LateFusion):
        for member in model.members.values():
            typical |= member.encoder.sample(EXAMPLE)
    else:
        typical |= model.encoder.sample(EXAMPLE)
    for predictor in model.towers() if isinstance(model, LateFusion) else [model]:
        typical |= dict.fromkeys(predictor.entities)  # a member may read entities of its own
    known = pa.table({name: [value] for name, value in typical.items()})
    missing = pa.table({name: pa.nulls(1, known.schema.field(name).type) for name in typical})
    return pa.concat_tables([known, missing])


def _close(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(
        len(one) == len(other) and np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE)
        for one, other in zip(old, new, strict=True)
    )
