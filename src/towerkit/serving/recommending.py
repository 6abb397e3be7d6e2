"""The best candidates for requests that wait together, each as it would be answered alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.index.exact import ExactIndex
from towerkit.index.ranker import Ranker, candidate_tie_order
from towerkit.index.vectors import VectorRanker
from towerkit.serving.askers import Question, asker_of, question_of
from towerkit.serving.engine import Answer, Engine
from towerkit.serving.live import Live
from towerkit.serving.placing import Placed, placed_of, shown
from towerkit.serving.problems import Problem
from towerkit.serving.requests import Recommend
from towerkit.serving.rules import needs_all_scores, placed
from towerkit.serving.shares import shares_of


def recommend(engine: Engine, asked: Sequence[Recommend]) -> list[Answer]:
    """The best candidates of each request; a fault of one is its own.

    Args:
        engine: The model that is asked.
        asked: The requests.

    Returns:
        For each its answer, or the problem that it met.
    """
    found: dict[int, Answer] = {}
    groups: dict[int, dict[int, Question]] = {}
    for place, body in enumerate(asked):
        question = engine.guarded(question_of, engine, body)
        if isinstance(question, Problem):
            found[place] = question
        elif question.ranker is not None or needs_all_scores(body.rules):
            found[place] = engine.guarded(_one, engine, question)
        else:
            key = 0 if question.allowed is None else id(question.allowed)
            groups.setdefault(key, {})[place] = question
    for group in groups.values():
        found |= zip(group, _many(engine, list(group.values())), strict=True)
    return [found[place] for place in range(len(asked))]


def warm(engine: Engine) -> None:
    """Answer once, so that the first request finds everything loaded and compiled.

    Args:
        engine: The model.
    """
    if engine.live is None:
        return
    if isinstance(engine.index, ExactIndex):
        engine.index.hasten()
    key = next(iter(engine.live.query_rows), "0")
    for count in (1, 32):
        recommend(engine, [Recommend(query=key, k=10) for _ in range(count)])


def _many(engine: Engine, group: Sequence[Question]) -> list[Answer]:
    """The answers of requests that differ in the query only, in one pass over the candidates."""
    live, allowed = group[0].live, group[0].allowed
    depth = min(max(each.body.k for each in group), len(live.keys))
    seen = [each.excluded for each in group]
    if engine.index is not None:
        vectors = np.stack([each.vector for each in group if each.vector is not None])
        hits = engine.index.search(vectors, depth, allowed=_of_index(engine, live, allowed), exclude=seen)
    else:
        ranker, rows = _rankable(live, group)
        hits = ranker.rank(rows, depth, exclude=excluded(seen, len(live.keys)), allowed=allowed)
    found = [placed_of(hits, each.body.k, query) for query, each in enumerate(group)]
    return [engine.guarded(_told, engine, each, best) for each, best in zip(group, found, strict=True)]


def _one(engine: Engine, each: Question) -> dict[str, Any]:
    """The answer to a request that has a ranker of its own, or rules that need all scores."""
    ranker, rows = (each.ranker, np.zeros(1, np.int64)) if each.ranker is not None else _rankable(each.live, [each])
    rules, seen = each.body.rules, each.excluded
    if rules is None or not needs_all_scores(rules):
        depth = min(each.body.k, ranker.num_candidates)
        hits = ranker.rank(rows, depth, exclude=excluded([seen], ranker.num_candidates), allowed=each.allowed)
        return _told(engine, each, placed_of(hits, each.body.k))
    scores = np.array(ranker.scores(rows)[0], np.float32)
    allowed = np.ones(len(scores), bool) if each.allowed is None else each.allowed.copy()
    allowed[seen] = False
    allowed &= scores > -np.inf
    ties = candidate_tie_order(len(scores))
    return _told(engine, each, placed(each.live, rules, scores, allowed, ties, each.body.k))


def _told(engine: Engine, each: Question, best: Sequence[Placed]) -> dict[str, Any]:
    live, k, notes = each.live, each.body.k, list(each.notes)
    items = shown(best, live.keys, live.titles)
    if len(best) < k:
        left = f"{len(best):,} of the {live.num_offered:,} candidates are left"
        notes.append(f"Fewer than the {k:,} answers asked for: {left}.")
    if each.body.why and best:
        places = np.array([one.place for one in best], np.int64)
        shares = shares_of(live.retriever("'why' needs them"), asker_of(engine, each), places, live.keys)
        for item, share, one in zip(items, shares, best, strict=True):
            item["why"] = share | {"rules": one.rules}
    return engine.stamped({"items": items, "cold": each.cold, "as_of": each.as_of, "notes": notes})


def _of_index(engine: Engine, live: Live, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """A mask as long as the index, which may have rows of candidates that the model does not have yet."""
    assert engine.index is not None
    spare = engine.index.num_rows - len(live.keys)
    if allowed is None and not spare:
        return None
    mask = np.ones(len(live.keys), bool) if allowed is None else allowed
    return np.pad(mask, (0, spare))


def _rankable(live: Live, group: Sequence[Question]) -> tuple[Ranker, NDArray[np.int64]]:
    """A ranker for some requests, and the row of each."""
    if isinstance(live.ranker, VectorRanker):
        vectors = np.stack([each.vector for each in group if each.vector is not None])
        return live.ranker.with_queries(vectors), np.arange(len(group))
    return live.ranker, np.array([each.row for each in group], np.int64)


def excluded(seen: Sequence[NDArray[np.int64]], num_candidates: int) -> csr_array | None:
    """``[queries, candidates]`` of places that may be no answers; None where there are none.

    Args:
        seen: Places of candidates, from 0, of each query.
        num_candidates: In the catalogue.

    Example:
        >>> import numpy as np
        >>> excluded([np.array([2]), np.array([], int)], 3).toarray().tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    if not any(len(places) for places in seen):
        return None
    starts = np.concatenate([[0], np.cumsum([len(places) for places in seen])])
    columns = np.concatenate(seen)
    return csr_array((np.ones(len(columns), np.float32), columns, starts), shape=(len(seen), num_candidates))
