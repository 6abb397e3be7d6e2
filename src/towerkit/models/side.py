"""One side of a two-tower: a single tower, or several merged by a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator
from torch import Tensor, nn

from towerkit.core.errors import SpecError, listed
from towerkit.core.spec import Name, Spec, short
from towerkit.data.batch import Columns
from towerkit.data.dataset import Dataset
from towerkit.features.base import FeatureSpec
from towerkit.features.encoder import Encoder
from towerkit.features.history import Reach
from towerkit.fusion import AnyBackboneSpec, Backbone, BackboneSpec, SumSpec
from towerkit.models.absent import Absent, standby_of
from towerkit.models.overlaps import overlap_remarks
from towerkit.models.wiring import key_of, schema_of
from towerkit.towers import AnyTowerSpec, Candidates, IdTower, Tower, TowerContext, TowerSpec
from towerkit.towers.layers import Named


class Side(nn.Module):
    """Columns of one entity to vectors.

    Args:
        towers: The parts by name.
        backbone: Merges the parts; None when there is one.
        absent: What stands in for some of the towers where they have nothing to say of a row.
    """

    def __init__(self, towers: Mapping[str, Tower], backbone: Backbone | None, absent: Absent | None = None) -> None:
        super().__init__()
        self.towers = Named(towers)
        self.backbone = backbone
        self.absent = absent

    @property
    def out_dim(self) -> int:
        """Width of the side's vectors."""
        return self.backbone.out_dim if self.backbone else next(self.each())[1].out_dim

    def each(self) -> Iterator[tuple[str, Tower]]:
        """The towers with their names."""
        for name, tower in self.towers.items():
            assert isinstance(tower, Tower)
            yield name, tower

    def id_towers(self) -> dict[str, IdTower]:
        """The id parts; their rows may be moved without a gradient."""
        return {name: tower for name, tower in self.each() if isinstance(tower, IdTower)}

    def reaches(self) -> tuple[Reach, ...]:
        """The histories that its towers read, each sort once."""
        return tuple(dict.fromkeys(tower.reach for _, tower in self.each() if tower.reach is not None))

    def parts(self, columns: Columns) -> dict[str, Tensor]:
        """Tower name -> ``[rows, dim_i]``."""
        found = {name: tower.vectors(columns) for name, tower in self.each()}
        if self.absent is not None:
            for name in self.absent.towers:
                found[name] = self.absent.fill(name, found[name], self.absent.gone(name, columns))
        return found

    def merge(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Parts to the side's vectors ``[rows, out_dim]``."""
        return self.backbone(parts) if self.backbone else next(iter(parts.values()))

    def forward(self, columns: Columns) -> Tensor:
        """Columns to vectors ``[rows, out_dim]``."""
        return self.merge(self.parts(columns))


class FusedSideSpec(Spec):
    """Several towers over the columns of one entity, merged into one vector."""

    towers: dict[Name, AnyTowerSpec] = Field(min_length=1)
    backbone: AnyBackboneSpec = SumSpec()
    absent: float | None = Field(None, ge=0.0, lt=1.0)
    """As of a tower model, for the towers that read neither keys nor histories, which have a vector for the unknown anyway."""
    overlap: tuple[str, ...] = ()
    """Columns that several towers read on purpose; the others are told as a likely slip."""

    @field_validator("backbone")
    @classmethod
    def _one_state(cls, backbone: BackboneSpec) -> BackboneSpec:
        if backbone.per_task:
            raise ValueError(
                f"a side of a two_tower is one vector, to be compared with that of the other side; received kind: {backbone.kind}, "
                "which makes one for each task of a tower_model. Use kind: gated, attention or cross."
            )
        return backbone


def _one_or_many(value: Any) -> str:
    many = isinstance(value, FusedSideSpec) or (isinstance(value, Mapping) and "towers" in value)
    return "many" if many else "one"


SideSpec = Annotated[
    Annotated[FusedSideSpec, Tag("many")] | Annotated[AnyTowerSpec, Tag("one")], Discriminator(_one_or_many)
]
"""A tower, or ``towers`` and a ``backbone``."""


def towers_of(side: FusedSideSpec | TowerSpec) -> dict[str, TowerSpec]:
    """The towers of a side by name; a single one goes by its kind."""
    if isinstance(side, FusedSideSpec):
        return dict(side.towers)
    return {str(getattr(side, "kind")): side}  # noqa: B009 - each concrete spec has a kind


def side_features(side: FusedSideSpec | TowerSpec, dataset: Dataset, entity: str) -> list[FeatureSpec]:
    """What the towers of a side read from its entity.

    Raises:
        SpecError: If a tower names another entity than its side's.
    """
    return [feature for each in side_reads(side, dataset, entity).values() for feature in each]


def side_remarks(side: FusedSideSpec | TowerSpec, dataset: Dataset, entity: str, where: str) -> list[str]:
    """What looks like a slip: columns that several towers of the side read.

    Args:
        side: Its spec.
        dataset: What it would learn from.
        entity: Whose columns it reads.
        where: The part of the spec that this is.
    """
    if not isinstance(side, FusedSideSpec):
        return []
    reads = {name: (entity, features) for name, features in side_reads(side, dataset, entity).items()}
    return overlap_remarks(reads, side.overlap, where)


def side_reads(side: FusedSideSpec | TowerSpec, dataset: Dataset, entity: str) -> dict[str, list[FeatureSpec]]:
    """What each tower of a side reads, by its name.

    Args:
        side: Its spec.
        dataset: Its columns.
        entity: Whose columns the side reads.

    Raises:
        SpecError: If a tower names another entity than its side's.
    """
    found: dict[str, list[FeatureSpec]] = {}
    for name, tower in towers_of(side).items():
        if tower.entity not in (None, entity):
            raise SpecError(
                f"The tower '{name}' reads the entity '{tower.entity}', but its side of the two-tower is '{entity}'; "
                "a side must be computable from its own entity alone. Remove the key entity."
            )
        found[name] = tower.features(schema_of(dataset, entity), key_of(dataset, entity))
    return found


def pairings(side: FusedSideSpec | TowerSpec) -> dict[str, dict[str, Any]]:
    """The towers of a side that begin together with one of the other side, and what both must have in common."""
    return {name: common for name, tower in towers_of(side).items() if (common := tower.pairing()) is not None}


def check_pairing(query: FusedSideSpec | TowerSpec, candidate: FusedSideSpec | TowerSpec) -> None:
    """Refuse a tower that begins together with a tower of the other side, where that one is missing or another.

    Raises:
        ValueError: Naming the towers.
    """
    sides = {"query": pairings(query), "candidate": pairings(candidate)}
    for name, found in sides.items():
        if len(found) > 1:
            raise ValueError(
                f"a side can have one spectral or graph tower, or one spectral start; the {name} side has {listed(found)}. "
                "Leave one of them."
            )
    ours, theirs = (next(iter(found.values()), None) for found in sides.values())
    if ours != theirs:
        described = [short(common, limit=200) if common else "no such tower" for common in (ours, theirs)]
        raise ValueError(
            "a spectral tower, a spectral start and a graph tower take the vectors of both sides from the same training "
            f"pairs, so that both sides need the same one; query has {described[0]}, candidate has {described[1]}. "
            "Give both sides the same tower, or neither."
        )


def reads_history(side: FusedSideSpec | TowerSpec) -> bool:
    """Whether a tower of the side reads what its rows met."""
    return any(tower.reads_history for tower in towers_of(side).values())


def build_side(
    side: FusedSideSpec | TowerSpec,
    encoder: Encoder,
    entity: str,
    *,
    sparse_rows: bool,
    candidates: Candidates | None = None,
) -> Side:
    """Make the module of a side from fitted features.

    Args:
        side: Its spec.
        encoder: Fitted features.
        entity: Whose columns it reads.
        sparse_rows: Tables give sparse gradients.
        candidates: For a query side that reads histories, or has weights of the candidate side.
    """
    twins = {} if candidates is None else candidates.twins
    contexts = {
        name: TowerContext(encoder, entity, sparse_rows, candidates, twins.get(name)) for name in towers_of(side)
    }
    towers = {name: tower.build(contexts[name]) for name, tower in towers_of(side).items()}
    if not isinstance(side, FusedSideSpec):
        return Side(towers, None)
    backbone = side.backbone.build({name: tower.out_dim for name, tower in towers.items()})
    absent = None
    if side.absent is not None:
        described = {name: tower for name, tower in towers.items() if contexts[name].asked and tower.reach is None}
        absent = Absent({n: standby_of(tower, contexts[n]) for n, tower in described.items()}, side.absent)
    return Side(towers, backbone, absent)
