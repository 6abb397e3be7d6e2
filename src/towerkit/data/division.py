"""From usable rows to parts: the filters that see everything, the split, the tables given apart, the choice of training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.data.checks import check_distinct, check_given_parts, check_learned, check_parts
from towerkit.data.cutting import LEAVE_LAST_WARNING, Cut, cut
from towerkit.data.filters import Codes
from towerkit.data.learning import Chosen, Learning
from towerkit.data.roles import Roles
from towerkit.data.spec import DataSpec
from towerkit.data.split_specs import AnySplit
from towerkit.data.splits import Parts, Rows
from towerkit.data.table import Table, values_of
from towerkit.data.times import is_plain_time, times_of
from towerkit.data.usable import Usable

FILTERED_WARNING = "min_count and k_core saw every row, so that held-out rows decided which rows are learned from"


@dataclass(frozen=True, eq=False)
class Division:
    """The parts of a data set and how they came to be; the attributes are those of a data set."""

    parts: Parts
    uncut: Parts | None
    weights: NDArray[np.float64] | None
    learning: Learning
    described: Mapping[str, Any]


def divide(
    spec: DataSpec, examples: Table, roles: Roles, usable: Usable, apart: Mapping[str, tuple[Table, Rows]], seed: int
) -> Division:
    """Make the parts.

    Args:
        spec: The split, and how training rows are chosen.
        examples: All rows, those of tables given apart at the end.
        roles: Which column is which.
        usable: The rows that count, and their weights.
        apart: ``validation``, ``test`` or ``train`` (more to learn from) -> the table given apart, and its row numbers in
            ``examples``.
        seed: Draws random splits.

    Raises:
        DataError: If a part stays empty, or a column does not hold what it must.
    """
    split = spec.resolved_split()
    check_distinct(examples, roles, np.flatnonzero(usable.mask))
    whole, mask, filtered = _filtered_whole(spec, examples, roles, usable.mask)
    first_apart = min((int(rows[0]) for _, rows in apart.values()), default=len(mask))
    found = cut(examples, roles, split, seed, np.flatnonzero(mask[:first_apart]))
    given = {part: rows[mask[rows]] for part, (_, rows) in apart.items()}
    check_given_parts(given, {part: table for part, (table, _) in apart.items()})
    learned_too = np.union1d(found.parts.train, given.pop("train", found.parts.train))
    parts = replace(found.parts, train=learned_too, **given)
    check_parts(parts, split, examples, np.flatnonzero(mask[:first_apart]))
    learning = _learning(spec, examples, roles, usable, split, np.union1d(parts.train, parts.validation), whole)
    chosen = learning.choose(parts.train)
    check_learned(chosen.rows, chosen.removed, len(parts.train), examples)
    described = _described(spec, split, seed, found, {**usable.left_out, **filtered, **found.left_out}, chosen, apart)
    if learning.takes_all:
        return Division(parts, None, chosen.weights, learning, described)
    return Division(replace(parts, train=chosen.rows), parts, chosen.weights, learning, described)


def _filtered_whole(
    spec: DataSpec, examples: Table, roles: Roles, mask: NDArray[np.bool_]
) -> tuple[Learning, NDArray[np.bool_], dict[str, int]]:
    """The filters before the split, if they are asked to see everything."""
    needed = spec.duplicates != "keep" or spec.min_count is not None or spec.k_core is not None
    keys = [_codes(examples, column) if needed and column else None for column in (roles.query, roles.candidate)]
    pairs = Learning(queries=keys[0], candidates=keys[1])
    if spec.filter_on == "train" or (spec.min_count is None and spec.k_core is None):
        return replace(pairs, min_count=spec.min_count, k_core=spec.k_core), mask, {}
    everything = np.flatnonzero(mask)
    chosen = replace(pairs, min_count=spec.min_count, k_core=spec.k_core).choose(everything)
    check_learned(chosen.rows, chosen.removed, len(everything), examples)
    stays = np.zeros(len(mask), bool)
    stays[chosen.rows] = True
    return pairs, stays, chosen.removed


def _codes(examples: Table, column: str) -> Codes:
    values = values_of(examples.data, column)
    return np.asarray(pc.dictionary_encode(values).indices.to_numpy(zero_copy_only=False), np.int64)


def _learning(
    spec: DataSpec,
    examples: Table,
    roles: Roles,
    usable: Usable,
    split: AnySplit,
    learned: Rows,
    pairs: Learning,
) -> Learning:
    times = None
    if roles.time is not None and (spec.decay is not None or spec.duplicates != "keep"):
        times = times_of(examples, roles.time)
    half_life = None
    if spec.decay is not None:
        assert times is not None and roles.time is not None
        name = f"{examples.name}, column '{roles.time}'"
        _check_decay_times(times, learned, name, may_be_missing=getattr(split, "time_missing", "refuse") == "train")
        half_life = spec.decay.in_units(times[learned], plain=is_plain_time(examples, roles.time), name=name)
    return replace(pairs, weights=usable.weights, times=times, half_life=half_life, duplicates=spec.duplicates)


def _check_decay_times(times: NDArray[np.float64], learned: Rows, name: str, *, may_be_missing: bool) -> None:
    missing = learned[np.isnan(times[learned])]
    if len(missing) and not may_be_missing:
        raise DataError(
            f"{name}: decay needs a time in every row that is learned from; {len(missing):,} of {len(learned):,} are "
            f"missing, the first in row {missing[0] + 1}. Fill them, or use a time split with time_missing: drop or train."
        )


def _described(
    spec: DataSpec,
    split: AnySplit,
    seed: int,
    found: Cut,
    left_out: Mapping[str, int],
    chosen: Chosen,
    apart: Mapping[str, tuple[Table, Rows]],
) -> dict[str, Any]:
    """How the parts were made, in plain data; a key stands there only where it says something."""
    settings = split.model_dump(exclude_none=True)
    for name, usual in (("time_missing", "refuse"), ("take", "random")):
        if settings.get(name) == usual:
            del settings[name]
    described: dict[str, Any] = {**settings, "seed": seed, **{part: "given" for part in apart if part != "train"}}
    event = spec.examples.event
    rows = {
        "relevance": spec.examples.relevance,
        "grades": spec.examples.grades,
        "positive": spec.examples.positive,
        "events": None if event is None else {event.column: [kind for kind, w in event.weights.items() if w]},
        "left_out": {reason: count for reason, count in left_out.items() if count},
    }
    filters: dict[str, Any] = {
        "min_count": None if spec.min_count is None else spec.min_count.model_dump(),
        "k_core": spec.k_core,
    }
    learned: dict[str, Any] = {
        "event_weights": None if event is None else event.weights,
        "decay": None if spec.decay is None else spec.decay.model_dump(exclude_none=True),
        "duplicates": None if spec.duplicates == "keep" else spec.duplicates,
    }
    # A test table given apart is not cut by the split, so what the split does to figures is not said of it.
    warnings = [each for each in found.warnings if "test" not in apart or each != LEAVE_LAST_WARNING]
    if spec.filter_on == "all" and any(filters.values()):
        rows = {**_said(filters), "filter_on": "all", **rows}
        warnings.append(FILTERED_WARNING)
    else:
        learned |= filters
    learned["removed"] = chosen.removed
    if "train" in apart:
        table, more = apart["train"]
        learned[table.name] = len(more)
    return {**described, **_said({**rows, "learned": _said(learned), "warnings": warnings})}


def _said(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value not in (None, {}, [])}
