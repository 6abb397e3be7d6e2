"""How histories come to a two-tower: where their towers may stand, and their events cut out of a data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from towerkit.core.errors import DataError
from towerkit.data.batch import dense
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.data.times import are_epoch_seconds, is_plain_time, times_of
from towerkit.features.aggregates import AggregateNumber, AggregateTop
from towerkit.features.encoded import Encoded
from towerkit.features.history import Floats, Histories, Pairs, Reach, histories_of, tie_order
from towerkit.features.looking_back import as_of_examples
from towerkit.models.side import FusedSideSpec, reads_history, towers_of
from towerkit.towers import IdTowerSpec, TowerSpec
from towerkit.towers.history import ReadsHistory


def check_histories(query: FusedSideSpec | TowerSpec, candidate: FusedSideSpec | TowerSpec) -> None:
    """Refuse histories where there are none, and shared vectors that are not there.

    Raises:
        ValueError: If the candidate side reads histories, or the query side pools the vectors of an id tower that the
            candidate side does not have, or has in another width.
    """
    if reads_history(candidate):
        raise ValueError(
            "a history is what a query met, so its tower stands on the query side; the candidate side has one too. "
            "Replace it by {kind: id}."
        )
    shared = [tower for tower in towers_of(candidate).values() if isinstance(tower, IdTowerSpec)]
    for name, tower in towers_of(query).items():
        if not isinstance(tower, ReadsHistory) or tower.of == "own":
            continue
        if len(shared) != 1:
            raise ValueError(
                f"the tower '{name}' {tower.verb} the vectors of the candidate side's id tower (of: candidate), and that side has "
                f"{len(shared)}. Use of: own, or one {{kind: id}} there."
            )
        if shared[0].dim != tower.dim:
            raise ValueError(
                f"the tower '{name}' {tower.verb} the vectors of the candidate side's id tower, so both have one width; received "
                f"dim {tower.dim} here and {shared[0].dim} there. Set the same dim, or use of: own."
            )


def with_histories(
    encoded: Encoded, dataset: Dataset, rows: Rows, entities: tuple[str, str], reaches: tuple[Reach, ...]
) -> Encoded:
    """The same arrays with the histories that the query towers read.

    Args:
        encoded: All arrays.
        dataset: The raw tables.
        rows: Example rows that are learned from; no other row is in a history.
        entities: The query and the candidate entity.
        reaches: What the towers read; none leaves everything as it is.

    Raises:
        DataError: If recency is asked for, and there are no times, or days are, and the times are no moments.
    """
    if not reaches:
        return encoded
    query, candidate = entities
    queries, candidates = (np.asarray(encoded.index[entity]) for entity in entities)
    keys = encoded.catalogues[query].keys, encoded.catalogues[candidate].keys
    codes = dense(encoded.tables[candidate], "id").numpy()
    pairs = Pairs(
        queries,
        codes[candidates],
        history_times(dataset, rows, reaches),
        tie_order(queries, keys[0], candidates, keys[1]),
    )
    histories: Histories = histories_of(pairs, rows, reaches, len(keys[0]))
    return replace(encoded, histories={query: histories})


def with_pasts(encoded: Encoded, dataset: Dataset, query: str) -> Encoded:
    """The same arrays with what the query's aggregates were at the time of each example.

    Args:
        encoded: All arrays; those of the query are as of the cut-off.
        dataset: The raw tables.
        query: The query entity.
    """
    found = {
        each.feature.name: as_of_examples(each.feature, query, dataset)
        for each in encoded.encoder.features.get(query, ())
        if isinstance(each.feature, AggregateNumber | AggregateTop)
    }
    return replace(encoded, dated={query: found}) if found else encoded


def history_times(dataset: Dataset, rows: Rows, reaches: tuple[Reach, ...]) -> Floats | None:
    """``[examples]`` the time of each row, NaN where missing; None where the data has no time column.

    Raises:
        DataError: As :func:`with_histories` does.
    """
    column, name = dataset.roles.time, dataset.examples.name
    for reach in reaches:
        if reach.ordered and column is None:
            raise DataError(
                f"{name}: a tower of sequences reads events in their order, and there is no time column that says which came "
                "first. Set data.examples.time, or use {kind: history}."
            )
        half_life = reach.half_life_days or reach.half_life_events
        if half_life is not None and column is None:
            raise DataError(
                f"{name}: a half-life of {half_life:g} needs to know which event came later, and there is no time column. "
                "Set data.examples.time, or remove the half-life."
            )
    if column is None:
        return None
    times = times_of(dataset.examples, column)
    in_days = next((reach for reach in reaches if reach.ages or reach.half_life_days is not None), None)
    if in_days is not None and is_plain_time(dataset.examples, column) and not are_epoch_seconds(times[rows]):
        instead = "Remove ages." if in_days.ages else "Use half_life_events."
        asked = "ages in days" if in_days.ages else f"{in_days.half_life_days:g} days"
        raise DataError(
            f"{name}: the time column '{column}' holds plain numbers from {np.nanmin(times[rows]):g} to "
            f"{np.nanmax(times[rows]):g}, which are no seconds since 1970, so {asked} mean nothing. {instead}"
        )
    return times
