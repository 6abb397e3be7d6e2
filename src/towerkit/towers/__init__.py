"""Towers: columns to vectors. ``AnyTowerSpec`` is the menu; a new tower is one file and one name here."""

from typing import Annotated

from pydantic import Field

from towerkit.towers.audio import AudioTowerSpec
from towerkit.towers.base import Candidates, Tower, TowerContext, TowerSpec
from towerkit.towers.graph import GraphTower, GraphTowerSpec
from towerkit.towers.history import HistoryTower, HistoryTowerSpec, IdHistoryTower, IdHistoryTowerSpec
from towerkit.towers.id import IdTower, IdTowerSpec
from towerkit.towers.image import ImageTowerSpec
from towerkit.towers.ngrams import NgramsTower
from towerkit.towers.sequence import SequenceTower, SequenceTowerSpec
from towerkit.towers.spectral import SpectralTower, SpectralTowerSpec
from towerkit.towers.table import TableTower, TableTowerSpec
from towerkit.towers.text import TextTowerSpec
from towerkit.towers.text_base import TextTower
from towerkit.towers.vector import VectorTower, VectorTowerSpec

AnyTowerSpec = Annotated[
    IdTowerSpec
    | HistoryTowerSpec
    | IdHistoryTowerSpec
    | SequenceTowerSpec
    | SpectralTowerSpec
    | GraphTowerSpec
    | VectorTowerSpec
    | ImageTowerSpec
    | AudioTowerSpec
    | TableTowerSpec
    | TextTowerSpec,
    Field(discriminator="kind"),
]

__all__ = [
    "AnyTowerSpec",
    "AudioTowerSpec",
    "Candidates",
    "GraphTower",
    "GraphTowerSpec",
    "HistoryTower",
    "HistoryTowerSpec",
    "IdHistoryTower",
    "IdHistoryTowerSpec",
    "IdTower",
    "IdTowerSpec",
    "ImageTowerSpec",
    "NgramsTower",
    "SequenceTower",
    "SequenceTowerSpec",
    "SpectralTower",
    "SpectralTowerSpec",
    "TableTower",
    "TableTowerSpec",
    "TextTower",
    "TextTowerSpec",
    "Tower",
    "TowerContext",
    "TowerSpec",
    "VectorTower",
    "VectorTowerSpec",
]
