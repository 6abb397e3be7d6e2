"""Towers: columns to vectors. ``AnyTowerSpec`` is the menu; a new tower is one file and one name here."""

from typing import Annotated

from pydantic import Field

from towerkit.towers.base import Tower, TowerContext, TowerSpec
from towerkit.towers.id import IdTower, IdTowerSpec
from towerkit.towers.table import TableTower, TableTowerSpec
from towerkit.towers.text import NgramsTower, TextTowerSpec

AnyTowerSpec = Annotated[IdTowerSpec | TableTowerSpec | TextTowerSpec, Field(discriminator="kind")]

__all__ = [
    "AnyTowerSpec",
    "IdTower",
    "IdTowerSpec",
    "NgramsTower",
    "TableTower",
    "TableTowerSpec",
    "TextTowerSpec",
    "Tower",
    "TowerContext",
    "TowerSpec",
]
