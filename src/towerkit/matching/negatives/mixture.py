"""A mixture of sorts of negatives: what is drawn for a batch, what must not count, and how often each candidate comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from towerkit.core.nesting import below
from towerkit.features.encoded import Drawn
from towerkit.matching.negatives.base import Source
from towerkit.matching.negatives.batch import QueueNegatives
from towerkit.matching.negatives.known import KnownPairs

Places = slice | NDArray[np.int64]
EVERY = slice(None)
"""All places of a batch."""


class Negatives:
    """Draws from every source, masks collisions, and gives each candidate the logQ of the mixture that drew it.

    With sources ``s`` that draw candidate ``c`` for query ``u`` at the rate ``r_s(c, u)`` (times per positive), a drawn
    candidate stands for ``1 / Σ_s r_s(c, u)`` candidates like it, so ``log q = log Σ_s r_s(c, u)``. A source that draws
    again instead of the positive, or of any known one, draws the others more often: ``r_s(c, u) = r_s(c) / (1 - share of
    those)``; masked positives only drop out. A short batch, and a queue that is not full yet, bring fewer
    (:meth:`Source.fill`). The positive itself was not drawn and is not corrected. When all candidates come equally often
    there is nothing to correct.

    Args:
        sources: The sorts.
        known: Known pairs, for masks and rates.
        mask_known: Mask every known positive of the query among shared candidates; the row's own always is.
        correct: Give logQ where it is not constant.

    Reference: Yi et al., RecSys 2019; "Correcting the LogQ correction", arXiv 2507.09331.
    """

    def __init__(self, sources: Sequence[Source], known: KnownPairs, *, mask_known: bool, correct: bool) -> None:
        self.sources, self.known, self.mask_known = tuple(sources), known, mask_known
        rates = [source.rate for source in sources]
        self.rates = [rate for rate in rates if rate is not None]
        self.corrects = correct and len(self.rates) == len(rates) and bool(rates) and not _constant(sum(self.rates))
        self.known_shares = [self._known_share(source) for source in sources] if self.corrects else []
        self._positives = np.empty(0, np.int64)

    def draw(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int, own: Places = EVERY
    ) -> list[Drawn]:
        """What every source brings for a batch.

        Args:
            queries: ``[batch]`` query rows.
            positives: ``[batch]`` candidate rows.
            step: The step of the training.
            own: Places of the batch that are asked for, where another process has the others; they get what they get in
                the whole batch.
        """
        self._positives = positives
        batch, queries_own, positives_own = len(positives), queries[own], positives[own]
        found = []
        for source in self.sources:
            given = source.draw(queries, positives, step)
            rows, vectors = given if isinstance(given, tuple) else (given, None)
            if not rows.size:
                continue
            rows = rows[own] if rows.ndim == 2 else rows
            found.append(
                Drawn(
                    rows if vectors is None else None,
                    vectors,
                    self._collision(queries_own, positives_own, rows),
                    self._log_q(queries_own, positives_own, rows, batch) if self.corrects else None,
                    source.keep,
                )
            )
        return found

    def draw_steps(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], first_step: int, batch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
        """What the only source, one that draws for each pair of its own, brings for the batches of some steps at once.

        Args:
            queries: ``[rows]`` query rows, those of the first step first.
            positives: ``[rows]`` candidate rows.
            first_step: The step of the first rows.
            batch: Rows of each step; the last may have fewer.

        Returns:
            Candidate rows ``[rows, n]``, and their logQ ``[rows, n]`` where it is corrected.
        """
        (source,) = self.sources
        rows = source.draws.draw_steps(queries, positives, first_step, batch)  # type: ignore[attr-defined]
        return rows, self._log_q(queries, positives, rows, len(positives)) if self.corrects else None

    def draw_shared(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """What sources that all draw once for the whole batch bring, side by side.

        Args:
            queries: ``[batch]`` query rows.
            positives: ``[batch]`` candidate rows.
            step: The step of the training.

        Returns:
            Candidate rows ``[n]``, and their logQ ``[n]``: zeros where nothing is corrected.
        """
        drawn = [source.draw(queries, positives, step) for source in self.sources]
        rows = np.concatenate([each for each in drawn if isinstance(each, np.ndarray)])
        if not self.corrects:
            return rows, np.zeros(len(rows), np.float32)
        return rows, self._log_q(queries, positives, rows, len(positives))

    @property
    def remembers(self) -> bool:
        """Whether some source is a queue."""
        return any(isinstance(source, QueueNegatives) for source in self.sources)

    def remember(self, vectors: Tensor) -> None:
        """Told the vectors ``[batch, dim]`` of the positives of the last draw, after the step."""
        for source in self.sources:
            source.remember(self._positives, vectors)

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs: the queues."""
        return {
            f"{place}.{name}": tensor
            for place, source in enumerate(self.sources)
            for name, tensor in source.state().items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""
        for place, source in enumerate(self.sources):
            source.restore(below(str(place), state))

    def _collision(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], rows: NDArray[np.int64]
    ) -> NDArray[np.bool_] | None:
        """``[batch, n]`` for shared candidates; candidates drawn for each pair never are its positives."""
        if rows.ndim == 2:
            return None
        return self.known.among(queries, rows, positives) if self.mask_known else rows == positives[:, None]

    def _known_share(self, source: Source) -> NDArray[np.float64] | None:
        """``[queries + 1]`` the share of a source's draws that are known positives of a query and are drawn again."""
        if not source.refuses_known or source.rate is None:
            return None
        shares = source.rate / source.rate.sum()
        return np.asarray(self.known.matrix.astype(np.float64) @ np.pad(shares, (0, self.known.width - len(shares))))

    def _inflation(
        self, place: int, queries: NDArray[np.int64], positives: NDArray[np.int64]
    ) -> NDArray[np.float64] | None:
        """``[batch, 1]`` by how much more often a source gives what it does not draw again; None where it never does."""
        source, known = self.sources[place], self.known_shares[place]
        if not source.draws_again:
            return None
        rate = self.rates[place]
        again = rate[positives] / rate.sum() if known is None else known[queries]
        return 1.0 / np.maximum(1.0 - again[:, None], 1e-6)

    def _log_q(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], rows: NDArray[np.int64], batch: int
    ) -> NDArray[np.float32]:
        """``[n]`` where it is the same for all queries, else ``[batch, n]``."""
        total: NDArray[np.float64] = np.zeros((1,) * rows.ndim)
        for place, rate in enumerate(self.rates):
            inflation = self._inflation(place, queries, positives)
            now = rate[rows] * self.sources[place].fill(batch)
            total = total + (now if inflation is None else now * inflation)
        return np.asarray(np.log(np.maximum(total, 1e-30)), dtype=np.float32)


