"""The engine of pairs with negatives of their own: a span of steps in one call of a kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from towerkit.data.splits import Rows
from towerkit.losses import AnyRetrievalLossSpec
from towerkit.training.engines.base import KernelEngine, aggregation, optimizer_settings, table_of
from towerkit.training.steps import batch_size

MOST_STEPS, MOST_ENTRIES = 64, 1 << 20
"""A span has at most so many steps and so many pairs: between two spans signals are heard and progress is told."""
LOSSES = ("sampled_softmax", "bilateral_softmax", "bpr", "triplet", "bce", "contrastive", "ccl")
"""In the order of the kernel's constants."""


class PairwiseEngine(KernelEngine):
    """Each pair against negatives drawn for it alone; see :mod:`towerkit.kernels.pairwise`."""

    def is_compiled(self) -> bool:
        """Whether the span's kernel was compiled before."""
        from towerkit.kernels.compiled import was_compiled
        from towerkit.kernels.pairwise import train_span

        return was_compiled(train_span)

    def batch_bytes(self) -> int:
        """Rows drawn, their codes, scores and slopes; two vectors of each query."""
        size, dim = batch_size(self.training, self.rows), table_of(self.state.model.query).shape[1]
        return size * (self._width * (8 + 4 + 4 + 4) + 2 * 4 * dim)

    @property
    def _width(self) -> int:
        """Candidates of a pair, its positive among them."""
        return int(self.negatives.sources[0].draws.count + 1)  # type: ignore[attr-defined]

    def _steps_at_once(self, size: int) -> int:
        return max(1, min(MOST_STEPS, MOST_ENTRIES // (size * self._width)))

    def _advance(self, chosen: Rows, size: int) -> NDArray[np.float64]:
        """Take the steps of some rows; the losses, from the first that is no number on without meaning."""
        from towerkit.kernels.compiled import torch_threads  # Numba takes half a second to import
        from towerkit.kernels.grouping import coded, grouped
        from towerkit.kernels.pairwise import lengths_of, train_span

        state, model, optimizer = self.state, self.state.model, self.state.optimizer
        queries, positives = self.queries[chosen], self.candidates[chosen]
        drawn, log_q = self.negatives.draw_steps(queries, positives, state.step, size)
        query_codes = self.codes[0][queries]
        weights = np.ones(len(chosen), np.float32) if self.weights is None else self.weights[chosen]
        num_steps = -(-len(chosen) // size)
        tables = [table_of(model.query), table_of(model.candidate)]
        moves = [self.moves(table, num_steps) for table in tables]
        whole = self.training.optimizer.rows == "all"
        losses, effective = np.zeros(num_steps), np.zeros((num_steps, 3))
        loss, settings = loss_settings(self.loss)
        arrays = [table.detach().numpy() for table in tables]
        lengths, cosine = np.ones(len(tables[1]), np.float32), model.match.similarity == "cosine"
        with torch_threads():
            codes = coded(positives, drawn, self.codes[1])
            query_groups = grouped(query_codes, size, len(tables[0]), whole and bool(moves[0].any()))
            candidate_groups = grouped(codes.ravel(), size * codes.shape[1], len(tables[1]), whole)
            if cosine:
                lengths = lengths_of(arrays[1], np.arange(len(lengths), dtype=np.int32) if whole else codes.ravel())
            train_span(
                query_codes,
                codes,
                weights,
                np.empty((0, 0), np.float32) if log_q is None else log_q,
                size,
                query_groups,
                candidate_groups,
                arrays[0],
                arrays[1],
                self.slots(tables[0]),
                self.slots(tables[1]),
                moves[0],
                moves[1],
                self.rates(num_steps),
                optimizer_settings(optimizer),
                loss,
                settings,
                cosine,
                lengths,
                *aggregation(state.update),
                losses,
                effective,
            )
        taken = num_steps if np.isfinite(losses).all() else int(np.isfinite(losses).argmin())
        self.count(tables, moves, taken, effective)
        return losses


def loss_settings(loss: AnyRetrievalLossSpec) -> tuple[int, NDArray[np.float32]]:
    """The kernel's number of a loss, and its temperature, ratio, margin and weight of the negatives."""
    names = ("temperature", "ratio", "margin", "negative_weight")
    return LOSSES.index(loss.kind), np.array([getattr(loss, name, 1.0) for name in names], np.float32)
