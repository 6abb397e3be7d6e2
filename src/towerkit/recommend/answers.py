"""From a question to a table: the best candidates of each query that may be answers, and why there are fewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.data.table import shown, values_of
from towerkit.features.encoded import Catalogue
from towerkit.index.ranker import TILE_ROWS, Hits
from towerkit.recommend.asked import Asked
from towerkit.recommend.choice import Choice
from towerkit.recommend.keys import ANSWERS, key_column
from towerkit.recommend.notes import with_notes
from towerkit.trained import RankingModel

_MASK_ENTRIES = 1 << 24
"""Of the matrices that rows with a list of their own are ranked with."""


@dataclass(frozen=True)
class Shortfall:
    """How many queries have fewer answers than were asked for."""

    queries: int = 0
    short: int = 0
    fewest: int = 0
    """Answers of the query that has the fewest."""
    key: Any = None
    """That query."""

    def __add__(self, other: Shortfall) -> Shortfall:
        parts = [part for part in (self, other) if part.short]
        worst = min(parts, key=lambda part: part.fewest, default=self)
        return Shortfall(self.queries + other.queries, self.short + other.short, worst.fewest, worst.key)

    def notes(self, k: int, num_candidates: int, choice: Choice, *, has_lists: bool = False) -> list[str]:
        """Why there are fewer answers than asked for, in one sentence or two; nothing where there are enough."""
        if not self.short:
            return []
        reasons = [f"The catalogue has {num_candidates:,} candidates", *choice.reasons]
        if has_lists:
            reasons.append("the rows have lists of their own")
        if choice.exclude_seen:
            reasons.append("what a query had is left out (--include-seen, or exclude_seen=False, keeps it)")
        few = f"{self.short:,} of {self.queries:,} queries have fewer than the {k:,} answers asked for, the fewest "
        few += f"{self.fewest:,} (for {shown(self.key)})"
        if self.queries == 1:
            few = f"Fewer than the {k:,} answers asked for: {self.fewest:,}"
        return [f"{few}. {'; '.join(reasons)}."]


def answered(model: RankingModel, asked: Asked, k: int, choice: Choice) -> pa.Table:
    """The best candidates of each query, with notes.

    Args:
        model: Whose candidates.
        asked: The queries.
        k: How many answers each; more than there are candidates is all of them.
        choice: Which candidates may be answers.

    Returns:
        Columns ``query``, ``rank``, the candidate's key, its title where there is one, ``score``, ``cold``.
    """
    table, short = answered_plainly(model, asked, k, choice)
    notes = [*asked.notes, *choice.notes]
    has_lists = asked.allow is not None or asked.deny is not None
    return with_notes(table, notes + short.notes(k, len(model.candidate.keys), choice, has_lists=has_lists))


def answered_plainly(model: RankingModel, asked: Asked, k: int, choice: Choice) -> tuple[pa.Table, Shortfall]:
    """The table of :func:`answered` without notes, and how many queries have fewer answers."""
    hits = _hits(asked, min(k, asked.ranker.num_candidates), choice)
    keep, owner = kept(hits.rows)
    places = pa.array(hits.rows.ravel()[keep])
    found: dict[str, Any] = {
        "query": asked.keys.take(pa.array(owner)),
        "rank": ranks(hits.rows)[keep],
        key_column(model.candidate_entity, ANSWERS): model.candidate.keys.take(places),
    }
    title = titles_of(model.candidate, model.titles.get(model.candidate_entity), places)
    table = pa.table(found | title | {"score": hits.scores.ravel()[keep], "cold": asked.cold[owner]})
    worst = int(np.argmin(hits.counts)) if len(hits.counts) else 0
    short = int((hits.counts < k).sum())
    if not short:
        return table, Shortfall(len(hits.counts))
    return table, Shortfall(len(hits.counts), short, int(hits.counts[worst]), asked.keys[worst].as_py())


def _hits(asked: Asked, k: int, choice: Choice) -> Hits:
    """Rank, in chunks where rows have a list of what may be an answer: what it does not name is excluded."""
    exclude = asked.seen if choice.exclude_seen else None
    if asked.deny is not None:
        exclude = asked.deny if exclude is None else csr_array(exclude + asked.deny)
    if asked.allow is None:
        return asked.ranker.rank(asked.rows, k, exclude=exclude, allowed=choice.allowed)
    step = max(TILE_ROWS, _MASK_ENTRIES // max(asked.ranker.num_candidates, 1))
    parts = []
    for start in range(0, len(asked.rows), step):
        stop = min(start + step, len(asked.rows))
        others = np.zeros((stop - start, asked.ranker.num_candidates), np.float32)
        for row, places in enumerate(asked.allow[start:stop]):
            if places is not None:
                others[row] = 1.0
                others[row, places - 1] = 0.0
        left_out = csr_array(others) if exclude is None else csr_array(csr_array(others) + exclude[start:stop])
        parts.append(asked.ranker.rank(asked.rows[start:stop], k, exclude=left_out, allowed=choice.allowed))
    rows, scores, counts = zip(*((part.rows, part.scores, part.counts) for part in parts), strict=True)
    return Hits(np.concatenate(rows), np.concatenate(scores), np.concatenate(counts))


def titles_of(catalogue: Catalogue, title: str | None, places: pa.Array) -> dict[str, pa.Array]:
    """The column ``title`` of some rows of a catalogue, from 0; none where it has no such column."""
    if title is None or title not in catalogue.table.data.column_names:
        return {}
    return {"title": values_of(catalogue.table.data, title).take(places)}


def kept(rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which places of ``[queries, k]`` hold an answer, flat, and the query of each that does."""
    keep = rows.ravel() >= 0
    return keep, np.repeat(np.arange(len(rows)), rows.shape[1])[keep]


def ranks(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each place of ``[queries, k]``, flat."""
    return np.tile(np.arange(1, rows.shape[1] + 1), len(rows))
