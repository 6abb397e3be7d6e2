"""A query's text tower that has the weights of the candidate side's: where it may stand, and what both must agree on."""

from __future__ import annotations

from towerkit.models.side import FusedSideSpec, towers_of
from towerkit.towers import TextTowerSpec, TowerSpec
from towerkit.towers.ngrams import HashedNgramsSpec


def shares_texts(query: FusedSideSpec | TowerSpec) -> bool:
    """Whether a text tower of the side has the weights of the other side's."""
    return any(isinstance(tower, TextTowerSpec) and tower.of == "candidate" for tower in towers_of(query).values())


def check_shared_texts(query: FusedSideSpec | TowerSpec, candidate: FusedSideSpec | TowerSpec) -> None:
    """Refuse shared weights that are not there, or whose words would not be the same.

    Raises:
        ValueError: Naming the tower and the setting.
    """
    if shares_texts(candidate):
        raise ValueError(
            "of: candidate belongs to a text tower of the query side; the candidate side has one. Remove it there."
        )
    theirs = [tower for tower in towers_of(candidate).values() if isinstance(tower, TextTowerSpec)]
    for name, tower in towers_of(query).items():
        if not isinstance(tower, TextTowerSpec) or tower.of == "own":
            continue
        if len(theirs) != 1:
            raise ValueError(
                f"the tower '{name}' has the weights of the candidate side's text tower (of: candidate), and that side has "
                f"{len(theirs)}. Use of: own, or one text tower there."
            )
        other = theirs[0]
        if (tower.encoder, tower.dim) != (other.encoder, other.dim):
            raise ValueError(
                f"the tower '{name}' has the weights of the candidate side's text tower, so both have one encoder and dim; "
                f"received {tower.encoder!r}, dim {tower.dim} here and {other.encoder!r}, dim {other.dim} there. Set the same."
            )
        if tower.dropout != other.dropout and not isinstance(tower.encoder, HashedNgramsSpec):
            raise ValueError(
                f"the tower '{name}' has the weights of the candidate side's text tower, so both have one dropout; received "
                f"{tower.dropout} here and {other.dropout} there. Set the same."
            )
        if len({*tower.columns[1:], *other.columns[1:]}) and not tower.encoder.is_the_same_in_every_column:
            raise ValueError(
                f"the tower '{name}' has the weights of the candidate side's text tower, which reads "
                f"{list(other.columns)}: a word is another word in each column, unless encoder.together is true. Set it on both."
            )
