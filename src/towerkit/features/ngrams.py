"""Text to a bag of hashed word n-grams: no download, no vocabulary, any language with spaces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
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
_CHUNK = 4096
"""Rows whose n-grams are held at a time."""
MAX_CHARACTERS = 20_000
"""A longer text is cut: its first pages say what it is about, and a megabyte in one cell must not stall a batch."""


class NgramsSpec(FeatureSpec):
    """Hashed word n-grams of some text columns, read one after the other."""

    kind: Literal["ngrams"] = "ngrams"
    columns: tuple[str, ...]
    buckets: int = Field(65536, ge=2, le=2**31)
    longest: int = Field(2, ge=1, le=5)
    """The longest n-gram, in words."""
    together: bool = False
    """A word counts the same in each of the columns; else it is another word in each."""

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
        name = f"ngrams:{'+'.join(self.columns)}:{self.buckets}:{self.longest}{':together' if self.together else ''}"
        return NgramsFeature(name, self.columns, self.buckets, self.longest, self.together)


@dataclass(frozen=True)
class NgramsFeature(Feature):
    """A :class:`Bag` per row: each distinct n-gram once, weighted so that the squares sum to one; empty where no text."""

    name: str
    columns: tuple[str, ...]
    buckets: int
    longest: int
    together: bool = False

    def encode(self, table: pa.Table) -> Column:
        """Hash every n-gram of every row."""
        texts = [as_text(values_of(table, name)) for name in self.columns]
        chunks = [
            _ngrams_of_rows(
                [column.slice(start, _CHUNK).to_pylist() for column in texts],
                self.buckets,
                self.longest,
                together=self.together,
            )
            for start in range(0, table.num_rows, _CHUNK)
        ]
        counts = np.concatenate([np.empty(0, np.int64), *(counts for _, counts in chunks)])
        codes = np.concatenate([np.empty(0, np.int64), *(codes for codes, _ in chunks)])
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
    return _ngrams_of_rows([[text] for text in parts], buckets, longest)[0]


def _ngrams_of_rows(
    columns: list[list[str | None]], buckets: int, longest: int, *, together: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sorted distinct codes of each row, one row after the other, and how many each row has."""
    num_rows = len(columns[0])
    found = [np.empty(0, np.uint64)]
    for place, texts in enumerate(columns):
        words = [_WORD.findall(text[:MAX_CHARACTERS].lower()) if text else [] for text in texts]
        owner = np.repeat(np.arange(num_rows, dtype=np.uint64), [len(own) for own in words])  # [words] their row
        hashes = np.fromiter(map(word_hash, chain.from_iterable(words)), np.uint64, len(owner))
        gram = hashes  # of the n-grams that begin at each word; those that cross into the next row are left out
        for length in range(1, longest + 1):
            if length > 1:
                gram = random_bits(length, gram[:-1] ^ (hashes[length - 1 :] >> np.uint64(1)))
            row = owner[: len(gram)]
            codes = random_bits(0 if together else place, gram) % np.uint64(buckets)
            found.append((row * np.uint64(buckets) + codes)[row == owner[length - 1 :]])
    keys = np.sort(np.concatenate(found))
    is_first = np.ones(len(keys), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    row, codes = np.divmod(keys[is_first], np.uint64(buckets))
    return codes.astype(np.int64), np.bincount(row.astype(np.int64), minlength=num_rows)


@lru_cache(maxsize=1 << 18)
def word_hash(word: str) -> int:
    """64 bits of a word, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
