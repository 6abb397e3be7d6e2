"""A search space: a spec with ranges in place of values, anywhere, so that each tower and the backbone has its own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from towerkit.core.errors import SpecError, listed, nearest
from towerkit.core.spec import S, parse, short
from towerkit.tuning.ranges import Range, SameAs, range_of

_FIXED = {
    "data": "every trial must be measured on the same rows",
    "evaluation": "every trial must be measured alike",
}
_MOST_OF_A_GRID = 100_000
Values = Mapping[str, Any]
"""Path of a range -> value."""


@dataclass(frozen=True)
class Space:
    """Ranges by their place in a spec."""

    template: Mapping[str, Any]
    """The spec as plain data, with the ranges in it."""
    ranges: Mapping[str, Range]
    """Path, such as ``model.query.dim`` -> range."""
    ties: Mapping[str, str]
    """Path -> the path of the range whose value it has."""

    def start(self) -> dict[str, Any]:
        """The values of the default configuration."""
        return {path: each.start for path, each in self.ranges.items()}

    def filled(self, values: Values) -> dict[str, Any]:
        """The spec with values in place of the ranges, as plain data.

        Args:
            values: One for each range.
        """
        found = deepcopy(dict(self.template))
        for path in [*self.ranges, *self.ties]:
            _put(found, path, deepcopy(values[self.ties.get(path, path)]))
        return found

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The values that a sampler proposes.

        Args:
            trial: An Optuna trial.
        """
        return {path: each.suggest(trial, path) for path, each in self.ranges.items()}

    def values_of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a study's parameters stand for, ties included; of a trial that died early, those that it has.

        Args:
            params: As a study has them.
        """
        told = {path: each.suggest(_Given(params), path) for path, each in self.ranges.items() if path in params}
        return told | {path: told[other] for path, other in self.ties.items() if other in told}

    def parameters(self, values: Values) -> dict[str, Any]:
        """Values as a study writes them."""
        return {path: each.parameter(values[path]) for path, each in self.ranges.items()}

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the values that each range gives to a grid, the default configuration first.

        Raises:
            SpecError: If they are too many for anyone to try.
        """
        columns = {path: list(each.grid()) for path, each in self.ranges.items()}
        count = math.prod(len(column) for column in columns.values())
        if count > _MOST_OF_A_GRID:
            raise SpecError(
                f"The grid has {count:,} points, and {_MOST_OF_A_GRID:,} is the most. Give wider steps or fewer ranges, or "
                "sample it: --sampler random, or tpe."
            )
        points = [dict(zip(columns, point, strict=True)) for point in itertools.product(*columns.values())]
        start = self.start()
        return [start, *(point for point in points if point != start)]

    def as_dict(self) -> dict[str, Any]:
        """Path -> its range, or the tie, in plain data."""
        told = {path: each.model_dump(mode="json", exclude_unset=True) for path, each in self.ranges.items()}
        return {**told, **{path: {"same_as": other} for path, other in self.ties.items()}}


