"""Absent towers: a learned vector in place of what a tower would say of a row that it has nothing of.

So that the vectors mean something, training also puts them where a tower could have spoken, for a share of the rows: the
backbone and the heads learn every subset of the towers.

Reference: Neverova et al., ModDrop, 2014 (arXiv 1501.00102), which puts zeros there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pyarrow as pa
import torch
from torch import Tensor, nn

from towerkit.core.errors import SpecError, listed, nearest
from towerkit.data.batch import Columns
from towerkit.features.columns import IdSpec
from towerkit.features.encoder import Fitted
from towerkit.towers import Tower, TowerContext
from towerkit.towers.layers import Named


class Standby(nn.Module):
    """The learned vector of one tower, and when a row has nothing for it.

    Args:
        reads: The features that the tower reads.
        out_dim: Width of the tower's vectors.
    """

    def __init__(self, reads: Iterable[Fitted], out_dim: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(out_dim) * 0.01)  # not zeros: a cosine has no gradient there
        reads = list(reads)
        self.missing = {each.feature.name: _missing(each) for each in reads}
        self.columns = tuple(dict.fromkeys(name for each in reads for name in each.spec.column_names()))

    def nothing(self, columns: Columns) -> Tensor:
        """``[rows]`` whether all that the tower reads of a row is as a missing value is: missing, or never met in training."""
        found = []
        for name, missing in self.missing.items():
            column = columns[name]
            if isinstance(column, Tensor):
                assert missing is not None
                found.append(column.eq(missing).reshape(len(column), -1).all(dim=1))
            else:
                found.append(column.is_empty)
        return torch.stack(found).all(dim=0)


def _missing(fitted: Fitted) -> Tensor | None:
    """``[1, …]`` a missing value as the feature encodes it; None for a column that says itself which rows are empty."""
    encoded = fitted.feature.encode(pa.table({name: pa.nulls(1) for name in fitted.spec.column_names()}))
    return encoded if isinstance(encoded, Tensor) else None


def standby_of(tower: Tower, context: TowerContext) -> Standby:
    """The stand-in of a tower that was just built.

    Args:
        tower: The tower.
        context: What it was built from; it remembers which features the tower asked for. One that asked for none reads the key.
    """
    features = context.encoder.features[context.entity]
    reads = [each for each in features if each.spec in context.asked]
    return Standby(reads or [each for each in features if isinstance(each.spec, IdSpec)], tower.out_dim)


class Absent(nn.Module):
    """The learned vectors of all towers.

    Args:
        towers: By name.
        share: Of the rows of a training step, for each tower by itself, that get its vector although it could speak.
    """

    def __init__(self, towers: Mapping[str, Standby], share: float) -> None:
        super().__init__()
        self.towers = Named(towers)
        self.share = share

    def gone(self, name: str, columns: Columns, index: Tensor | None = None) -> Tensor:
        """``[batch]`` which rows a tower has nothing to say of; in training some more, drawn from torch's generator.

        Args:
            name: The tower.
            columns: Encoded columns of the distinct rows.
            index: ``[batch]`` places among them; the rows themselves when not given.
        """
        nothing = self._standby(name).nothing(columns)
        nothing = nothing if index is None else nothing[index]
        if self.training and self.share:
            nothing = nothing | (torch.rand(len(nothing), device=nothing.device) < self.share)
        return nothing

    def fill(self, name: str, vectors: Tensor, gone: Tensor) -> Tensor:
        """The tower's vectors, with its learned one where it is gone.

        Args:
            name: The tower.
            vectors: ``[batch, dim]``.
            gone: ``[batch]``.
        """
        return torch.where(gone[:, None], self.vector(name).to(vectors.dtype), vectors)  # [batch, dim]

    def vector(self, name: str) -> Tensor:
        """``[dim]`` the learned vector of a tower."""
        return self._standby(name).vector

    def columns(self, name: str) -> tuple[str, ...]:
        """The raw columns that a tower reads."""
        return self._standby(name).columns

    def _standby(self, name: str) -> Standby:
        found = self.towers[name]
        assert isinstance(found, Standby)
        return found


def check_without(without: Collection[str], towers: Collection[str], *, can: bool) -> None:
    """Refuse to leave out towers that are not there, or of a model that never learned to do without one.

    Args:
        without: The towers to leave out.
        towers: Those of the model.
        can: Whether the model has learned vectors for absent towers.

    Raises:
        SpecError: If it cannot be done.
    """
    unknown = sorted(set(without) - set(towers))
    if unknown:
        raise SpecError(
            f"There is no tower '{unknown[0]}' to leave out{nearest(unknown[0], towers) or '.'} The towers are {listed(towers)}."
        )
    if without and not can:
        raise SpecError(
            f"To leave out {listed(without)} a model needs a learned vector for an absent tower, and this one has none. Set "
            "model.absent to a share such as 0.1, and train again."
        )
