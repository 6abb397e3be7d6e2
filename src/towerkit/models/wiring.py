"""Small questions about a data set that every model kind asks while it is wired."""

from __future__ import annotations

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.schema import Schema


def pair_of(dataset: Dataset) -> tuple[str, str]:
    """The names of the query and the candidate entity.

    Raises:
        DataError: If the data does not say which columns they are.
    """
    query, candidate = dataset.roles.query, dataset.roles.candidate
    if query is None or candidate is None:
        raise DataError(
            "A model that ranks compares a query with a candidate: set data.examples.query and data.examples.candidate to "
            f"the columns with their keys. The columns are {dataset.examples.data.column_names}."
        )
    return query, candidate


def schema_of(dataset: Dataset, entity: str) -> Schema:
    """The columns of an entity; one that has no table of its own has only its key.

    Raises:
        SpecError: If there is no such entity.
    """
    if entity in dataset.schemas:
        return dataset.schemas[entity]
    key_of(dataset, entity)
    return Schema(columns=())


def key_of(dataset: Dataset, entity: str) -> str | None:
    """The key column of an entity; None for the examples themselves.

    Raises:
        SpecError: If no table and no example column has that name.
    """
    if entity == EXAMPLE:
        return None
    if entity in dataset.entities:
        return dataset.entities[entity].key
    columns = dataset.examples.data.column_names
    if entity not in columns:
        known = [EXAMPLE, *dataset.entities, *columns]
        raise SpecError(
            f"Unknown entity '{entity}'{nearest(entity, known) or '.'} An entity is a table under data.entities or a "
            f"column of the examples that holds keys; there are {listed(known)}."
        )
    return entity
