"""Values by their hash: no vocabulary, any number of distinct values, also crosses of several columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.random import random_bits
from towerkit.data.batch import Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, FeatureSpec, State, as_text

_CHUNK_BYTES = 1 << 20
"""Bytes of text that are hashed at a time; each takes some 50 bytes of working memory."""


@dataclass(frozen=True)
class HashedFeature(CodedFeature):
    """``[rows]`` int64 codes: 0 where a value is missing, else a bucket from 1, also for values never seen."""

    name: str
    columns: tuple[str, ...]
    buckets: int

    @property
    def num_codes(self) -> int:
        """The buckets and the missing value."""
        return self.buckets + 1

    def encode(self, table: pa.Table) -> Column:
        """Buckets of the values; of several columns, buckets of their values together."""
        mixed = np.zeros(table.num_rows, np.uint64)
        known = np.ones(table.num_rows, bool)
        for place, column in enumerate(self.columns):
            texts = as_text(values_of(table, column))
            known &= texts.is_valid().to_numpy(zero_copy_only=False)
            mixed = random_bits(place, mixed ^ text_hashes(texts))  # in order: ("a", "b") is not ("b", "a")
        codes = (mixed % np.uint64(self.buckets)).astype(np.int64) + 1
        return torch.from_numpy(np.where(known, codes, 0))

    def state(self) -> State:
        """Nothing beside the spec."""
        return State({})

    def sample(self) -> Mapping[str, Any]:
        """The number 1, which every other feature of the columns can read too."""
        return dict.fromkeys(self.columns, 1.0)


class HashedSpec(FeatureSpec):
    """A column, or a cross of several, as buckets of a hash; nothing is learned from the rows.

    A cross with a missing part is missing: what the other parts say stands in their own columns.
    """

    kind: Literal["hashed"] = "hashed"
    columns: tuple[str, ...] = Field(min_length=1)
    buckets: int = Field(4096, ge=2, le=2**24)

    def column_names(self) -> tuple[str, ...]:
        """The columns."""
        return self.columns

    def fit(self, table: pa.Table) -> HashedFeature:
        """See that the columns are there and hold what can be hashed."""
        for column in self.columns:
            as_text(values_of(table, column))
        return self.restore(State({}))

    def restore(self, state: State) -> HashedFeature:
        """Rebuild from the spec alone."""
        one = len(self.columns) == 1
        what = f"hashed-{self.buckets}:{self.columns[0]}" if one else f"crossed-{self.buckets}:{self.columns!r}"
        return HashedFeature(what, self.columns, self.buckets)


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """64 bits of each text, the same on every machine; each distinct text is hashed once.

    Args:
        texts: ``[rows]`` strings; a missing one gets some number too.

    Example:
        >>> first, second, third = text_hashes(pa.array(["ab", "ba", "ab"]))
        >>> bool(first == third != second)
        True
    """
    coded = texts.dictionary_encode()
    distinct = np.append(_hashes(coded.dictionary), np.uint64(0))
    places = coded.indices.fill_null(len(distinct) - 1).to_numpy(zero_copy_only=False)
    return distinct[places]


def _hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """The sum over a text's bytes of 64 random bits for each byte at its place, mixed once more."""
    found = np.empty(len(texts), np.uint64)
    _, ends, data = texts.buffers()
    if not len(texts):
        return found
    offsets = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    for start, stop in _chunks(offsets):
        own = offsets[start : stop + 1]
        place = np.arange(own[0], own[-1]) - np.repeat(own[:-1], np.diff(own))  # [bytes] of each byte in its text
        counters = (place.astype(np.uint64) << np.uint64(8)) | content[own[0] : own[-1]]
        sums = np.append(np.uint64(0), np.cumsum(random_bits(0, counters)))  # modulo 2**64, so differences are exact
        found[start:stop] = sums[own[1:] - own[0]] - sums[own[:-1] - own[0]]
    return random_bits(1, found)


def _chunks(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of texts with about :data:`_CHUNK_BYTES` each; a longer text stands alone."""
    start, last = 0, len(offsets) - 1
    while start < last:
        stop = int(np.searchsorted(offsets, offsets[start] + _CHUNK_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), last)
        yield start, stop
        start = stop
