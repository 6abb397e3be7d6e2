"""A check that no history of a batch knows more than it could have known, by looking at the raw rows one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from towerkit.data.batch import Bag
from towerkit.data.dataset import Dataset
from towerkit.data.splits import Rows
from towerkit.data.times import times_of
from towerkit.features.columns import CategoryFeature, IdSpec
from towerkit.features.encoded import Encoded


def assert_histories_are_past(
    dataset: Dataset, encoded: Encoded, rows: Rows, learned: Rows, entities: tuple[str, str]
) -> None:
    """Look at the histories that a batch of training rows brings.

    An entry is a leak if it is the example's own candidate, or no event of the same query among ``learned`` that lies
    strictly before the example (without a time column: among the other rows).

    Args:
        dataset: The raw tables.
        encoded: The arrays that batches are cut from.
        rows: The batch.
        learned: The rows that may be in a history.
        entities: The query and the candidate entity.

    Raises:
        AssertionError: If an entry is a leak; names the row, the candidate and why.
    """
    query, candidate = (dataset.examples.data.column(name).to_pylist() for name in entities)
    times = None if dataset.roles.time is None else times_of(dataset.examples, dataset.roles.time).tolist()
    names = _names(encoded, entities[1])
    for name, bag in encoded.batch(rows).columns[entities[0]].items():
        if not name.startswith("history:"):
            continue
        assert isinstance(bag, Bag)
        for place, row in enumerate(rows.tolist()):
            allowed = [
                candidate[other]
                for other in learned.tolist()
                if other != row and query[other] == query[row] and (times is None or times[other] < times[row])
            ]
            codes = bag.codes[bag.offsets[place] : bag.offsets[place + 1]].tolist()
            for found in (names[code] for code in codes):
                _require(found != candidate[row], row, found, "its own candidate")
                _require(found in allowed, row, found, "no earlier event of its query among the rows learned from")
                allowed.remove(found)


def assert_weights_sum_to_one(bag: Bag) -> None:
    """Each history that is not empty weighs 1 in all.

    Raises:
        AssertionError: If one does not.
    """
    for start, end in zip(bag.offsets[:-1].tolist(), bag.offsets[1:].tolist(), strict=True):
        total = math.fsum(bag.weights[start:end].tolist())
        assert start == end or abs(total - 1.0) < 1e-5, f"a history weighs {total}, not 1"


def _require(holds: bool, row: int, found: object, why: str) -> None:
    if not holds:
        raise AssertionError(f"A leak: the history of row {row} holds {found!r}, {why}.")


def _names(encoded: Encoded, entity: str) -> Sequence[object]:
    """Candidate code -> key."""
    feature = next(each.feature for each in encoded.encoder.features[entity] if isinstance(each.spec, IdSpec))
    assert isinstance(feature, CategoryFeature)
    return [None, *feature.vocabulary.values.to_pylist()]
