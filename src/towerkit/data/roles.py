"""Who is who: which column plays which part, and the tables that examples point to."""

from __future__ import annotations

from dataclasses import dataclass

from towerkit.data.table import Table

EXAMPLE = "example"
"""The entity name of the example rows themselves."""


@dataclass(frozen=True)
class Roles:
    """Which column of the example table plays which part; None where there is none."""

    query: str | None = None
    candidate: str | None = None
    time: str | None = None
    weight: str | None = None

    def by_column(self) -> dict[str, str]:
        """Column -> role, for those that are set."""
        return {column: role for role, column in vars(self).items() if column is not None}


@dataclass(frozen=True)
class EntityTable:
    """Rows that examples point to by key."""

    name: str
    """The example column that points here."""
    key: str
    """The column of this table that holds the key."""
    table: Table
    title: str | None = None
    """Column shown to people beside the key."""
