"""Labels of which a row may have several: lists, or texts with a separator, to a table of zeros and ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.features.base import as_text
from towerkit.features.multi_hot import is_list, members_of

Missing = Literal["unknown", "none"]
_SEPARATORS = (",", ";", "|", "/", "\t")
_SELDOM = 0.05
"""Below this share of the texts, another separator is taken for a part of some names."""


@dataclass(frozen=True)
class SetForm:
    """How the labels of a row are written."""

    separator: str = "|"
    """Between the labels of a text; lists need none."""
    missing: Missing = "unknown"
    """What an empty text or a null says: that nobody looked, or that the row has none of the labels."""

    def known(self, values: pa.Array) -> NDArray[np.bool_]:
        """``[rows]`` whether the row says anything; an empty list says that it has none of the labels."""
        if self.missing == "none":
            return np.ones(len(values), bool)
        given = pc.is_valid(values)
        if not is_list(values.type):
            blank = pc.equal(pc.utf8_trim_whitespace(as_text(values)), "")
            given = pc.and_(given, pc.invert(pc.fill_null(blank, True)))
        return np.asarray(given.to_numpy(zero_copy_only=False), bool)

    def members(self, values: pa.Array, column: str) -> tuple[NDArray[np.int64], pa.Array]:
        """The labels of all rows as texts, one after the other, and the row of each."""
        return members_of(values, self.separator, column)

    def encode(self, values: pa.Array, classes: tuple[str, ...], column: str) -> NDArray[np.int8]:
        """Zeros and ones.

        Args:
            values: ``[rows]`` lists or texts.
            classes: The known labels, in order; others are left out.
            column: What to call the column in messages.

        Returns:
            ``[rows, labels]``; a row that says nothing is all -1.
        """
        rows, members = self.members(values, column)
        codes = _codes(members, classes)
        found = np.zeros((len(values), len(classes)), np.int8)
        found[rows[codes >= 0], codes[codes >= 0]] = 1
        found[~self.known(values)] = -1
        return found

    def num_unknown(self, values: pa.Array, classes: tuple[str, ...], column: str) -> int:
        """Rows with at least one label that is not among the known ones."""
        rows, members = self.members(values, column)
        return len(np.unique(rows[_codes(members, classes) < 0]))

    def check(self, values: pa.Array, column: str) -> None:
        """Refuse texts that another separator, or a reader of lists, would take apart, and this one does not.

        Raises:
            DataError: With the separator that would, and a text.
        """
        if is_list(values.type):
            return
        texts = as_text(values).drop_null()
        if not len(texts) or _share(texts, self.separator):
            return
        first = texts[0].as_py()
        if pc.all(pc.and_(pc.starts_with(texts, "["), pc.ends_with(texts, "]"))).as_py():
            raise DataError(
                f"The label column '{column}' holds texts that look like lists (for example {first!r}). Give lists "
                f"themselves (Parquet, JSON Lines), or texts with '{self.separator}' between the labels."
            )
        for other in _SEPARATORS:
            if _share(texts, other) >= _SELDOM and self._fewer(texts, other):
                example = texts.filter(pc.match_substring(texts, other))[0].as_py()
                raise DataError(
                    f"The label column '{column}' never has the separator '{self.separator}' between labels, but "
                    f"{_share(texts, other):.0%} of its {len(texts):,} texts have {other!r} (for example {example!r}). Set "
                    f"separator: {other!r} in its head; if each text is one label, its head is of kind: multiclass."
                )

    def _fewer(self, texts: pa.Array, separator: str) -> bool:
        """Whether taking the texts apart leaves fewer names; of ``Rome, Italy`` it leaves more."""
        _, parts = members_of(texts, separator, "")
        return len(pc.unique(parts)) < len(pc.unique(texts))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"separator": self.separator, "missing": self.missing}


def _codes(members: pa.Array, classes: tuple[str, ...]) -> NDArray[np.int64]:
    found = pc.fill_null(pc.index_in(members, value_set=pa.array(classes, pa.string())), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), np.int64)


def _share(texts: pa.Array, separator: str) -> float:
    """Share of the texts with something on both sides of a separator."""
    between = pc.match_substring(pc.utf8_trim(texts, characters=f"{separator} "), separator)
    return float(pc.mean(pc.cast(between, pa.float64())).as_py())
