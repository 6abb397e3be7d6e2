"""Draws for each positive of its own: proposals that are pure functions of a counter, refused and proposed again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.random import random_bits
from towerkit.matching.negatives.known import KnownPairs

_TRIES, _PLACES = 64, 1 << 20
"""As in the kernel: proposals for one place, and rows of a batch."""
_MANY = 1 << 16
"""Draws that are worth waking other threads for."""
_NOBODY, _NO_ONE_KNOWN, _NO_TABLE = np.empty(0, np.int64), np.empty(0, np.int32), np.empty((0, 0), np.bool_)
_NO_SIGNATURES = np.empty((0, 8), np.uint64)

Propose = Callable[[NDArray[np.uint64]], NDArray[np.int64]]
"""Counters to candidate rows, a pure function."""


class OwnDraws:
    """Draws candidates for each pair, optionally never a known positive of its query.

    A drawn candidate is a pure function of the seed, the step, the place in the batch and the try, so drawing keeps no
    state: a resumed training and another engine draw the same.

    Args:
        num_candidates: Candidates to draw from: rows ``1 … num_candidates``.
        count: How many to draw for each pair.
        known: Pairs to be avoided; None allows them.
        key: Of the randomness.
        propose: Counters to candidate rows.
        distinct: No candidate twice for one pair.
        cumulative: ``[num_candidates + 1]`` the cumulative probabilities behind ``propose``; None where all are as likely.

    Raises:
        DataError: If some query has too few candidates left to draw from.
    """

    def __init__(
        self,
        num_candidates: int,
        count: int,
        known: KnownPairs | None,
        key: int,
        propose: Propose,
        *,
        distinct: bool,
        cumulative: NDArray[np.float64] | None = None,
    ) -> None:
        self.num_candidates, self.count, self.known = num_candidates, count, known
        self.key, self.propose, self.distinct = key, propose, distinct
        self.cumulative = np.empty(0) if cumulative is None else cumulative
        cells = 1 << len(self.cumulative).bit_length()  # a power of two, by which a product is exact
        self.last = len(self.cumulative) and int(np.searchsorted(self.cumulative, self.cumulative[-1]))
        self.guide = np.minimum(np.searchsorted(self.cumulative, np.arange(cells + 1) / cells, side="right"), self.last)
        taken = 1 if known is None else max(1, int(known.per_query.max(initial=0)))  # at least its own positive
        if num_candidates - taken < (count if distinct else 1):
            room = num_candidates - (1 if distinct else 0)
            way = ", or set exclude_positives: false" if known is not None and count <= room else ""
            raise DataError(
                f"Cannot draw {count:,} different negatives: there are {num_candidates:,} candidates and some query already "
                f"has {taken:,} of them. Draw {num_candidates - taken:,} or fewer (count, or pool of hard ones){way}."
            )

    def draw(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """Draw for a batch.

        Args:
            queries: ``[batch]`` query rows.
            positives: ``[batch]`` candidate rows; never drawn.
            step: The step of the training, the counter of the randomness.

        Returns:
            ``[batch, count]`` candidate rows.
        """
        return self.draw_steps(queries, positives, step, max(1, len(queries)))

    def draw_steps(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], first_step: int, batch: int
    ) -> NDArray[np.int64]:
        """Draw for the batches of some steps at once, each as :meth:`draw` would.

        Args:
            queries: ``[rows]`` query rows, those of the first step first.
            positives: ``[rows]`` candidate rows.
            first_step: The step of the first rows.
            batch: Rows of each step; the last may have fewer.

        Returns:
            ``[rows, count]`` candidate rows.
        """
        from towerkit.kernels.compiled import parts_of, torch_threads  # Numba takes half a second to import
        from towerkit.kernels.sampling import draw_in_parts, draw_own

        drawn = np.empty((len(queries), self.count), np.int64)
        starts, known, table = (_NOBODY, _NO_ONE_KNOWN, _NO_TABLE) if self.known is None else self.known.by_query
        proposed = self.num_candidates, self.cumulative, self.guide, self.last, self.distinct
        where = first_step, batch, np.uint64(self.key), *proposed
        signatures = _NO_SIGNATURES if self.known is None else self.known.signatures
        arguments = queries, positives, *where, starts, known, table, signatures, drawn
        with np.errstate(over="ignore"):  # in plain Python the mixing warns of what it is made of
            if drawn.size >= _MANY:
                with torch_threads():
                    draw_in_parts(parts_of(len(drawn)), *arguments)
            else:
                draw_own(*arguments, 0, len(drawn))
        return drawn

    def draw_plainly(self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """The plain twin of :meth:`draw`: all rows of a place at a time, with NumPy."""
        batch = len(queries)
        drawn = np.zeros((batch, self.count), np.int64)
        for place in range(self.count):
            pending = np.arange(batch)
            for attempt in range(_TRIES):
                drawn[pending, place] = self.propose(self._counter(step, attempt, place, pending))
                pending = pending[self._refused(queries[pending], positives[pending], drawn[pending], place)]
                if not len(pending):
                    break
            if len(pending):  # queries that know nearly everything: list what is left
                bits = random_bits(self.key ^ 1, self._counter(step, 0, place, pending)) >> np.uint64(32)
                unknown = {query: self._unknown_to(query) for query in np.unique(queries[pending]).tolist()}
                for row, chance in zip(pending, bits, strict=True):
                    taken = [positives[row], *(drawn[row, :place] if self.distinct else ())]
                    drawn[row, place] = _any_but(taken, unknown[int(queries[row])], chance)
        return drawn

    def _counter(self, step: int, attempt: int, place: int, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A number of its own for every draw of the training."""
        return (((step * _TRIES + attempt) * self.count + place) * _PLACES + rows).astype(np.uint64)

    def _refused(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], drawn: NDArray[np.int64], place: int
    ) -> NDArray[np.bool_]:
        candidate = drawn[:, place]
        refused = candidate == positives
        if self.distinct:
            refused |= (drawn[:, :place] == candidate[:, None]).any(axis=1)
        if self.known is not None:
            refused |= self.known.contains(queries, candidate)
        return refused

    def _unknown_to(self, query: int) -> NDArray[np.int64]:
        """The candidates that a query does not know, in order."""
        everything = np.arange(1, self.num_candidates + 1)
        return everything if self.known is None else np.setdiff1d(everything, self.known.candidates_of(query))


def _any_but(taken: list[np.int64], unknown: NDArray[np.int64], chance: np.uint64) -> np.int64:
    """One of the candidates that are left, each as likely: a fair choice where proposals nearly always miss."""
    free = unknown[~np.isin(unknown, taken)]
    return np.int64(free[int(chance) * len(free) >> 32])
