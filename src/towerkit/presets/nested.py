"""Validation within training: rows of the training part that choose epochs, so that the validation part can compare models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from towerkit.core.errors import DataError
from towerkit.data.cutting import cut
from towerkit.data.dataset import Dataset
from towerkit.data.split_specs import AnySplit, RandomSplit
from towerkit.data.splits import Parts

_SPLIT: TypeAdapter[AnySplit] = TypeAdapter(AnySplit)
_FEWEST = 2


def nested(dataset: Dataset, seed: int) -> Dataset:
    """The training part cut once more, as the data set itself was: validation rows out of it, and no test part.

    By time the last rows are held out, by groups whole groups, else rows at random; the share is that of the validation part
    among training and validation rows.

    Args:
        dataset: With a validation part.
        seed: Draws random rows.

    Raises:
        DataError: If the training part is too small to be cut.
    """
    parts = dataset.parts
    share = len(parts.validation) / (len(parts.train) + len(parts.validation))
    found = cut(dataset.examples, dataset.roles, _inner(dataset.split, share), seed, parts.train).parts
    if min(len(found.train), len(found.validation)) < _FEWEST:
        raise DataError(
            f"{dataset.examples.name}: a part for choosing epochs is cut out of the training rows, since the validation rows "
            f"compare fusions; {len(parts.train):,} rows leave {len(found.train):,} and {len(found.validation):,}. Give more "
            "rows, or name one fusion and train it."
        )
    return dataset.with_parts(Parts(found.train, found.validation, parts.test[:0]))


def _inner(split: Mapping[str, Any], share: float) -> AnySplit:
    """The same way to cut, with a validation share alone; at random where parts were given."""
    kind = split["kind"]
    if kind in ("given", "random"):
        return RandomSplit(validation=share, test=0.0)
    kept = {key: split[key] for key in ("time_missing", "take", "column", "position") if key in split}
    part = {"validation": True, "test": False} if kind == "leave_last" else {"validation": share, "test": 0.0}
    return _SPLIT.validate_python({"kind": kind, **kept, **part})
