"""Why a candidate stands where it does: the share of each tower in its score, and of each thing that the query met.

Where the query's vector is a sum of what its towers give (one tower, or a backbone ``sum`` or ``mean``) and the match is a
product, the score is a sum as well, ``score = scale * Σ_t part_t · c``, and a tower that averages gives each event its own
term. Elsewhere (other backbones, distances) a share is the tower's Shapley value: what it adds to the score of a stranger,
averaged over all orders in which the towers can be added. Either way the shares, and the stranger's score as ``base`` in the
second case, sum to the score.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.features.history import Events
from towerkit.fusion import MeanSpec, SumSpec
from towerkit.models.answer import Retriever
from towerkit.models.side import FusedSideSpec
from towerkit.serving.problems import Problem
from towerkit.serving.users import unknown_columns
from towerkit.towers.history import HistoryTower, IdHistoryTower

_MOST_TOWERS = 8
Weighted = Sequence[tuple[int, float]]
"""Rows of the candidate catalogue, from 1, and what each weighs in the query's id vector."""


@dataclass(frozen=True)
class Asker:
    """A query as its towers see it."""

    parts: Mapping[str, Tensor]
    """Tower -> ``[1, dim]``."""
    events: Events | None = None
    """What it met, as row 1, where towers read histories."""
    averaged: Weighted = field(default=())
    """What its id vector is an average of, where it is one."""


@torch.no_grad()
def shares_of(
    model: Retriever, asker: Asker, places: NDArray[np.int64], names: Sequence[object]
) -> list[dict[str, object]]:
    """The shares in the scores of some candidates.

    Args:
        model: The model.
        asker: The query.
        places: ``[n]`` candidates, from 0.
        names: The candidates' keys, from 0.

    Returns:
        For each candidate ``towers`` (name -> share), ``history`` (a list of key and share, largest first, parts of the towers'
        shares) where it can be told, and ``base`` where shares are beside a stranger's score.

    Raises:
        Problem: If there are too many towers to try in all orders.
    """
    candidates = torch.from_numpy(model.candidate_vectors[places + 1])  # [n, dim]
    scale = _scale(model, asker.parts)
    if scale is None:
        return _shapley(model, asker.parts, candidates)
    towers = {name: (scale * (candidates @ part[0])).tolist() for name, part in asker.parts.items()}
    history = _history(model, asker)
    found: list[dict[str, object]] = []
    met = sorted(history)
    each = torch.stack([history[row] for row in met]) if met else torch.zeros(0, candidates.shape[1])
    terms = scale * (candidates @ each.T)  # [n, things met]
    for place in range(len(places)):
        shares = sorted(zip(met, terms[place].tolist(), strict=True), key=lambda pair: -abs(pair[1]))
        found.append(
            {
                "towers": {name: shares_[place] for name, shares_ in towers.items()},
                "history": [{"item": names[row - 1], "share": share} for row, share in shares],
            }
        )
    return found


def _scale(model: Retriever, parts: Mapping[str, Tensor]) -> float | None:
    """What the sum of the parts is multiplied with before it meets a candidate; None where the score is no such sum."""
    spec = model.spec.query
    share = 1.0
    if isinstance(spec, FusedSideSpec):
        backbone = spec.backbone
        if not isinstance(backbone, SumSpec | MeanSpec) or backbone.dim is not None or backbone.norm != "none":
            return None
        share = 1.0 / len(parts) if isinstance(backbone, MeanSpec) else 1.0
    if model.model.match.similarity == "euclidean":
        return None
    if model.model.match.similarity == "dot":
        return share
    length = float(torch.linalg.vector_norm(sum(parts.values(), torch.zeros(1)) * share))
    return share / max(length, 1e-12)


def _history(model: Retriever, asker: Asker) -> dict[int, Tensor]:
    """Candidate row -> ``[dim]`` what having met it adds to the sum of the parts."""
    found: dict[int, Tensor] = {}

    def add(row: int, vector: Tensor) -> None:
        found[row] = found[row] + vector if row in found else vector

    codes: dict[int, int] = {}
    if asker.events is not None:
        codes = {int(code): row for row, code in enumerate(model.candidate_codes.tolist()) if row and code}
    for _, tower in model.model.query.each():
        gate = float(tower.gate) if isinstance(tower, IdHistoryTower) else 1.0
        if tower in model.model.query.id_towers().values():
            for row, weight in asker.averaged:
                add(row, gate * weight * torch.from_numpy(model.candidate_vectors[row]))
        pool = tower.history if isinstance(tower, IdHistoryTower) else tower
        if isinstance(pool, HistoryTower) and asker.events is not None and pool.reach is not None:
            bag = asker.events.bag(pool.reach, np.ones(1, np.int64))
            share = 1.0 - gate if isinstance(tower, IdHistoryTower) else 1.0
            for code, weight in zip(bag.codes.tolist(), bag.weights.tolist(), strict=True):
                add(codes[code], share * weight * pool.items.table[code])
    return found


def _shapley(model: Retriever, parts: Mapping[str, Tensor], candidates: Tensor) -> list[dict[str, object]]:
    names = list(parts)
    if len(names) > _MOST_TOWERS:
        raise Problem(422, f"Shares are told of up to {_MOST_TOWERS} towers.", str(len(names)), "Leave 'why' out.")
    side, match = model.model.query, model.model.match
    strangers = side.parts(unknown_columns(model))
    groups = list(itertools.product((False, True), repeat=len(names)))
    rows = {
        name: torch.cat([parts[name] if group[place] else strangers[name] for group in groups])
        for place, name in enumerate(names)
    }
    scores = match.every(match.prepare(side.merge(rows)), candidates)  # [groups, n]
    place_of = {group: place for place, group in enumerate(groups)}
    shares = {name: torch.zeros(len(candidates)) for name in names}
    for group in groups:
        for place, name in enumerate(names):
            if not group[place]:
                size = sum(group)
                weight = math.factorial(size) * math.factorial(len(names) - size - 1) / math.factorial(len(names))
                joined = (*group[:place], True, *group[place + 1 :])
                shares[name] += weight * (scores[place_of[joined]] - scores[place_of[group]])
    base = scores[place_of[(False,) * len(names)]].tolist()
    told = {name: share.tolist() for name, share in shares.items()}
    return [
        {"towers": {name: told[name][place] for name in names}, "base": base[place]} for place in range(len(candidates))
    ]
