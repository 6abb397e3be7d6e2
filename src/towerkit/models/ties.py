"""Towers that have the weights of another one: where they may stand, and what both must agree on."""

from __future__ import annotations

from collections.abc import Mapping

from towerkit.core.errors import listed, nearest
from towerkit.models.side import FusedSideSpec, Side, towers_of
from towerkit.towers import TextTowerSpec, Tower, TowerSpec
from towerkit.towers.ties import CANDIDATE, OWN, TiedTowerSpec


def tied(towers: Mapping[str, TowerSpec]) -> dict[str, str]:
    """Tower -> whose weights it has, of those whose weights are another one's.

    Args:
        towers: By name.
    """
    return {name: tower.tied_to for name, tower in towers.items() if isinstance(tower, TiedTowerSpec) and tower.tied_to}


def check_ties(towers: Mapping[str, TowerSpec]) -> None:
    """Refuse ties within a tower model that lead nowhere, on and on, or to a tower of another shape.

    Args:
        towers: By name.

    Raises:
        ValueError: Naming the tower and the setting.
    """
    ties = tied(towers)
    for name, other in ties.items():
        if other == name or other not in towers:
            others = [each for each in towers if each != name]
            raise ValueError(
                f"the tower '{name}' has the weights of '{other}' (of: {other}), and there is no other tower of that name"
                f"{nearest(other, others) or '.'} There are {listed(others) or 'none'}; of: {OWN} for weights of its own."
            )
        if other in ties:
            raise ValueError(
                f"the tower '{name}' has the weights of '{other}' (of: {other}), which has those of '{ties[other]}'. Name "
                f"'{ties[other]}'."
            )
        _check_alike(name, towers[name], f"'{other}'", towers[other])


def check_ties_between(query: FusedSideSpec | TowerSpec, candidate: FusedSideSpec | TowerSpec) -> None:
    """Refuse shared weights of a two-tower that are not there, or towers that are not alike.

    Raises:
        ValueError: Naming the tower and the setting.
    """
    back = tied(towers_of(candidate))
    if back:
        raise ValueError(
            f"of: {CANDIDATE} belongs to a tower of the query side; the candidate side's {listed(back)} has of: "
            f"{next(iter(back.values()))}. Remove it there."
        )
    for name, other in tied(towers_of(query)).items():
        tower = towers_of(query)[name]
        if other != CANDIDATE:
            raise ValueError(
                f"the tower '{name}' of a two_tower has its own weights (of: {OWN}), or those of the candidate side's tower of "
                f"its kind (of: {CANDIDATE}); received of: {other}{nearest(other, (OWN, CANDIDATE)) or '.'}"
            )
        theirs = _of_its_kind(tower, candidate)
        if len(theirs) != 1:
            kind = getattr(tower, "kind")  # noqa: B009 - each concrete spec has a kind
            raise ValueError(
                f"the tower '{name}' has the weights of the candidate side's {kind} tower (of: {CANDIDATE}), and that side has "
                f"{len(theirs)}. Use of: {OWN}, or one {kind} tower there."
            )
        ((other, alike),) = theirs.items()
        _check_alike(name, tower, f"the candidate side's '{other}'", alike)


def twins_of(query: FusedSideSpec | TowerSpec, candidate: FusedSideSpec | TowerSpec, built: Side) -> dict[str, Tower]:
    """Tower of the query side -> the built tower of the candidate side whose weights it has.

    Args:
        query: Its spec, checked.
        candidate: Its spec.
        built: The candidate side.
    """
    modules = dict(built.each())
    return {
        name: modules[next(iter(_of_its_kind(towers_of(query)[name], candidate)))] for name in tied(towers_of(query))
    }


def _of_its_kind(tower: TowerSpec, side: FusedSideSpec | TowerSpec) -> dict[str, TowerSpec]:
    return {name: each for name, each in towers_of(side).items() if type(each) is type(tower)}


def _check_alike(name: str, tower: TowerSpec, other: str, theirs: TowerSpec) -> None:
    """Refuse two towers that could not have the same weights, or whose words would not be the same."""
    if not isinstance(tower, TiedTowerSpec) or type(tower) is not type(theirs):
        ours, kind = (getattr(each, "kind") for each in (tower, theirs))  # noqa: B009
        raise ValueError(
            f"the tower '{name}' is of the kind {ours} and has the weights of {other}, of the kind {kind}. Tie towers of one kind."
        )
    assert isinstance(theirs, TiedTowerSpec)
    mine, them = tower.common(), theirs.common()
    differing = [key for key in mine if mine[key] != them[key]]
    if differing:
        here, there = (", ".join(f"{key} {getattr(each, key)!r}" for key in differing) for each in (tower, theirs))
        raise ValueError(
            f"the tower '{name}' has the weights of {other}, so both agree in all but what they read; received {here} here and "
            f"{there} there. Set the same."
        )
    if not (isinstance(tower, TextTowerSpec) and isinstance(theirs, TextTowerSpec)):
        return
    if {*tower.columns[1:], *theirs.columns[1:]} and not tower.encoder.is_the_same_in_every_column:
        raise ValueError(
            f"the tower '{name}' has the weights of {other}, which reads {list(theirs.columns)}, and reads "
            f"{list(tower.columns)}: a word is another word in each column, unless encoder.together is true. Set it on both."
        )
