"""The distinct keys of a column, found batch by batch; the findings of several readers merge."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class Keys:
    """Distinct values in order of first appearance, each with the number of its rows; codes count from 0.

    Args:
        kind: Type of the values.

    Example:
        >>> keys = Keys(pa.string())
        >>> keys.add(pa.array(["b", "a", "b"])).tolist(), keys.counts.tolist()
        ([0, 1, 0], [2, 1])
    """

    def __init__(self, kind: pa.DataType) -> None:
        self.values: pa.Array = pa.array([], kind)
        self.counts: NDArray[np.int64] = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def add(self, values: pa.Array) -> NDArray[np.int32]:
        """Learn the values of a batch.

        Args:
            values: ``[rows]`` of the keys' type, none missing.

        Returns:
            ``[rows]`` their codes.
        """
        encoded = pc.dictionary_encode(values)
        places = encoded.indices.to_numpy()
        codes = self._codes(encoded.dictionary)
        self.counts += np.bincount(codes, np.bincount(places, minlength=len(codes)), len(self)).astype(np.int64)
        return codes[places]

    def merge(self, other: Keys) -> NDArray[np.int32]:
        """Learn what another reader found; its rows come behind the rows of this one.

        Args:
            other: Of the same type.

        Returns:
            ``[codes of the other]`` the code that each has here.
        """
        codes = self._codes(other.values)
        self.counts[codes] += other.counts
        return codes

    def _codes(self, distinct: pa.Array) -> NDArray[np.int32]:
        """``[values]`` codes of distinct values; those that are new get the next ones."""
        found = pc.index_in(distinct, value_set=self.values)
        codes = pc.fill_null(found, -1).to_numpy().astype(np.int32)
        new = codes < 0
        codes[new] = len(self) + np.arange(np.count_nonzero(new))
        self.values = pa.concat_arrays([self.values, distinct.filter(pa.array(new))])
        self.counts = np.pad(self.counts, (0, len(self.values) - len(self.counts)))
        return codes
