"""Does a Run that ranks say the same to everybody, or only what is popular?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.core.random import generator
from towerkit.doctor.finding import Finding
from towerkit.models.answer import Retriever
from towerkit.trained import RankingModel, ranker_of

_QUERIES, _FEW, _DEPTH, _PAIRS = 1_000, 200, 10, 2_000
"""Few where every pair goes through a backbone."""
_SAME, _FAVORED = 0.6, 3.0
"""Beyond which overlap of two lists, and which multiple of the data's share, something is odd."""
_POPULAR = 0.1
"""Of the candidates count as popular."""


def answer_findings(model: RankingModel, where: str = "") -> list[Finding]:
    """Collapse, and the share of popular candidates, in the first ten answers to up to a thousand queries.

    Args:
        model: What ranks.
        where: Behind the name of each check, where a model has several rankings.
    """
    known = np.flatnonzero(np.diff(model.seen.indptr))
    if not len(known) or model.seen.shape[1] < 2 * _DEPTH:
        return []
    draw = generator(0, "doctor", "queries")
    asked = np.sort(draw.permutation(known)[: _QUERIES if isinstance(model, Retriever) else _FEW])
    lists = ranker_of(model).rank(asked + 1, _DEPTH, exclude=csr_array(model.seen[asked])).rows
    popularity = np.bincount(model.seen.indices, minlength=model.seen.shape[1])
    return [_collapse(lists, model.seen.shape[1], where), _popular(lists, popularity, where)]


def _collapse(lists: NDArray[np.int64], candidates: int, where: str) -> Finding:
    draw = generator(0, "doctor", "pairs")
    pairs = draw.integers(0, len(lists), (_PAIRS, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    common = [len(np.intersect1d(lists[one], lists[two])) for one, two in pairs]
    overlap = float(np.mean(common)) / _DEPTH if common else 0.0
    shown = len(np.unique(lists[lists >= 0])) / candidates
    step = ""
    if overlap > _SAME:
        step = (
            "the query side hardly matters: check that its columns tell queries apart, and train longer; towerkit ablate says what "
            "each query tower adds"
        )
    return Finding(
        f"collapse{where}",
        f"the first {_DEPTH} answers to two of {len(lists):,} queries share {overlap:.0%}; together they show {shown:.1%} of "
        f"{candidates:,} candidates",
        f"two lists share at most {_SAME:.0%}",
        step,
        {"overlap": overlap, "shown": shown},
    )


def _popular(lists: NDArray[np.int64], popularity: NDArray[np.int64], where: str) -> Finding:
    count = max(1, round(_POPULAR * len(popularity)))
    top = np.zeros(len(popularity), bool)
    top[np.argsort(-popularity, kind="stable")[:count]] = True
    data = float(popularity[top].sum() / max(popularity.sum(), 1))
    answers = float(top[lists[lists >= 0]].mean())
    step = ""
    if answers > min(0.98, _FAVORED * data):
        step = (
            "answers follow popularity more than people did: draw negatives by popularity (negatives: [{kind: popularity}]), or "
            "use match: {kind: cosine}, which knows no length of a vector"
        )
    return Finding(
        f"popularity{where}",
        f"{answers:.0%} of the answers are among the most popular {_POPULAR:.0%} of the candidates, which have {data:.0%} of the "
        "training pairs",
        f"less than {_FAVORED:g} times the data's share, and not all answers",
        step,
        {"answers": answers, "data": data},
    )
