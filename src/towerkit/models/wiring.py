"""Small questions about a data set that every model kind asks while it is wired."""

from __future__ import annotations

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.data.roles import EXAMPLE
from towerkit.data.schema import Schema
from towerkit.features.aggregates import AggregateSpec
from towerkit.features.encoder import Demand


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


def check_aggregates(demand: Demand, query: str | None = None) -> None:
    """Refuse features of the past where nobody says how late it is.

    Args:
        demand: What a model reads.
        query: The entity whose rows are read as of the time of each example.

    Raises:
        SpecError: If an aggregate of the examples names no time, one of the query names one, or one is of another entity.
    """
    for entity, features in demand.features.items():
        for spec in features:
            if not isinstance(spec, AggregateSpec):
                continue
            if entity == EXAMPLE and spec.at is None:
                raise SpecError(
                    f"The aggregate '{spec.what}' of {spec.by} looks back from the moment of a row, and none is named. Give at: "
                    "the column with the row's time."
                )
            if entity == query and spec.at is not None:
                raise SpecError(
                    f"The aggregate '{spec.what}' of {spec.by} is one of the query, which looks back from the time of each example "
                    f"(data.examples.time); received at: {spec.at}. Remove at."
                )
            if entity not in (EXAMPLE, query):
                raise SpecError(
                    f"The aggregate '{spec.what}' of {spec.by} is read of '{entity}', whose rows have no moment. Aggregates "
                    "stand on the query side of a two_tower, or in a tower over the example rows (entity: example)."
                )