class _Given:
    """A trial that proposes what it was."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params

    def suggest_float(self, name: str, *ends: float, **settings: Any) -> Any:
        """The parameter."""
        return self._params[name]

    def suggest_int(self, name: str, *ends: int, **settings: Any) -> Any:
        """The parameter."""
        return self._params[name]

    def suggest_categorical(self, name: str, values: Any) -> Any:
        """The parameter."""
        return self._params[name]


def space_of(data: Mapping[str, Any], source: str = "the spec") -> Space:
    """Find the ranges in a spec.

    Args:
        data: Plain data, as read from YAML.
        source: What messages call it.

    Returns:
        The space; its ``ranges`` are empty where the spec has none.

    Raises:
        SpecError: If a range is none, stands where all trials must be alike, or is tied to a place without one.
    """
    ranges: dict[str, Range] = {}
    ties: dict[str, str] = {}
    for path, value in _places(data, ""):
        found = range_of(value, f"{source}: {path}" if path else source)
        if found is None:
            continue
        part = path.split(".")[0]
        if part in _FIXED:
            raise SpecError(
                f"{source}: {path}: {_FIXED[part]}, so nothing in '{part}' can be searched. Write one value."
            )
        if isinstance(found, SameAs):
            ties[path] = found.same_as
        else:
            ranges[path] = found
    for path, other in ties.items():
        if other not in ranges:
            raise SpecError(
                f"{source}: {path}: same_as names the place of a range; there is none at '{other}'{nearest(other, ranges) or '.'} "
                f"Ranges stand at {listed(ranges) or 'no place'}."
            )
    return Space(data, ranges, ties)


def check_space(space: Space, spec_type: type[S], source: str = "the spec") -> S:
    """Refuse a space with a value that its place in the spec does not take.

    Args:
        space: Found in plain data.
        spec_type: What each trial must be.
        source: What messages call it.

    Returns:
        The spec of the default configuration.

    Raises:
        SpecError: If the default configuration is no spec, or an end of a range does not fit beside it; names the place.
    """
    found = parse(spec_type, space.filled(space.start()), f"{source}, each range at its default")
    for path, each in space.ranges.items():
        for value in each.probes():
            try:
                parse(spec_type, space.filled({**space.start(), path: value}), "as a trial")
            except SpecError as error:
                raise SpecError(
                    f"{source}: {path}: the range {short(_plain(each), limit=100)} has the value {short(value)}, which does not "
                    f"fit: {error}"
                ) from None
    return found


def with_ranges(data: Mapping[str, Any], ranges: Mapping[str, Any], complete: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data of a spec with ranges put into it.

    Args:
        data: Plain data, as a file has it.
        ranges: Path -> the range, or the tie, as a file writes it.
        complete: The same spec with every default written out: a part that the file leaves out is taken from there.
    """
    found = deepcopy(dict(data))
    for path, each in ranges.items():
        _put(found, path, dict(each), complete)
    return found


def group_of(path: str) -> str:
    """Which part of the model a place belongs to: a tower, the backbone, a head, a member; else the part of the spec.

    Args:
        path: Of a range.

    Example:
        >>> group_of("model.query.towers.words.dim"), group_of("model.candidate.dim"), group_of("training.optimizer.lr")
        ('query.words', 'candidate', 'training')
        >>> group_of("model.backbone.dim"), group_of("model.members.text.towers.text.dim"), group_of("objective.loss.temperature")
        ('backbone', 'text.text', 'objective')
    """
    parts = path.split(".")
    if parts[0] != "model" or len(parts) < 3:
        return parts[0]
    kept, rest = [], parts[1:]
    while rest and rest[0] in ("query", "candidate", "candidates", "towers", "heads", "members"):
        head, *rest = rest
        if head in ("query", "candidate"):
            kept.append(head)
        elif rest:
            kept.append(f"{rest[0]} (head)" if head == "heads" else rest[0])
            rest = rest[1:]
    if rest and rest[0] in ("backbone", "match", "combine") and len(parts) > 2:
        kept.append(rest[0])
    return ".".join(kept) or "model"


def _plain(each: Range) -> Any:
    return each.model_dump(mode="json", exclude_unset=True)


def _places(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every place of plain data, from the outside in; nothing inside of a range."""
    yield path, value
    if isinstance(value, Mapping):
        if range_of(value, path) is not None:
            return
        for key, inner in value.items():
            yield from _places(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _places(inner, f"{path}.{place}")


def _put(data: Any, path: str, value: Any, complete: Any = None) -> None:
    """Set a place of plain data; a part that is not there is copied from the complete spec, or made."""
    *parents, last = path.split(".")
    for key in parents:
        place: Any = int(key) if isinstance(data, list) else key
        complete = _inner(complete, key)
        if isinstance(data, dict) and data.get(place) is None:
            data[place] = {} if complete is None else deepcopy(complete)
        data = data[place]
    data[int(last) if isinstance(data, list) else last] = value


def _inner(value: Any, key: str) -> Any:
    """What stands under a key or a position; None where nothing does."""
    if isinstance(value, list | tuple):
        return value[int(key)] if int(key) < len(value) else None
    return value.get(key) if isinstance(value, Mapping) else None
