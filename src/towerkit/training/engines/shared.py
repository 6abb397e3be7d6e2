"""The engine of softmax over candidates that a batch shares: matrix products by tiles, and kernels between them.

A step of ``B`` rows with ``n`` shared candidates needs three products, logits ``Q Cᵀ``, ``G C`` for the queries and ``Gᵀ Q``
for the candidates; where queries move without a gradient, two. A tile of ``[some rows, n]`` logits is all that exists of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.data.splits import Rows
from towerkit.training.engines.base import KernelEngine, aggregation, optimizer_settings, table_of
from towerkit.training.steps import batch_size

SOFTMAXES = ("sampled_softmax", "bilateral_softmax")
_TILE_BYTES = 4 << 20
"""A tile of logits: small enough for the cache, large enough for the products."""
_LOOKED_AT = 64
"""Rows of a batch whose effective number of negatives stands for all, as in the retrieval objective."""


@dataclass(frozen=True)
class _Batch:
    """One step's rows, and what they share."""

    queries: NDArray[np.int64]
    positives: NDArray[np.int64]
    shared: NDArray[np.int64]
    """``[n]`` candidate rows."""
    log_q: NDArray[np.float32]
    """``[n]``."""
    weights: NDArray[np.float32]
    """``[batch]`` share of each row in the mean loss, times its size."""
    share: np.float32
    """One over the sum of the weights."""


