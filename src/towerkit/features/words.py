"""Texts as sequences of hashed words, for encoders that look at their order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from towerkit.core.random import random_bits
from towerkit.data.batch import Bag, Column
from towerkit.data.table import values_of
from towerkit.features.base import CodedFeature, FeatureSpec, State
from towerkit.features.ngrams import MAX_CHARACTERS, word_hash
from towerkit.features.text import read_together

_WORD = re.compile(r"\w+|[!?]")


class WordsSpec(FeatureSpec):
    """The first words of some text columns, read one after the other."""

    kind: Literal["words"] = "words"
    columns: tuple[str, ...]
    buckets: int = Field(65536, ge=2, le=2**31)
    words: int = Field(128, ge=1, le=4096)
    """Those behind are left out."""

    def column_names(self) -> tuple[str, ...]:
        """The text columns."""
        return self.columns

    def fit(self, table: pa.Table) -> WordsFeature:
        """Nothing is learned: a hash needs no vocabulary."""
        for name in self.columns:
            values_of(table, name)
        return self.restore(State({}))

    def restore(self, state: State) -> WordsFeature:
        """Rebuild from the spec alone."""
        name = f"words:{'+'.join(self.columns)}:{self.buckets}:{self.words}"
        return WordsFeature(name, self.columns, self.buckets, self.words)


@dataclass(frozen=True)
class WordsFeature(CodedFeature):
    """A :class:`Bag` per row: the words in their order, each with weight 1; empty where there is no word."""

    name: str
    columns: tuple[str, ...]
    buckets: int
    words: int

    @property
    def num_codes(self) -> int:
        """Buckets."""
        return self.buckets

    def encode(self, table: pa.Table) -> Column:
        """Hash the words of every row."""
        rows = [
            _WORD.findall((text or "")[:MAX_CHARACTERS].lower())[: self.words]
            for text in read_together(table, self.columns)
        ]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        hashes = np.fromiter((word_hash(word) for row in rows for word in row), np.uint64, offsets[-1])
        codes = (random_bits(0, hashes) % np.uint64(self.buckets)).astype(np.int64)
        return Bag(torch.from_numpy(codes), torch.from_numpy(offsets), torch.ones(len(codes)))

    def state(self) -> State:
        """Nothing beside the spec."""
        return State({})

    def sample(self) -> Mapping[str, Any]:
        """A short text."""
        return dict.fromkeys(self.columns, "a short golden request")
