"""Columns whose rows hold several categories each: lists, or texts with a separator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.errors import DataError
from towerkit.data.batch import Bag, Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, FeatureSpec, State, as_text
from towerkit.features.vocabulary import Vocabulary


@dataclass(frozen=True)
class MultiHotFeature(CodedFeature):
    """A :class:`Bag` per row: each known member once, with weight 1; empty where no member is known."""

    name: str
    column: str
    separator: str
    vocabulary: Vocabulary

    @property
    def num_codes(self) -> int:
        """The known members, and code 0, which no bag holds."""
        return len(self.vocabulary)

    @property
    def first_num_codes(self) -> int:
        """Those of the first fit."""
        return self.vocabulary.first_size + 1

    def encode(self, table: pa.Table) -> Column:
        """Codes of the members of each row, sorted; unknown members are left out."""
        rows, members = members_of(values_of(table, self.column), self.separator, self.column)
        codes = self.vocabulary.encode(members)
        keys = np.sort((rows * self.num_codes + codes)[codes > 0])
        rows, codes = np.divmod(keys[np.diff(keys, prepend=-1) > 0], self.num_codes)  # a repeated member counts once
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=table.num_rows))])
        return Bag(torch.from_numpy(codes), torch.from_numpy(offsets), torch.ones(len(codes)))

    def state(self) -> State:
        """The vocabulary."""
        return State({}, self.vocabulary)

    def sample(self) -> Mapping[str, Any]:
        """The first known member."""
        known = self.vocabulary.values
        return {self.column: known[0].as_py() if len(known) else None}


class MultiHotSpec(FeatureSpec):
    """A column of several categories per row; members that occur fewer than ``min_count`` times are unknown."""

    kind: Literal["multi_hot"] = "multi_hot"
    column: str
    separator: str = Field("|", min_length=1)
    """What stands between the members where they are text; spaces around a member do not count."""
    min_count: int = Field(2, ge=1)

    def column_names(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def fit(self, table: pa.Table) -> MultiHotFeature:
        """Know the members that are frequent enough."""
        _, members = members_of(values_of(table, self.column), self.separator, self.column)
        return self.restore(State({}, Vocabulary.fit(members, min_count=self.min_count)))

    def restore(self, state: State) -> MultiHotFeature:
        """Rebuild from the stored vocabulary."""
        name = f"multi_hot:{(self.column, self.separator, self.min_count)!r}"
        return MultiHotFeature(name, self.column, self.separator, state.known())


def members_of(values: pa.Array, separator: str, name: str) -> tuple[NDArray[np.int64], pa.Array]:
    """The members of all rows, one after the other, and the row of each; empty and missing members are left out.

    Args:
        values: ``[rows]`` lists, or values that are texts with a separator.
        separator: What stands between the members of a text.
        name: What to call the column in messages.

    Raises:
        DataError: If the members are lists themselves.

    Example:
        >>> rows, members = members_of(pa.array(["a | b", None, "b"]), "|", "x")
        >>> rows.tolist(), members.to_pylist()
        ([0, 0, 2], ['a', 'b', 'b'])
    """
    if is_list(values.type):
        if pa.types.is_nested(values.type.value_type):
            raise DataError(
                f"The column '{name}' must hold lists of plain values; it holds {values.type}. Flatten the inner lists."
            )
        members = as_text(pc.list_flatten(values))
    elif pa.types.is_nested(values.type):
        raise DataError(f"The column '{name}' must hold lists or texts; it holds {values.type}. Make a list of it.")
    else:
        values = pc.split_pattern(as_text(values), separator)
        members = pc.utf8_trim_whitespace(pc.list_flatten(values))
    rows = pc.list_parent_indices(values).to_numpy(zero_copy_only=False).astype(np.int64)
    is_member = pc.fill_null(pc.not_equal(members, ""), False)
    return rows[is_member.to_numpy(zero_copy_only=False)], members.filter(is_member)


def is_list(kind: pa.DataType) -> bool:
    """Whether values of this type are lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
