"""The id tower: one learned vector per key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec
from towerkit.data.batch import Columns, dense
from towerkit.data.schema import Schema
from towerkit.features.base import FeatureSpec
from towerkit.features.columns import CategoryFeature, IdSpec
from towerkit.features.encoder import Encoder
from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.svd import SpectralSettings, id_tables


class IdTower(Tower):
    """A table of vectors; row 0 belongs to every unknown id and is the mean of the others.

    Args:
        num_rows: Rows of the table, the unknown row included.
        out_dim: Width of the vectors.
        sparse_rows: Give sparse gradients.
        spectral: Begin at the spectral vectors of the training pairs, both sides alike; at random when not given.
        hide: Share of the rows that stand for unknown ids at each training step, so that the towers beside this one
            learn to do without it; row 0 is learned from them then.

    Reference: ``hide`` as in DropoutNet (Volkovs, Yu and Poutanen, NeurIPS 2017).
    """

    def __init__(
        self,
        num_rows: int,
        out_dim: int,
        *,
        sparse_rows: bool = False,
        spectral: SpectralSettings | None = None,
        hide: float = 0.0,
    ) -> None:
        super().__init__()
        self.hide = hide
        self.out_dim = out_dim
        self.sparse_rows = sparse_rows
        self.spectral, self.paired = spectral, spectral is not None
        self.look_up: Callable[[Tensor], Tensor] | None = None
        """Codes ``[n]`` -> their rows ``[n, out_dim]`` in a training whose processes share the table; see ``training.shards``."""
        self.table = nn.Parameter(torch.empty(num_rows, out_dim))
        nn.init.xavier_normal_(self.table)
        self.settle()

    def forward(self, columns: Columns) -> Tensor:
        """Look the rows up."""
        codes = dense(columns, "id")
        if self.hide and self.training and torch.is_grad_enabled():  # an update reads the vectors as they are
            codes = codes.masked_fill(torch.rand(codes.shape, device=codes.device) < self.hide, 0)
        if self.look_up is not None and self.training:
            return self.look_up(codes)  # [rows, out_dim]
        return functional.embedding(codes, self.table, sparse=self.sparse_rows)  # [rows, out_dim]

    def around(self, ids: Tensor, columns: Columns) -> Tensor:
        """What the tower would give if the ids had other vectors; here these vectors themselves.

        Args:
            ids: ``[rows, out_dim]``.
            columns: The rows' other columns.
        """
        return ids

    @torch.no_grad()
    def begin_with(self, other: Tower, pairs: csr_array) -> None:
        """Fill the tables of both sides."""
        assert isinstance(other, IdTower)
        if self.spectral is None:
            return
        for tower, table in zip((self, other), id_tables(pairs, self.out_dim, self.spectral), strict=True):
            tower.table.copy_(torch.from_numpy(table))

    @torch.no_grad()
    def settle(self) -> None:
        """Make the unknown row the mean of the known ones, the least surprising vector for a stranger."""
        is_learned = (
            self.hide > 0.0 and self.table.requires_grad
        )  # no gradient reaches it where an update froze the table
        if len(self.table) > 1 and not is_learned:  # where it is all there is, it stays too
            self.table[0] = self.table[1:].mean(dim=0)


class RandomStartSpec(Spec):
    """Vectors begin at random, near zero."""

    kind: Literal["random"] = "random"


class SpectralStartSpec(SpectralSettings):
    """Vectors begin at those of a spectral tower, and are trained from there; both sides must ask for it."""

    kind: Literal["spectral"] = "spectral"


def _by_name(value: Any) -> Any:
    """``spectral`` is short for ``{kind: spectral}``."""
    return {"kind": value} if isinstance(value, str) else value


AnyStartSpec = Annotated[
    Annotated[RandomStartSpec | SpectralStartSpec, Field(discriminator="kind")], BeforeValidator(_by_name)
]
"""The menu of starts."""


class IdTowerSpec(TowerSpec):
    """One learned vector per key; a key without training rows gets the mean vector."""

    kind: Literal["id"] = "id"
    dim: int = Field(64, ge=1, le=8192)
    start: AnyStartSpec = RandomStartSpec()
    """Where the vectors begin: ``random`` or ``spectral``, by name or with settings."""
    hide: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of ids taken for unknown at each training step: the towers beside it learn to stand alone, for newcomers."""

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The key itself."""
        return id_features("id", key)

    def spectral(self) -> SpectralSettings | None:
        """The settings of a spectral start."""
        return self.start if isinstance(self.start, SpectralStartSpec) else None

    def pairing(self) -> dict[str, Any] | None:
        """A spectral start comes from one decomposition for both sides."""
        return None if self.spectral() is None else self.model_dump(exclude={"entity"})

    def build(self, context: TowerContext) -> IdTower:
        """A table with a row per known key."""
        num_rows = num_ids(context.encoder, context.entity)
        return IdTower(num_rows, self.dim, sparse_rows=context.sparse_rows, spectral=self.spectral(), hide=self.hide)


def id_features(kind: str, key: str | None) -> list[FeatureSpec]:
    """The feature of a tower that reads keys.

    Args:
        kind: Of the tower, for the message.
        key: The key column of its entity.

    Raises:
        SpecError: If there is no key.
    """
    if key is None:
        article = "An" if kind[0] in "aeiou" else "A"
        raise SpecError(
            f"{article} {kind} tower needs an entity with a key; example rows have none. "
            "Set entity to the column that holds the key, for example entity: user."
        )
    return [IdSpec(column=key)]


def num_ids(encoder: Encoder, entity: str) -> int:
    """Known keys of an entity whose key is a feature, and one for all the others."""
    feature = next(fitted.feature for fitted in encoder.features[entity] if isinstance(fitted.spec, IdSpec))
    assert isinstance(feature, CategoryFeature)
    return len(feature.vocabulary)
