"""Where aggregates come from: the log that a feature looks back on, and the moments of the examples."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from towerkit.core.errors import DataError, SpecError, listed, nearest
from towerkit.data.dataset import Dataset
from towerkit.data.logs import EventLog
from towerkit.data.roles import EXAMPLE
from towerkit.data.splits import Rows
from towerkit.data.table import values_of
from towerkit.features.aggregates import EXAMPLES, AggregateFeature, AggregateSpec
from towerkit.features.cyclic import seconds_of
from towerkit.features.vocabulary import Vocabulary


def fit_aggregate(
    spec: AggregateSpec, entity: str, dataset: Dataset, rows: Rows, labels: Collection[str] = ()
) -> AggregateFeature:
    """Fit a feature of the past on training rows and their log.

    Args:
        spec: What it asks.
        entity: Whose rows it is a feature of: of the examples, or of the query.
        dataset: The raw tables.
        rows: Training rows of the example table.
        labels: Columns of the examples that are predicted.

    Raises:
        SpecError: If there is no such log, or the key is another column.
        DataError: If there are no times, a column is missing, or what is averaged is predicted too.
    """
    if spec.log == EXAMPLES and spec.of in labels:
        raise DataError(
            f"The column '{spec.of}' is a label, and an aggregate of the examples' past reads it: what is predicted would be "
            "known of earlier rows only, and never of new ones. Remove it, or give a log of what is known: data.logs."
        )
    keys = dataset.labelled(_key(spec, entity, dataset), rows)
    own = dataset.examples.data.take(pa.array(rows))
    times = seconds_of(values_of(own, _time(spec, dataset)), _time(spec, dataset))
    if spec.log == EXAMPLES:
        log: dict[str, Any] = {"keys": keys, "times": times}
        if spec.of is not None:
            log["values"] = _of_examples(spec.of, dataset, rows)
        return spec.fit_on(log, keys, times)
    return spec.fit_on(_of_log(spec, _log(spec, dataset)), keys, times)


def as_of_examples(feature: AggregateFeature, entity: str, dataset: Dataset) -> Any:
    """The column of a feature of the past for every example: of its own key, at its own time.

    Args:
        feature: Fitted, of the query.
        entity: The query.
        dataset: The raw tables.
    """
    everywhere = np.arange(dataset.examples.data.num_rows)
    time = _time(feature.aggregate.spec, dataset)
    return feature.as_of(dataset.labelled(entity, everywhere), seconds_of(values_of(dataset.examples.data, time), time))


def _key(spec: AggregateSpec, entity: str, dataset: Dataset) -> str:
    """The example column with the key."""
    if entity == EXAMPLE:
        dataset.schemas[EXAMPLE].require(spec.by, dataset.examples.name)
        return spec.by
    key = dataset.entities[entity].key if entity in dataset.entities else entity
    if spec.by != key:
        raise SpecError(
            f"An aggregate of '{entity}' goes by its key '{key}'; received by: {spec.by}. Give by: {key}, or read the past of "
            "another key in a tower over the example rows."
        )
    return entity


def _time(spec: AggregateSpec, dataset: Dataset) -> str:
    time = spec.at or dataset.roles.time
    if time is None:
        raise DataError(
            f"{dataset.examples.name}: an aggregate of the past needs the moment of each row, and there is no time column. Set "
            "data.examples.time, or remove the aggregate."
        )
    dataset.schemas[EXAMPLE].require(time, dataset.examples.name)
    return time


def _log(spec: AggregateSpec, dataset: Dataset) -> EventLog:
    if spec.log not in dataset.logs:
        known = [EXAMPLES, *dataset.logs]
        raise SpecError(
            f"There is no log '{spec.log}'{nearest(spec.log, known) or '.'} There are {listed(known)}; give one in data.logs."
        )
    return dataset.logs[spec.log]


def _of_log(spec: AggregateSpec, log: EventLog) -> dict[str, Any]:
    data = log.table.data
    found: dict[str, Any] = {
        "keys": values_of(data, log.key),
        "times": seconds_of(values_of(data, log.time), log.time),
    }
    if spec.of is not None:
        if spec.of not in data.column_names:
            raise DataError(
                f"{log.table.name}: there is no column '{spec.of}'{nearest(spec.of, data.column_names) or '.'} An aggregate of the "
                f"log '{spec.log}' can read {listed(data.column_names)}."
            )
        found["values"] = values_of(data, spec.of)
    return found


def _of_examples(column: str, dataset: Dataset, rows: Rows) -> pa.Array:
    """A column of the examples, or of one of the tables that they point to."""
    if column in dataset.examples.data.column_names:
        return dataset.labelled(column, rows)
    having = {name: each for name, each in dataset.entities.items() if column in each.table.data.column_names}
    if len(having) != 1:
        told = "none of the tables that they point to" if not having else f"several tables ({listed(having)})"
        raise DataError(
            f"{dataset.examples.name}: the examples have no column '{column}', and {told} has it. An aggregate reads a column of "
            "the log: name one of the examples, or of exactly one entity."
        )
    ((name, entity),) = having.items()
    places: NDArray[np.int64] = Vocabulary(values_of(entity.table.data, entity.key)).encode(
        dataset.labelled(name, rows)
    )
    known = pa.array(np.where(places > 0, places - 1, 0), mask=places == 0)
    return values_of(entity.table.data, column).take(known)