class AllCandidates:
    """The whole catalogue beside every positive: nothing is sampled, for the full softmax.

    Args:
        num_candidates: Candidates ``1 … num_candidates``.
        known: Known pairs.
        mask_known: Mask every other known positive of the query; its own always is.
    """

    def __init__(self, num_candidates: int, known: KnownPairs, *, mask_known: bool) -> None:
        self.rows = np.arange(1, num_candidates + 1)
        self.known, self.mask_known = known, mask_known

    def draw(
        self, queries: NDArray[np.int64], positives: NDArray[np.int64], step: int, own: Places = EVERY
    ) -> list[Drawn]:
        """One shared block, as :meth:`Negatives.draw`."""
        queries, positives = queries[own], positives[own]
        collision = np.zeros((len(queries), len(self.rows)), bool)
        if self.mask_known:
            collision = self.known.among(queries, self.rows)
        collision[np.arange(len(queries)), positives - 1] = True
        return [Drawn(self.rows, collision=collision)]

    remembers = False

    def remember(self, vectors: Tensor) -> None:
        """Nothing is kept."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


def _constant(rates: NDArray[np.float64] | float) -> bool:
    known = np.asarray(rates)[1:]
    return bool(len(known) == 0 or np.allclose(known, known[0], rtol=1e-9))