class SharedEngine(KernelEngine):
    """A softmax over candidates that all rows of a batch share; see :mod:`towerkit.kernels.softmax`."""

    def is_compiled(self) -> bool:
        """Whether the tile's kernel was compiled before."""
        from towerkit.kernels.compiled import was_compiled
        from towerkit.kernels.softmax import softmax_tile

        return was_compiled(softmax_tile)

    def batch_bytes(self) -> int:
        """A tile of logits; vectors and gradients of queries, positives and shared candidates."""
        size, dim = batch_size(self.training, self.rows), table_of(self.state.model.query).shape[1]
        drawn = sum(getattr(source, "count", size) for source in self.negatives.sources)
        return 4 * (min(_TILE_BYTES // 4, size * drawn) + 2 * dim * (2 * size + drawn))

    def _steps_at_once(self, size: int) -> int:
        return 1

    @cached_property
    def _first(self) -> NDArray[np.int32]:
        """``[candidates + 1]`` -1 between two steps."""
        return np.full(len(self.codes[1]), -1, np.int32)

    @cached_property
    def _lengths(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of both tables' rows: right for those of the step under way under cosine."""
        query, candidate = (table_of(side) for side in (self.state.model.query, self.state.model.candidate))
        return np.ones(len(query), np.float32), np.ones(len(candidate), np.float32)

    def _advance(self, chosen: Rows, size: int) -> NDArray[np.float64]:
        """Take one step; its loss, which leaves the tables alone where it is no number."""
        from towerkit.kernels.compiled import torch_threads  # Numba takes half a second to import
        from towerkit.kernels.grouping import grouped
        from towerkit.kernels.pairwise import LAST, NO_MOVE, aggregate, move_rows

        model, update = self.state.model, self.state.update
        batch = self._batch(chosen)
        codes = self.codes[0][batch.queries], self.codes[1][np.concatenate([batch.positives, batch.shared])]
        tables = [table_of(model.query), table_of(model.candidate)]
        arrays = [table.detach().numpy() for table in tables]
        moves = [self.moves(table, 1) for table in tables]
        cosine, whole = model.match.similarity == "cosine", self.training.optimizer.rows == "all"
        with torch_threads():
            query, candidate = (self._gathered(*each) for each in zip(arrays, codes, self._lengths, strict=True))
            pulls = torch.empty_like(query) if moves[0][0] else None
            losses, pushes, seen = self._gradients(batch, query, candidate, pulls)
            loss = float((batch.weights * losses).sum(dtype=np.float64) * batch.share)
            if not np.isfinite(loss):
                return np.array([loss])
            for side, gradients in enumerate((pulls, pushes)):
                if moves[side][0] and gradients is not None:
                    named, rows, starts, entries = grouped(codes[side], len(codes[side]), len(arrays[side]), whole)
                    place = named[0], rows[0], starts[0], entries, _NO_SLOPES, gradients.numpy(), self._lengths[side], 1
                    slots = self.slots(tables[side])
                    move, rate = int(moves[side][0]), float(self.rates(1)[0])
                    move_rows(
                        *place, arrays[side], *slots, move, rate, optimizer_settings(self.state.optimizer), cosine
                    )
            (kind, beta), met = aggregation(update)
            if kind != NO_MOVE:
                named, rows, starts, entries = grouped(codes[0], len(codes[0]), len(arrays[0]), False)
                own = codes[1][: len(codes[0])]
                about = named[0], rows[0], starts[0], entries, own, batch.weights
                aggregate(*about, arrays[0], arrays[1], self._lengths[1], cosine, kind == LAST, beta, met)
        looked = seen[:_LOOKED_AT]
        self.count(tables, moves, 1, np.array([[*looked.sum(axis=0), len(looked)]]))
        return np.array([loss])

    def _batch(self, chosen: Rows) -> _Batch:
        queries, positives = self.queries[chosen], self.candidates[chosen]
        shared, log_q = self.negatives.draw_shared(queries, positives, self.state.step)
        weights = np.ones(len(chosen), np.float32) if self.weights is None else self.weights[chosen]
        share = np.float32(1.0) / max(weights.sum(), np.float32(1e-12))
        return _Batch(queries, positives, shared, log_q, weights, share)

    def _gathered(self, table: NDArray[np.float32], codes: NDArray[np.int32], lengths: NDArray[np.float32]) -> Tensor:
        """``[n, dim]`` rows of a table as the match sees them."""
        from towerkit.kernels.softmax import gather

        vectors = torch.empty(len(codes), table.shape[1])
        gather(table, codes, self.state.model.match.similarity == "cosine", vectors.numpy(), lengths)
        return vectors

    def _gradients(
        self, batch: _Batch, query: Tensor, candidate: Tensor, pulls: Tensor | None
    ) -> tuple[NDArray[np.float64], Tensor, NDArray[np.float64]]:
        """Losses ``[batch]``, gradients ``[batch + n, dim]`` of positives and shared, how many counted ``[batch, 2]``.

        Args:
            batch: The rows.
            query: ``[batch, dim]``.
            candidate: ``[batch + n, dim]``: the positives, then what is shared.
            pulls: ``[batch, dim]`` the gradients of the queries, written where given.
        """
        from towerkit.kernels.product import product
        from towerkit.kernels.softmax import positions, softmax_tile

        size, shared = len(query), candidate[len(query) :]
        own = torch.einsum("bd,bd->b", query, candidate[:size])
        losses, slopes, scales, seen = np.empty(size), torch.empty(size), torch.empty(size), np.empty((size, 2))
        pushed = torch.zeros(query.shape[1], len(shared))
        before = positions(batch.shared, self._first)
        starts, known, _ = self.negatives.known.by_query
        masks = (starts, known) if self.negatives.mask_known else (starts[:0], known[:0])
        settings = (getattr(self.loss, name, 1.0) for name in ("temperature", "ratio"))
        temperature, ratio = (np.float32(value) for value in settings)
        height = max(1, _TILE_BYTES // (64 * max(1, len(shared)))) * 16
        for low in range(0, size, height):
            part = slice(low, min(low + height, size))
            logits = product(query[part], shared)
            softmax_tile(
                logits.numpy(),
                own.numpy()[part],
                batch.positives[part],
                batch.queries[part],
                self._first,
                before,
                *masks,
                batch.log_q,
                batch.weights[part] * batch.share,
                temperature,
                ratio,
                self.loss.kind == "bilateral_softmax",
                losses[part],
                slopes.numpy()[part],
                scales.numpy()[part],
                seen[part],
            )
            if pulls is not None:
                torch.mul(product(logits, shared.T), scales[part, None], out=pulls[part])
            pushed += product((query[part] * scales[part, None]).T, logits.T)
        self._first[batch.shared] = -1
        if pulls is not None:
            pulls.addcmul_(slopes[:, None], candidate[:size])
        return losses, torch.cat([slopes[:, None] * query, pushed.T]), seen


_NO_SLOPES = np.empty((0, 0), np.float32)
