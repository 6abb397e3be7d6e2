"""The graph tower: id vectors of both sides, smoothed over the training pairs between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional

from towerkit.data.batch import Columns, dense
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.id import IdTower, IdTowerSpec, id_features, num_ids


@dataclass(frozen=True)
class Edges:
    """A sparse matrix as bags: each row is the weighted sum of some rows of a table."""

    sources: Tensor
    """``[edges]`` rows of the table."""
    offsets: Tensor
    """``[rows + 1]`` where each row's edges begin."""
    weights: Tensor
    """``[edges]``."""

    @classmethod
    def of(cls, matrix: csr_array) -> Edges:
        """From ``[rows, table rows]``."""
        sources, offsets = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indices, matrix.indptr))
        return cls(sources, offsets, torch.from_numpy(matrix.data.astype(np.float32)))

    def gather(self, table: Tensor) -> Tensor:
        """``[rows, dim]`` sums of ``[table rows, dim]``."""
        weights = self.weights.to(table.dtype)
        return functional.embedding_bag(
            self.sources, table, self.offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
        )


class _Spread(torch.autograd.Function):
    """``A x`` with the gradient ``A' g``: both matrices are at hand, so neither way sorts or scatters."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, there: Edges, back: Edges) -> Tensor:
        """Gather along the edges."""
        ctx.back = back
        return there.gather(table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Gather against them."""
        return ctx.back.gather(gradients[0].contiguous()), None, None


class Graph:
    """What the training pairs carry between the id tables of two sides.

    A layer is ``Q' = A C`` and ``C' = A' Q`` with ``A_qc = 1 / sqrt(n_q m_c)`` for each pair, ``n`` and ``m`` the pairs of its
    query and of its candidate. The result is the mean of the tables themselves and of all layers.

    Args:
        query: The table of queries.
        candidate: The table of candidates.
        pairs: ``[query id rows, candidate id rows]``; those of the unknown row 0 are left out.
        layers: How far vectors travel.

    Reference: He et al., LightGCN, SIGIR 2020 (arXiv 2002.02126).
    """

    def __init__(self, query: IdTower, candidate: IdTower, pairs: csr_array, layers: int) -> None:
        normalised = symmetric_normalised(pairs)
        self.query, self.candidate, self.layers = query, candidate, layers
        self.to_query, self.to_candidate = Edges.of(normalised), Edges.of(csr_array(normalised.T))
        self.current: tuple[Tensor, Tensor] | None = None
        """The tables of the training step, with their gradient."""

    def tables(self) -> tuple[Tensor, Tensor]:
        """``[query rows, dim]`` and ``[candidate rows, dim]`` after all layers."""
        queries, candidates = [self.query.table + 0.0], [self.candidate.table + 0.0]
        for _ in range(self.layers):
            there: Tensor = _Spread.apply(candidates[-1], self.to_query, self.to_candidate)  # type: ignore[no-untyped-call]
            back: Tensor = _Spread.apply(queries[-1], self.to_candidate, self.to_query)  # type: ignore[no-untyped-call]
            queries.append(there)
            candidates.append(back)
        return torch.stack(queries).mean(dim=0), torch.stack(candidates).mean(dim=0)


def symmetric_normalised(pairs: csr_array) -> csr_array:
    """``1 / sqrt(n_q m_c)`` at each pair of known ids.

    Args:
        pairs: ``[query id rows, candidate id rows]``; row 0 and column 0 belong to the unknown ids.
    """
    entries = pairs.tocoo()
    known = (entries.row > 0) & (entries.col > 0)
    row, column = entries.row[known], entries.col[known]
    counts = np.bincount(row, minlength=pairs.shape[0])[row] * np.bincount(column, minlength=pairs.shape[1])[column]
    return csr_array((1 / np.sqrt(counts), (row, column)), shape=pairs.shape)


class GraphTower(Tower):
    """Id vectors, propagated over the training pairs together with those of the other side.

    In training the shared :class:`Graph` propagates both tables once per step, and gradients flow through it. Afterwards
    the stored ``propagated`` table answers, which needs neither the other side nor the pairs; row 0, the unknown id, is
    the mean of the others.

    Args:
        base: The id tower.
        layers: How far vectors travel.
    """

    paired = True
    propagated: Tensor

    def __init__(self, base: IdTower, layers: int) -> None:
        super().__init__()
        self.base, self.layers, self.out_dim = base, layers, base.out_dim
        self.register_buffer("propagated", base.table.detach().clone())
        self.graph: Graph | None = None
        self._place = 0

    def forward(self, columns: Columns) -> Tensor:
        """Look the rows up."""
        return functional.embedding(dense(columns, "id"), self._table())  # [rows, out_dim]

    def _table(self) -> Tensor:
        if not self.training or self.graph is None:
            return self.propagated
        if torch.is_grad_enabled() and self.graph.current is not None:
            return self.graph.current[self._place]
        return self.graph.tables()[self._place]

    def begin_with(self, other: Tower, pairs: csr_array) -> None:
        """Link the two sides."""
        assert isinstance(other, GraphTower)
        if self.base.paired:
            self.base.begin_with(other.base, pairs)
        self.graph = other.graph = Graph(self.base, other.base, pairs, self.layers)
        other._place = 1
        self.settle()
        other.settle()

    def start_step(self) -> None:
        """Propagate once for both sides; the query side does it."""
        if self.graph is not None and self._place == 0:
            self.graph.current = self.graph.tables()

    @torch.no_grad()
    def settle(self) -> None:
        """Store the propagated table."""
        self.base.settle()
        if self.graph is None:
            return
        self.graph.current = None
        self.propagated.copy_(self.graph.tables()[self._place])
        if len(self.propagated) > 1:
            self.propagated[0] = self.propagated[1:].mean(dim=0)


class GraphTowerSpec(TowerSpec):
    """An id tower whose vectors are smoothed over the training pairs; both sides need one."""

    kind: Literal["graph"] = "graph"
    layers: int = Field(3, ge=1, le=8)
    of: IdTowerSpec = IdTowerSpec()
    """The id tower."""

    @field_validator("of")
    @classmethod
    def _all_ids_are_seen(cls, of: IdTowerSpec) -> IdTowerSpec:
        if of.hide:
            raise ValueError(
                f"a graph reads the vectors of all ids at once, so none can be hidden; received hide {of.hide}. Remove it."
            )
        return of

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The key itself."""
        return id_features("graph", key)

    def pairing(self) -> dict[str, Any]:
        """Vectors travel to and fro, through tables of one width."""
        return self.model_dump(exclude={"entity": True, "of": {"entity"}})

    def build(self, context: TowerContext) -> GraphTower:
        """The id tower and its wrapper."""
        base = IdTower(num_ids(context.encoder, context.entity), self.of.dim, spectral=self.of.spectral())
        return GraphTower(base, self.layers)
