"""What a ranking is asked: the queries, what is right for each, and what may not be answered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from towerkit.core.errors import DataError
from towerkit.features.encoded import Catalogue


@dataclass(frozen=True)
class RankingTask:
    """Which queries to answer, what is right, and what may not be answered."""

    keys: pa.Array
    """``[queries]`` the queries' keys."""
    queries: NDArray[np.int64]
    """``[queries]`` rows in the query catalogue; 0 for a query that training never saw."""
    positives: csr_array
    """``[queries, candidates]`` grades of the right answers that can be given, all above 0; 1 where nothing is graded."""
    cold_owner: NDArray[np.int64]
    """``[cold]`` the query of each right answer that is not in the catalogue: it can only be missed."""
    cold_grades: NDArray[np.float64]
    """``[cold]`` the grades of these."""
    exclude: csr_array
    """``[queries, candidates]`` pairs seen in training that are never answered; none where seen pairs may be."""
    popularity: NDArray[np.int64]
    """``[candidates]`` distinct training queries that had each."""
    num_trained: int
    """Distinct training queries that had any of them."""
    repeats: int
    """Held-out pairs that training had seen and that are left out, since seen pairs cannot be answered."""
    not_asked: int
    """Queries of which no right answer is left: all were repeats, or judged and not relevant."""
    graded: bool = False
    """Whether right answers have grades."""
    exclude_seen: bool = True
    """Whether pairs seen in training are kept out of the answers."""

    @property
    def owner(self) -> NDArray[np.int64]:
        """``[stored entries of positives]`` the query of each."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.positives.indptr))

    @property
    def num_positives(self) -> NDArray[np.int64]:
        """``[queries]`` all right answers, those of cold candidates included."""
        return np.diff(self.positives.indptr) + np.bincount(self.cold_owner, minlength=len(self.keys))

    @property
    def cold_candidates(self) -> int:
        """Right answers that are not in the catalogue."""
        return len(self.cold_owner)


def ranking_task(
    query: Catalogue,
    candidate: Catalogue,
    seen: csr_array,
    query_keys: pa.Array,
    candidate_keys: pa.Array,
    *,
    grades: ArrayLike | None = None,
    exclude_seen: bool = True,
) -> RankingTask:
    """Build the task from held-out pairs.

    Args:
        query: The query catalogue.
        candidate: The candidate catalogue; only its known part is ranked.
        seen: ``[query rows, candidate rows]`` trained pairs; row 0 and column 0 stand for unknown.
        query_keys: ``[pairs]`` keys of the held-out pairs, none missing; their order and repetitions mean nothing.
        candidate_keys: ``[pairs]``.
        grades: ``[pairs]`` how relevant each is: a pair of grade 0 was judged and is no right answer, and of a pair that stands
            twice the largest grade counts. All pairs are right and equally so when not given.
        exclude_seen: Keep pairs seen in training out of the answers; held-out pairs that repeat one are then left out.

    Raises:
        DataError: If no pair is left to ask for, or a grade is negative or not finite.
    """
    pairs = _distinct_pairs(query_keys, candidate_keys, grades)
    query_rows, candidate_rows = query.rows(pairs.column("query")), candidate.rows(pairs.column("candidate"))
    candidate_rows = np.where(candidate_rows <= candidate.num_known, candidate_rows, 0)
    values = pairs.column("grade").to_numpy()
    repeated = contains(seen, query_rows, candidate_rows) & exclude_seen
    kept = ~repeated & (values > 0)
    encoded = pc.dictionary_encode(pairs.column("query").filter(pa.array(kept)))
    keys = encoded.dictionary
    if not len(keys):
        raise DataError(_nothing_left(len(pairs), int(repeated.sum()), int((values == 0).sum())))
    owner, places, values = encoded.indices.to_numpy().astype(np.int64), candidate_rows[kept], values[kept]
    queries = query.rows(keys)
    queries = np.where(queries <= query.num_known, queries, 0)
    reachable = places > 0
    shape = (len(keys), candidate.num_known)
    positives = csr_array((values[reachable], (owner[reachable], places[reachable] - 1)), shape=shape)
    positives.sort_indices()
    popularity, num_trained = _trained(seen, candidate.num_known)
    return RankingTask(
        keys,
        queries,
        positives,
        owner[~reachable],
        values[~reachable],
        csr_array(csr_array(seen[queries])[:, 1 : candidate.num_known + 1])
        if exclude_seen
        else csr_array(shape, dtype=seen.dtype),
        popularity,
        num_trained,
        repeats=int(repeated.sum()),
        not_asked=pc.count_distinct(pairs.column("query")).as_py() - len(keys),
        graded=grades is not None,
        exclude_seen=exclude_seen,
    )


_CHUNK = 1 << 22


def _trained(seen: csr_array, num_known: int) -> tuple[NDArray[np.int64], int]:
    """``[candidates]`` queries that had each known one, and queries that had any; ``seen`` may be large, and is not copied."""
    counts = np.zeros(seen.shape[1], np.int64)
    for start in range(0, seen.nnz, _CHUNK):
        counts += np.bincount(seen.indices[start : start + _CHUNK], minlength=len(counts))
    within = counts[1 : num_known + 1]
    all_within = within.sum() == seen.nnz
    lengths = np.diff((seen if all_within else csr_array(seen[:, 1 : num_known + 1])).indptr)
    return within, int(np.count_nonzero(lengths))


def _distinct_pairs(query_keys: pa.Array, candidate_keys: pa.Array, grades: ArrayLike | None) -> pa.RecordBatch:
    """Each pair once, with its largest grade, in an order of their own: else the intervals would follow the rows' order."""
    values = np.ones(len(query_keys)) if grades is None else np.asarray(grades, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        raise DataError(
            f"A grade of relevance must be a finite number of 0 or more; pair {wrong[0] + 1} has {values[wrong[0]]} "
            f"({len(wrong):,} such pairs). Correct it, or leave the pair out."
        )
    pairs = pa.table({"query": query_keys, "candidate": candidate_keys, "grade": values})
    pairs = pairs.group_by(["query", "candidate"]).aggregate([("grade", "max")]).rename_columns({"grade_max": "grade"})
    pairs = pairs.sort_by([("query", "ascending"), ("candidate", "ascending")])
    return pairs.combine_chunks().to_batches()[0] if len(pairs) else pa.RecordBatch.from_pylist([], pairs.schema)


def _nothing_left(num_pairs: int, repeats: int, irrelevant: int) -> str:
    judged = f", {irrelevant:,} have the grade 0" if irrelevant else ""
    return (
        f"No held-out pair is left to evaluate: {repeats:,} of {num_pairs:,} were seen in training{judged}, and seen pairs "
        "are removed. Give rows that training did not have, or set evaluation.exclude_seen to false."
    )


def contains(matrix: csr_array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the matrix stores an entry at each of some places; see :func:`entries`."""
    return entries(matrix, rows, columns) >= 0


def entries(matrix: csr_array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which stored entry of a matrix stands at each of some places, found by binary search.

    Args:
        matrix: Any; the entries are counted in the order of rows and then columns.
        rows: ``[places]``.
        columns: ``[places]``.

    Returns:
        ``[places]``, -1 where nothing is stored.
    """
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()  # a copy: the caller's matrix stays as it is
    low, ends = (matrix.indptr[place].astype(np.int64) for place in (rows, rows + 1))
    left = ends - low
    while left.any():  # nothing is made that is as long as the matrix, which may lie on disk
        open_ = left > 0
        half = left // 2
        below = np.zeros(len(low), bool)
        below[open_] = matrix.indices[(low + half)[open_]] < columns[open_]
        low, left = np.where(below, low + half + 1, low), np.where(below, left - half - 1, half)
    found = low < ends
    found[found] = matrix.indices[low[found]] == columns[found]
    return np.where(found, low, -1)
