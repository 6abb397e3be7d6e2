"""What a tower is: encoded columns of one entity in, one vector per row out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from scipy.sparse import csr_array
from torch import Tensor, nn

from towerkit.core.spec import Spec
from towerkit.data.batch import Columns, dense
from towerkit.data.schema import Schema
from towerkit.features.base import Feature, FeatureSpec
from towerkit.features.encoder import Encoder
from towerkit.features.history import Reach

if TYPE_CHECKING:
    from towerkit.towers.id import IdTower


class Tower(nn.Module):
    """Encoded columns of some rows to ``[rows, out_dim]``. It knows neither the entity nor the batch."""

    out_dim: int
    paired: bool = False
    """Whether it begins together with a tower of the other side, by :meth:`begin_with`."""
    begins_from_rows: bool = False
    """Whether it begins from rows of its entity, by :meth:`begin_from`."""
    side_by_side: tuple[str, ...] = ()
    """Lists of parts whose members stand beside each other; the members of other lists come one after the other."""
    reach: Reach | None = None
    """How far its histories go back; None for a tower that reads none."""
    still: bool = False
    """It stays as it is while others are trained, so nothing of it is left to chance: it has no dropout."""
    computed: str | None = None
    """The column that has its vectors where they were computed before."""

    def vectors(self, columns: Columns) -> Tensor:
        """``[rows, out_dim]`` what :meth:`forward` gives, taken from where it was computed before.

        Args:
            columns: Encoded columns of some rows of one entity.
        """
        if self.computed is not None and self.computed in columns:
            return dense(columns, self.computed)
        found: Tensor = self(columns)
        return found

    def train(self, mode: bool = True) -> Self:
        """Switch modes, unless it is still."""
        return super().train(mode and not self.still)

    def forward(self, columns: Columns) -> Tensor:
        """Turn rows into vectors.

        Args:
            columns: Encoded columns of some rows of one entity.

        Returns:
            ``[rows, out_dim]``.
        """
        raise NotImplementedError

    def begin_with(self, other: Tower, pairs: csr_array) -> None:
        """Begin from the training pairs, together with the paired tower of the candidate side; called on the query side's.

        Not called when a trained model is loaded: whatever was taken must be among the weights.

        Args:
            other: The paired tower of the candidate side.
            pairs: ``[query id rows, candidate id rows]`` the training pairs, an entry of one for each distinct one; row 0
                and column 0 belong to the unknown ids.
        """

    def begin_from(self, columns: Columns) -> None:
        """Begin from rows of its own entity, before the first step; called where ``begins_from_rows``.

        Not called when a trained model is loaded: whatever was taken must be among the weights.

        Args:
            columns: Encoded columns of the rows that training rows point to.
        """

    def start_step(self) -> None:
        """Do what is done once for a whole training step, before any row of it is looked at; most towers do nothing."""

    def rates(self) -> Iterator[tuple[nn.Parameter, float]]:
        """The parameters whose steps are longer or shorter than those of others, each with its factor; most have none."""
        return iter(())

    def settle(self) -> None:
        """Bring in order what follows from the weights, after they have moved; most towers have nothing of the kind."""


@dataclass(frozen=True)
class Candidates:
    """What a tower on the query side may know of the candidate side."""

    num_rows: int
    """Codes of candidates, that of the unknown one included."""
    ids: IdTower | None
    """The candidate side's id tower, where it has exactly one."""
    twins: Mapping[str, Tower] = field(default_factory=dict)
    """Tower of the query side -> the tower of the candidate side whose weights it has."""


@dataclass(frozen=True)
class TowerContext:
    """What a tower spec may ask while it builds its module."""

    encoder: Encoder
    entity: str
    sparse_rows: bool
    """Tables give sparse gradients, so that an optimizer touches only the rows of the batch."""
    candidates: Candidates | None = None
    """Given to the query side of a two-tower where one of its towers has something of the candidate side."""
    twin: Tower | None = None
    """The tower whose weights it has, where they are not its own."""
    asked: list[FeatureSpec] = field(default_factory=list, compare=False)
    """The features that were asked for so far: what the tower reads."""

    def feature(self, spec: FeatureSpec) -> Feature:
        """The fitted form of a feature that the tower's spec asked for."""
        self.asked.append(spec)
        return self.encoder.feature(self.entity, spec)


class TowerSpec(Spec):
    """The configuration of a tower; ``features`` says what it reads, ``build`` makes the module."""

    reads_history: ClassVar[bool] = False
    """It reads what its query met, so it can only stand on the query side of a two-tower."""

    entity: str | None = None
    """Whose columns it reads: an entity, or ``example``. The side decides when not given."""

    def features(self, schema: Schema, key: str | None) -> list[FeatureSpec]:
        """The features it reads.

        Args:
            schema: Columns of its entity.
            key: The key column of the entity; None for examples, which have none.
        """
        raise NotImplementedError

    def pairing(self) -> dict[str, Any] | None:
        """What it must have in common with a tower of the other side, to begin together; None where it stands alone."""
        return None

    def build(self, context: TowerContext) -> Tower:
        """Make the module; its features are already fitted.

        Args:
            context: Fitted features and what the update and optimizer need.
        """
        raise NotImplementedError
