"""What a feature is: fitted on training rows, then a pure function from raw columns to a tensor column."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from towerkit.core.errors import DataError, RunError
from towerkit.core.spec import Spec
from towerkit.data.batch import Column
from towerkit.data.table import Table
from towerkit.features.vocabulary import Vocabulary
from towerkit.pretrained.folder import Pretrained


@dataclass(frozen=True)
class State:
    """A fitted feature as data: small values go to JSON, vocabularies to Arrow files, an encoder's files into a folder."""

    values: Mapping[str, Any]
    vocabulary: Vocabulary | None = None
    pretrained: Pretrained | None = None
    """The pretrained encoder that it reads by."""

    def known(self) -> Vocabulary:
        """The vocabulary.

        Raises:
            RunError: If the feature was stored without one.
        """
        if self.vocabulary is None:
            raise RunError(f"A stored feature lacks its vocabulary ({dict(self.values)}); train the Run again.")
        return self.vocabulary

    def encoder(self) -> Pretrained:
        """The pretrained encoder.

        Raises:
            RunError: If the feature was stored without one.
        """
        if self.pretrained is None:
            raise RunError(f"A stored feature lacks its pretrained encoder ({dict(self.values)}); train the Run again.")
        return self.pretrained


class Feature(ABC):
    """A fitted feature. Unknown and missing values have a place of their own in what it returns."""

    name: str
    """Its key in ``Batch.columns[entity]``; equal features of one entity share it."""

    @abstractmethod
    def encode(self, table: pa.Table) -> Column:
        """Raw rows to one tensor column, row for row."""

    def read(self, table: Table, *, kept: bool = False) -> Column:
        """Raw rows with what is known of their table to one column; features of files need to know where paths start.

        Args:
            table: The rows.
            kept: Whether what costs much may be kept on disk for the next training.
        """
        return self.encode(table.data)

    def portable(self, table: Table) -> Mapping[str, pa.ChunkedArray]:
        """Columns that stand for those of a table where its files are gone: what a Run holds in their place.

        Args:
            table: Rows that a Run will hold.
        """
        return {}

    @abstractmethod
    def state(self) -> State:
        """What :meth:`FeatureSpec.restore` needs to rebuild this feature."""

    @abstractmethod
    def sample(self) -> Mapping[str, Any]:
        """A made-up raw value for each column it reads, to build a request that holds no one's data."""


class CodedFeature(Feature):
    """A feature that gives codes: one per row, or a :class:`~towerkit.data.batch.Bag` of them."""

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """All codes lie in ``[0, num_codes)``; 0 is what cannot be known, where there is no bag."""

    @property
    def first_num_codes(self) -> int:
        """``num_codes`` before a vocabulary grew: widths that go by the number of codes keep to it."""
        return self.num_codes


class FeatureSpec(Spec):
    """Which columns a feature reads and how; ``fit`` makes the :class:`Feature`."""

    def column_names(self) -> tuple[str, ...]:
        """The raw columns it reads."""
        raise NotImplementedError

    def fit(self, table: pa.Table) -> Feature:
        """Fit on training rows only.

        Args:
            table: Rows of the entity that occur in training.
        """
        raise NotImplementedError

    def restore(self, state: State) -> Feature:
        """Rebuild a fitted feature from its state."""
        raise NotImplementedError


def as_text(values: pa.Array) -> pa.Array:
    """Values as strings, as a person would write them: ``3.0`` and ``3`` are the same category.

    Each value by itself: what stands beside it, in training or in a request, must not change its text.

    Raises:
        DataError: If the values are lists or records.

    Example:
        >>> as_text(pa.array([3.0, 2.5, 1e12])).to_pylist()
        ['3', '2.5', '1000000000000']
    """
    if pa.types.is_nested(values.type):
        raise DataError(
            f"Lists and records ({values.type}) cannot be read as texts; give one text, number or yes-or-no per row, "
            "or read a list as multi_hot in a table tower."
        )
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.cast(pc.if_else(whole, values, None), pa.int64())  # -0.0 becomes 0
        return pc.coalesce(pc.cast(integers, pa.string()), pc.cast(values, pa.string()))
    if pa.types.is_binary(values.type):
        coded = values.dictionary_encode()  # bytes need not be UTF-8
        texts = [value.decode("utf-8", "backslashreplace") for value in coded.dictionary.to_pylist()]
        return pa.array(texts, pa.string()).take(coded.indices)
    return values if pa.types.is_string(values.type) else pc.cast(values, pa.string())
