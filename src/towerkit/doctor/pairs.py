"""What matters about pairs before a retrieval model is trained: how many, how dense, how repeated, how skewed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from towerkit.data.table import Table, values_of


def pairs_of(table: Table, query: str, candidate: str) -> dict[str, Any] | None:
    """Counts of a table of events; rows without one of the two keys are left out.

    Args:
        table: The rows.
        query: Column of query keys.
        candidate: Column of candidate keys.

    Returns:
        ``queries``, ``candidates``, ``events``, ``density`` (different pairs over all possible ones), ``repeated_pairs``
        (events that repeat an earlier pair), ``single_event_queries``, ``median_events_per_query`` and
        ``top_1_percent_share`` (share of the events on the most popular hundredth of the candidates); None without any
        complete pair.
    """
    codes = [
        values_of(table.data, name).dictionary_encode().indices.fill_null(-1).to_numpy() for name in (query, candidate)
    ]
    complete = (codes[0] >= 0) & (codes[1] >= 0)
    queries, candidates = (each[complete].astype(np.int64) for each in codes)
    if not len(queries):
        return None
    per_query, per_candidate = np.bincount(queries), np.bincount(candidates)
    per_query, per_candidate = per_query[per_query > 0], per_candidate[per_candidate > 0]
    num_pairs = len(np.unique(queries * (int(candidates.max()) + 1) + candidates))
    top = math.ceil(len(per_candidate) / 100)
    return {
        "queries": len(per_query),
        "candidates": len(per_candidate),
        "events": len(queries),
        "density": num_pairs / (len(per_query) * len(per_candidate)),
        "repeated_pairs": len(queries) - num_pairs,
        "single_event_queries": int((per_query == 1).sum()),
        "median_events_per_query": float(np.median(per_query)),
        "top_1_percent_share": float(np.sort(per_candidate)[::-1][:top].sum() / len(queries)),
    }
