"""Logs: tables of things that happened to an entity, each with a moment, beside the examples."""

from __future__ import annotations

from dataclasses import dataclass

from towerkit.data.readers import SourceSpec
from towerkit.data.table import Table


class LogSpec(SourceSpec):
    """A table of events that features look back on; it is learned from only through them."""

    key: str
    """Column with the key of whom the event happened to."""
    time: str
    """Column with the moment."""


@dataclass(frozen=True)
class EventLog:
    """Events with the roles of two of their columns."""

    key: str
    time: str
    table: Table
