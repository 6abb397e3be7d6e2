"""What kinds of event weigh: a view 1, a cart 3, a purchase 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from towerkit.core.errors import DataError, listed, nearest
from towerkit.core.spec import Spec
from towerkit.data.table import Table, require_columns, shown, values_of


class EventSpec(Spec):
    """A column that says what happened, and what each kind of event weighs in the loss."""

    column: str
    weights: dict[str, Annotated[float, Field(ge=0.0)]] = Field(min_length=1)
    """Kind of event -> weight; rows of weight 0 are left out."""
    others: Literal["refuse", "drop"] = "refuse"
    """What happens to a row whose kind of event is not listed, or missing."""

    @field_validator("weights", mode="before")
    @classmethod
    def _kinds_are_texts(cls, weights: Any) -> Any:
        """A kind may look like a number or a boolean in YAML; in the column it is compared as text."""
        return {_key(kind): weight for kind, weight in weights.items()} if isinstance(weights, Mapping) else weights

    @field_validator("weights")
    @classmethod
    def _something_is_left(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError(f"every kind of event weighs 0, so no row would be left; received {weights}.")
        return weights

    def weigh(self, table: Table) -> NDArray[np.float64]:
        """The weight of each row's event; 0 for one that is left out.

        Args:
            table: The rows.

        Returns:
            ``[rows]``.

        Raises:
            DataError: If the column is missing or holds no kinds, or a kind is not listed and ``others`` is ``refuse``.
        """
        require_columns([self.column], table.data.column_names, table.name)
        kinds = self._kinds(table)
        place = pc.index_in(kinds, value_set=pa.array(self.weights, pa.string()), skip_nulls=True)
        places = np.asarray(pc.fill_null(place, -1).to_numpy(zero_copy_only=False), np.int64)
        unlisted = np.flatnonzero(places < 0)
        if len(unlisted) and self.others == "refuse":
            row = int(unlisted[0])
            kind = kinds[row].as_py()
            raise DataError(
                f"{table.where(row)}: the column '{self.column}' holds {shown(kind)}, which has no weight "
                f"({len(unlisted):,} such rows){nearest(kind, self.weights) or '.'} Listed are {listed(self.weights)}. "
                "List it in event.weights (0 leaves it out), or set event.others to drop."
            )
        return np.array([*self.weights.values(), 0.0])[places]

    def _kinds(self, table: Table) -> pa.Array:
        values = values_of(table.data, self.column)
        try:
            if pa.types.is_floating(values.type):  # whole numbers beside missing ones
                values = values.cast(pa.int64())
            return values.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise DataError(
                f"{table.where(0)}: the event column '{self.column}' holds {values.type} such as "
                f"{shown(values[0].as_py())}; a kind of event is a text, a whole number or true and false. "
                "Choose another column."
            ) from None


def _key(kind: Any) -> Any:
    if isinstance(kind, bool):
        return str(kind).lower()
    return str(kind) if isinstance(kind, int) else kind
