"""Texts as counts of words: the columns that are read, the words of a row, and the index of a catalogue."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.data.schema import infer_schema
from towerkit.data.table import Table, values_of
from towerkit.features.base import as_text
from towerkit.features.encoded import Catalogue
from towerkit.features.ngrams import MAX_CHARACTERS

_WORD = re.compile(r"\w+")
_CHUNK = 4096
"""Rows whose texts are held at a time."""


@dataclass(frozen=True, eq=False)
class WordIndex:
    """How often each word stands in each candidate; row 0 is the unknown candidate, which has no word."""

    words: pa.Array
    """``[words]`` distinct, sorted by their UTF-8 bytes."""
    counts: csr_array
    """``[candidates + 1, words]``."""
    prefix: int | None = None
    """Words were cut to so many letters."""

    @classmethod
    def of(cls, table: Table, columns: Sequence[str], prefix: int | None = None) -> WordIndex:
        """Count the words of a catalogue.

        Args:
            table: ``[candidates]`` raw rows.
            columns: Their texts, read one after the other.
            prefix: Cut words to so many letters, which does for endings what a stemmer does; None leaves them whole.
        """
        found: dict[str, int] = {}
        counts = _counted(table, columns, prefix, lambda word: found.setdefault(word, len(found)))
        words = pa.array(list(found), pa.string())
        order = np.argsort(np.array([word.encode() for word in found], object), kind="stable")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        shape = (table.data.num_rows + 1, len(found))
        index = csr_array((counts.data, place[counts.indices], counts.indptr), shape=shape)
        index.sort_indices()
        return cls(words.take(pa.array(order)), index, prefix)

    def counts_of(self, table: Table, columns: Sequence[str]) -> csr_array:
        """``[rows + 1, words]`` of some raw rows; row 0 is a row without a text, and words that no candidate has are left out.

        Args:
            table: Raw rows.
            columns: Their texts.

        Raises:
            DataError: If a column is missing or holds lists.
        """
        known = {word: place for place, word in enumerate(self.words.to_pylist())}
        found = _counted(table, columns, self.prefix, lambda word: known.get(word, -1))
        kept = found.indices >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])[found.indptr]
        counts = csr_array(
            (found.data[kept], found.indices[kept], ends), shape=(table.data.num_rows + 1, len(self.words))
        )
        counts.sort_indices()
        return counts


def words_of(text: str, prefix: int | None = None) -> list[str]:
    """The words of a text: runs of letters, digits and underscores of any language, in lower case; no stop words.

    Example:
        >>> words_of("Wing-tip FLOWS, again")
        ['wing', 'tip', 'flows', 'again']
        >>> words_of("Wing-tip FLOWS", prefix=4)
        ['wing', 'tip', 'flow']
    """
    words = _WORD.findall(text[:MAX_CHARACTERS].lower())
    return words if prefix is None else [word[:prefix] for word in words]


def text_columns(catalogue: Catalogue) -> tuple[str, ...]:
    """The columns of a catalogue that hold texts, by the rules of :mod:`towerkit.data.column_types`; never its key.

    A column ``text`` is one even where its values look like categories: queries of a search are short.
    """
    schema = infer_schema(catalogue.table, {catalogue.key: "key"})
    return tuple(
        column.name
        for column in schema.columns
        if column.type == "text" or (column.name == "text" and column.type == "category")
    )


@dataclass(frozen=True)
class _Found:
    """A matrix of counts whose columns may be unsorted, or -1."""

    data: NDArray[np.int32]
    indices: NDArray[np.int64]
    indptr: NDArray[np.int64]


def _counted(table: Table, columns: Sequence[str], prefix: int | None, code: Callable[[str], int]) -> _Found:
    """The words of each row by their codes, behind a row without any."""
    texts = [as_text(values_of(table.data, name)) for name in columns]
    data, indices, ends = array("i"), array("q"), array("q", [0, 0])
    for start in range(0, table.data.num_rows, _CHUNK):
        pieces = [column.slice(start, _CHUNK).to_pylist() for column in texts]
        for row in zip(*pieces, strict=True):
            counts = Counter(chain.from_iterable(words_of(text, prefix) for text in row if text is not None))
            data.extend(counts.values())
            indices.extend(map(code, counts))
            ends.append(len(indices))
    return _Found(*(np.array(part, dtype=part.typecode) for part in (data, indices, ends)))
