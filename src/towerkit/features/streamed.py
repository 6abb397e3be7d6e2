"""A streamed log as a training reads it: fitted ids and catalogues in memory, pairs on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from towerkit.data.splits import Rows
from towerkit.data.stream.arrays import let_go
from towerkit.data.stream.learned import LearnedPairs
from towerkit.data.stream.log import Log
from towerkit.data.table import Table
from towerkit.features.columns import IdSpec
from towerkit.features.encoded import Catalogue, Encoded
from towerkit.features.encoder import Demand, Encoder, Fitted


@dataclass(frozen=True, eq=False)
class StoredIndex:
    """One side of the pairs on disk; what is looked at is read."""

    column: NDArray[np.int32]
    """``[examples]``."""

    def __getitem__(self, examples: Rows, /) -> NDArray[np.int64]:
        return self.column[examples].astype(np.int64)

    def __len__(self) -> int:
        return len(self.column)


def encode_log(log: Log, learned: LearnedPairs, demand: Demand) -> Encoded:
    """What is the same for a log and for tables in memory: codes of the keys that are learned from, and the catalogues.

    Args:
        log: Its keys.
        learned: What is learned from.
        demand: Ids of both sides.
    """
    catalogues = {
        name: catalogue_of(log, name, order, known)
        for name, order, known in zip(log.pair, learned.orders, learned.num_known, strict=True)
    }
    encoder = Encoder({name: _fitted(demand, catalogue) for name, catalogue in catalogues.items()}, {})
    return Encoded(
        encoder,
        {name: encoder.encode(name, catalogue.table) for name, catalogue in catalogues.items()},
        {name: StoredIndex(learned.pairs[:, side]) for side, name in enumerate(log.pair)},
        catalogues,
        {},
        None,
        pairs=matrix_of(learned, len(catalogues[log.pair[1]].keys) + 1),
    )


def let_go_of_rows(encoded: Encoded) -> None:
    """Give back the pages of the pairs in the order of the log: nobody but a step looks at them.

    Args:
        encoded: Of a log.
    """
    for rows in encoded.index.values():
        if isinstance(rows, StoredIndex):
            let_go(rows.column)


def catalogue_of(log: Log, column: str, order: NDArray[np.int32], num_known: int) -> Catalogue:
    """All keys of a column, those that are learned from first.

    Args:
        log: Its keys.
        column: Which.
        order: ``[keys]`` their codes as the catalogue has them.
        num_known: How many are learned from.
    """
    keys = log.keys[column].take(pa.array(order))
    return Catalogue(column, keys, num_known, Table(pa.table({column: keys}), log.name, 0))


def matrix_of(learned: LearnedPairs, num_candidates: int) -> csr_array:
    """The distinct pairs as a matrix of ones, whose columns stay on disk until something is done with them.

    Args:
        learned: Where they lie.
        num_candidates: Rows of the candidate catalogue.
    """
    ones = np.broadcast_to(np.float32(1.0), learned.known.shape)  # one number, however long
    starts = learned.starts.astype(np.int32) if len(learned.known) < 2**31 else learned.starts  # as SciPy counts
    matrix = csr_array((ones, learned.known, starts), shape=(len(learned.starts) - 1, num_candidates))
    matrix.has_sorted_indices = True
    return matrix


def _fitted(demand: Demand, catalogue: Catalogue) -> tuple[Fitted, ...]:
    """Ids know what is learned from, in the order of the catalogue: that of first appearance."""
    known = pa.table({catalogue.key: catalogue.keys.slice(0, catalogue.num_known)})
    fitted = []
    for spec in demand.features[catalogue.key]:
        assert isinstance(spec, IdSpec), "a stream has ids alone"
        fitted.append(Fitted(spec, spec.fit(known)))
    return tuple(fitted)
