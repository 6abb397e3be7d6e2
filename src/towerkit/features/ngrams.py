"""Text to a bag of hashed word n-grams: no download, no vocabulary, any language with spaces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field

from towerkit.core.random import random_bits
from towerkit.data.batch import Bag, Column
from towerkit.data.table import values_of
from towerkit.features.base import Feature, FeatureSpec, State, as_text

_WORD = re.compile(r"\w+|[!?]")
MAX_CHARACTERS = 20_000
"""A longer text is cut: its first pages say what it is about, and a megabyte in one cell must not stall a batch."""


class NgramsSpec(FeatureSpec):
    """Hashed word n-grams of some text columns, read one after the other."""

    kind: Literal["ngrams"] = "ngrams"
    columns: tuple[str, ...]
    buckets: int = Field(65536, ge=2, le=2**31)
    longest: int = Field(2, ge=1, le=5)
    """The longest n-gram, in words."""

    def column_names(self) -> tuple[str, ...]:
        """The text columns."""
        return self.columns

    def fit(self, table: pa.Table) -> NgramsFeature:
        """Nothing is learned: a hash needs no vocabulary."""
        for name in self.columns:
            values_of(table, name)
        return self.restore(State({}))

    def restore(self, state: State) -> NgramsFeature:
        """Rebuild from the spec alone."""
        name = f"ngrams:{'+'.join(self.columns)}:{self.buckets}:{self.longest}"
        return NgramsFeature(name, self.columns, self.buckets, self.longest)


@dataclass(frozen=True)
class NgramsFeature(Feature):
    """A :class:`Bag` per row: each distinct n-gram once, weighted so that the squares sum to one; empty where no text."""

    name: str
    columns: tuple[str, ...]
    buckets: int
    longest: int

    def encode(self, table: pa.Table) -> Column:
        """Hash every n-gram of every row."""
        texts = [as_text(values_of(table, name)).to_pylist() for name in self.columns]
        rows = [hashed_ngrams(parts, self.buckets, self.longest) for parts in zip(*texts, strict=True)]
        counts = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        codes = np.concatenate(rows) if rows else np.empty(0, np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        weights = np.repeat(1.0 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)
        return Bag(torch.from_numpy(codes), torch.from_numpy(offsets), torch.from_numpy(weights))

    def state(self) -> State:
        """Nothing beside the spec."""
        return State({})

    def sample(self) -> Mapping[str, Any]:
        """A short text."""
        return dict.fromkeys(self.columns, "a short golden request")


def hashed_ngrams(parts: tuple[str | None, ...], buckets: int, longest: int) -> NDArray[np.int64]:
    """The sorted distinct codes of the word n-grams of some texts; n-grams never cross from one text to the next.

    Example:
        >>> len(hashed_ngrams(("Soft, soft wool",), 1 << 20, 2))       # soft, wool, soft soft, soft wool
        4
        >>> len(hashed_ngrams((None, ""), 1 << 20, 2))
        0
    """
    found = []
    for place, text in enumerate(parts):
        words = _WORD.findall(text[:MAX_CHARACTERS].lower()) if text else []
        hashes = np.fromiter((word_hash(word) for word in words), np.uint64, len(words))
        gram = hashes
        for length in range(1, longest + 1):
            if length > 1:
                gram = random_bits(length, gram[:-1] ^ (hashes[length - 1 :] >> np.uint64(1)))
            found.append(random_bits(place, gram) % np.uint64(buckets))
    return np.unique(np.concatenate(found)).astype(np.int64) if found else np.empty(0, np.int64)


@lru_cache(maxsize=1 << 18)
def word_hash(word: str) -> int:
    """64 bits of a word, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
