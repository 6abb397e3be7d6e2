"""The menu of splits: how example rows become training, validation and test rows."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from towerkit.core.spec import Spec

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
TimeMissing = Literal["refuse", "drop", "train"]
S = TypeVar("S", "TimeSplit", "RandomSplit", "GroupedSplit")


def _leave_training_rows(split: S) -> S:
    if split.validation + split.test >= 1.0:
        raise ValueError(
            "validation and test together must be below 1, so that rows are left for training; received "
            f"validation {split.validation} and test {split.test}. Lower one of the two."
        )
    return split


class TimeSplit(Spec):
    """Everything after a moment is test, the stretch before it validation."""

    kind: Literal["time"] = "time"
    validation: Fraction = 0.1
    test: Fraction = 0.1
    time_missing: TimeMissing = "refuse"
    """What happens to a row without a time; shares count the rows that have one."""

    _rows_are_left = model_validator(mode="after")(_leave_training_rows)


class PerQuerySplit(Spec):
    """A share of every query's rows; at least one row of each query stays in training."""

    kind: Literal["per_query"] = "per_query"
    validation: Fraction = 0.1
    test: Fraction = 0.0
    take: Literal["random", "last"] = "random"
    """Which rows of a query are held out: any, or its last ones, by the time column, without one by the order of the table."""


class LeaveLastSplit(Spec):
    """Each query's last row is test and the one before it validation; one row of each query stays in training."""

    kind: Literal["leave_last"] = "leave_last"
    validation: bool = True
    test: bool = True
    position: str | None = None
    """Column with the order of a query's rows; the time column when not given."""
    time_missing: TimeMissing = "refuse"
    """What happens to a row without a time (or position)."""

    @model_validator(mode="after")
    def _something_is_held_out(self) -> LeaveLastSplit:
        if not (self.validation or self.test):
            raise ValueError("leave_last holds out validation, test or both; received false for both. Set one to true.")
        return self


class RandomSplit(Spec):
    """A random share of all rows."""

    kind: Literal["random"] = "random"
    validation: Fraction = 0.1
    test: Fraction = 0.1

    _rows_are_left = model_validator(mode="after")(_leave_training_rows)


class GroupedSplit(Spec):
    """A random share of the groups; all rows of a group fall on one side."""

    kind: Literal["grouped"] = "grouped"
    column: str | None = None
    """Column whose equal values make a group; the query column when not given."""
    validation: Fraction = 0.1
    test: Fraction = 0.1

    _rows_are_left = model_validator(mode="after")(_leave_training_rows)


class GivenSplit(Spec):
    """As the data says: validation and test tables given apart, or a column with the words train, validation and test."""

    kind: Literal["given"] = "given"
    column: str | None = None
    """Column that says the part of each row."""
    validation: Fraction = 0.0
    """A random share of the training rows, where the data gives no validation rows."""


AnySplit = TimeSplit | PerQuerySplit | LeaveLastSplit | RandomSplit | GroupedSplit | GivenSplit
SplitSpec = Annotated[AnySplit, Field(discriminator="kind")]
"""The menu of splits."""
