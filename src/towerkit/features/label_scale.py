"""The unit that a number is learned in: standardized, of its logarithm where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerkit.core.errors import DataError
from towerkit.features.columns import check_spread, numbers

Transform = Literal["none", "log"]
Form = Literal["none", "log", "count"]
"""What a number is: any; one of 0 or more that is learned by its logarithm; how often something happened."""
_LEAST = 1e-3
"""Of the mean: a count that a straight line puts at nothing or below is expected so often."""
_MOST = 700.0
"""The exponential of more is no finite number."""


@dataclass(frozen=True)
class Scale:
    """A number in its own unit, and as the model sees it: ``(f(y) - mean) / deviation`` with ``f(y) = y`` or ``log(1 + y)``."""

    mean: float
    deviation: float
    transform: Form = "none"

    @classmethod
    def fit(cls, column: str, values: pa.Array, transform: Form) -> Scale:
        """Mean and deviation of the labels of the training rows.

        Args:
            column: The label column.
            values: ``[rows]`` numbers; null where missing.
            transform: What is done to a number first.

        Raises:
            DataError: If a value is no number, negative for a logarithm, no count, or there are not two different ones.
        """
        found = label_numbers(column, values, transform)
        known = found[~np.isnan(found)]
        if not len(known):
            raise DataError(f"The label column '{column}' has no value in the training rows; a task needs labels.")
        if (known == known[0]).all():
            raise DataError(
                f"The label column '{column}' holds one value only ({known[0]:g}) in the {len(values):,} training rows; "
                "there is nothing to learn. Choose another column, or more rows."
            )
        size = float(np.abs(known).max())  # the squares of huge numbers would be infinite
        inside = np.log1p(known) if transform == "log" else known / size
        unit = 1.0 if transform == "log" else size
        return cls(float(inside.mean() * unit), float(inside.std() * unit) or 1.0, transform)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scale:
        """The inverse of :meth:`as_dict`.

        Raises:
            ValueError: If mean or deviation is no finite number, or the deviation not above 0.
        """
        check_spread(data["mean"], data["deviation"])
        return cls(**data)

    def inside(self, values: Tensor) -> Tensor:
        """Numbers in their own unit as the model sees them."""
        return ((torch.log1p(values) if self.transform == "log" else values) - self.mean) / self.deviation

    def outside(self, values: Tensor) -> Tensor:
        """The inverse of :meth:`inside`; finite, of a logarithm not negative, and of a count above 0.

        Example:
            >>> scale = Scale(1.0, 2.0, "log")
            >>> round(scale.outside(scale.inside(torch.tensor([19.0], dtype=torch.float64))).item(), 9)
            19.0
        """
        plain = values * self.deviation + self.mean
        if self.transform == "count":
            return plain.clamp(min=_LEAST * self.mean)
        return torch.expm1(plain.clamp(min=0.0, max=_MOST)) if self.transform == "log" else plain

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"mean": self.mean, "deviation": self.deviation, "transform": self.transform}


def label_numbers(column: str, values: pa.Array, transform: Form) -> NDArray[np.float64]:
    """Labels as float64, NaN where missing.

    Args:
        column: The label column.
        values: ``[rows]``.
        transform: What they are, and what will be done to them.

    Raises:
        DataError: If a value is no finite number, negative for a logarithm, or no count; names column, row and value.
    """
    if pa.types.is_nested(values.type):
        raise DataError(
            f"The label column '{column}' holds lists or records ({values.type}); a regression needs one number per row. "
            "Make a column of each number."
        )
    found = numbers(values, column)
    bad = (found < 0) | (found != np.floor(found)) & ~np.isnan(found)
    if transform == "count" and bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"The label column '{column}' is a count, which is a whole number of 0 or more; row {row + 1} has {found[row]:g} "
            f"({int(bad.sum()):,} such rows). Correct the value, or use kind: regression."
        )
    if transform == "log" and (found < 0).any():
        row = int((found < 0).argmax())
        raise DataError(
            f"The label column '{column}' is learned as log(1 + value), which needs numbers of 0 or more; row {row + 1} has "
            f"{found[row]:g} ({int((found < 0).sum()):,} such rows). Correct the value, or set transform: none in its head."
        )
    return found
