"""What may stand in a spec in place of a value: a choice, a range of whole numbers or of numbers, or the value of another place."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from towerkit.core.errors import SpecError
from towerkit.core.spec import Spec, parse, short

GRID = 5
"""Points of a range without a ``step`` in a grid."""
_DIGITS = 4
"""Of a number that is drawn: nobody tunes a learning rate to the fifth."""


class Range(Spec):
    """What a place of a spec may be."""

    @property
    @abstractmethod
    def start(self) -> Any:
        """The value of the default configuration."""

    @abstractmethod
    def probes(self) -> Sequence[Any]:
        """Values that must fit the place: both ends, and one between them where whole numbers would not do."""

    @abstractmethod
    def suggest(self, trial: Any, path: str) -> Any:
        """The value that a sampler proposes.

        Args:
            trial: An Optuna trial.
            path: The name of the parameter.
        """

    @abstractmethod
    def parameter(self, value: Any) -> Any:
        """A value as the study writes it."""

    @abstractmethod
    def grid(self) -> Sequence[Any]:
        """The values that a grid tries."""


class ChoiceRange(Range):
    """One of some values, of any kind: numbers, names, lists, whole parts."""

    choice: tuple[Any, ...] = Field(min_length=2)
    default: Any = None
    """The first one when not given."""

    @model_validator(mode="after")
    def _distinct_and_plain(self) -> ChoiceRange:
        texts = [_text(value) for value in self.choice]
        for place, text in enumerate(texts):
            if text in texts[:place]:
                raise ValueError(f"each value of a choice stands once; received {text} twice. Remove one of the two.")
        if any(_holds_range(value) for value in self.choice):
            raise ValueError(
                "a value of a choice holds no range of its own; list the values, or search that part by itself."
            )
        if "default" in self.model_fields_set and _text(self.default) not in texts:
            raise ValueError(f"the default {short(self.default)} is none of the values {short(list(self.choice))}.")
        return self

    @property
    def start(self) -> Any:
        """The default, or the first value."""
        return self.default if "default" in self.model_fields_set else self.choice[0]

    def probes(self) -> Sequence[Any]:
        """All of them."""
        return self.choice

    def suggest(self, trial: Any, path: str) -> Any:
        """One of them."""
        return json.loads(trial.suggest_categorical(path, [_text(value) for value in self.choice]))

    def parameter(self, value: Any) -> Any:
        """As JSON, since a study knows no lists."""
        return _text(value)

    def grid(self) -> Sequence[Any]:
        """All of them."""
        return self.choice


class IntRange(Range):
    """Whole numbers from the first to the last, both included."""

    ends: tuple[int, int] = Field(alias="int")
    log: bool = False
    """Steps are factors: as much between 16 and 32 as between 128 and 256."""
    step: int = Field(1, ge=1)
    default: int | None = None
    """The middle when not given."""

    @model_validator(mode="after")
    def _some_numbers(self) -> IntRange:
        _check_ends("int", self.ends, log=self.log)
        if self.log and self.step != 1:
            raise ValueError("'log' and 'step' go apart; remove one of the two.")
        _check_default(self.default, self.ends)
        if self.default is not None and (self.default - self.ends[0]) % self.step:
            raise ValueError(f"the default {self.default} is not {self.ends[0]} and some steps of {self.step}.")
        return self

    @property
    def start(self) -> int:
        """The default, or the middle."""
        return self._at(0.5) if self.default is None else self.default

    def probes(self) -> Sequence[int]:
        """Both ends."""
        return (self.ends[0], self._at(1.0))

    def suggest(self, trial: Any, path: str) -> int:
        """Any of them."""
        return int(trial.suggest_int(path, *self.ends, log=self.log, step=self.step))

    def parameter(self, value: Any) -> Any:
        """As it is."""
        return value

    def grid(self) -> Sequence[int]:
        """All of a range with a step, else a few from end to end."""
        if "step" in self.model_fields_set:
            return range(self.ends[0], self.ends[1] + 1, self.step)
        return sorted({self._at(place / (GRID - 1)) for place in range(GRID)})

    def _at(self, share: float) -> int:
        """The number at a share of the way from end to end."""
        low, high = self.ends
        found = round(_between(low, high, share, log=self.log))
        return low + (found - low) // self.step * self.step


class FloatRange(Range):
    """Numbers from the first to the last."""

    ends: tuple[float, float] = Field(alias="float")
    log: bool = False
    """Steps are factors: as much between 0.001 and 0.01 as between 0.01 and 0.1."""
    step: float | None = Field(None, gt=0.0)
    default: float | None = None
    """The middle when not given."""

    @model_validator(mode="after")
    def _some_numbers(self) -> FloatRange:
        _check_ends("float", self.ends, log=self.log)
        if self.log and self.step is not None:
            raise ValueError("'log' and 'step' go apart; remove one of the two.")
        if self.step is not None and self.step > self.ends[1] - self.ends[0]:
            raise ValueError(f"a step of {self.step:g} leaves one value of {list(self.ends)}; write that value.")
        _check_default(self.default, self.ends)
        return self

    @property
    def start(self) -> float:
        """The default, or the middle."""
        return self._at(0.5) if self.default is None else self.default

    def probes(self) -> Sequence[float]:
        """Both ends, and what no whole number is."""
        return (self.ends[0], self.ends[1], self._at(0.5432))

    def suggest(self, trial: Any, path: str) -> float:
        """Any of them, to four digits; the default with all that it has."""
        found = float(trial.suggest_float(path, *self.ends, log=self.log, step=self.step))
        return found if found == self.start else self._rounded(found)

    def parameter(self, value: Any) -> Any:
        """As it is."""
        return value

    def grid(self) -> Sequence[float]:
        """All of a range with a step, else a few from end to end."""
        if self.step is None:
            return [self._at(place / (GRID - 1)) for place in range(GRID)]
        low, high = self.ends
        return [
            self._rounded(low + place * self.step) for place in range(math.floor((high - low) / self.step + 1e-9) + 1)
        ]

    def _at(self, share: float) -> float:
        low, high = self.ends
        found = _between(low, high, share, log=self.log)
        if self.step is not None:
            found = low + math.floor((found - low) / self.step + 1e-9) * self.step
        return self._rounded(found)

    def _rounded(self, value: float) -> float:
        return min(max(float(f"{value:.{_DIGITS}g}"), self.ends[0]), self.ends[1])


class SameAs(Spec):
    """The value of another place, for what must agree, such as the widths of both sides."""

    same_as: str


_KINDS: Mapping[str, type[Range] | type[SameAs]] = {
    "choice": ChoiceRange,
    "int": IntRange,
    "float": FloatRange,
    "same_as": SameAs,
}


def range_of(value: Any, where: str) -> Range | SameAs | None:
    """The range that stands at a place of a spec, or None where a value or a part does.

    Args:
        value: What stands there. A part whose *name* is ``int`` or the like holds a mapping under it, and is none.
        where: The place, for messages.

    Raises:
        SpecError: If it is a range that has an unknown key, no values, or ends that are none.
    """
    if not isinstance(value, Mapping):
        return None
    told = [key for key in _KINDS if key in value and not isinstance(value[key], Mapping)]
    if not told:
        return None
    if len(told) > 1:
        raise SpecError(
            f"{where}: a range is one of 'choice', 'int', 'float' and 'same_as'; received {short(dict(value))}."
        )
    try:
        return parse(_KINDS[told[0]], dict(value), where)
    except SpecError as error:
        raise SpecError(str(error).replace(": the top level: ", ": ")) from None


def _holds_range(value: Any) -> bool:
    if isinstance(value, Mapping):
        is_range = any(key in value and not isinstance(value[key], Mapping) for key in _KINDS)
        return is_range or any(map(_holds_range, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_range, value))


def _text(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"a value of a choice is a number, a text, a list or a part; received {short(value)}."
        ) from None


def _check_ends(kind: str, ends: tuple[float, float], *, log: bool) -> None:
    low, high = ends
    if low >= high:
        advice = "write the value itself" if low == high else f"write {{{kind}: [{high:g}, {low:g}]}}"
        raise ValueError(
            f"a range goes from a lower end to a higher one; received [{low:g}, {high:g}], which is empty: {advice}."
        )
    if log and low <= 0:
        raise ValueError(f"'log' needs ends above 0; received [{low:g}, {high:g}].")


def _check_default(default: float | None, ends: tuple[float, float]) -> None:
    if default is not None and not ends[0] <= default <= ends[1]:
        raise ValueError(f"the default {default:g} lies outside of [{ends[0]:g}, {ends[1]:g}].")


def _between(low: float, high: float, share: float, *, log: bool) -> float:
    if log:
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return low + share * (high - low)
