"""Columns that several towers read: often a slip, and sometimes meant, which the spec then says (``overlap``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from towerkit.core.errors import listed
from towerkit.data.roles import EXAMPLE
from towerkit.features.base import FeatureSpec
from towerkit.features.columns import IdSpec


def overlap_remarks(
    reads: Mapping[str, tuple[str, Iterable[FeatureSpec]]], meant: Sequence[str], where: str = "model"
) -> list[str]:
    """What to say of towers that read the same column, where the spec does not say that it is meant.

    Keys are no columns in this sense: several towers may look rows up by one.

    Args:
        reads: Tower name -> its entity, and the features that it reads of it.
        meant: Columns that several towers read on purpose.
        where: The part of the spec that holds the towers.

    Returns:
        A sentence for each column; and one for what ``meant`` names and no two towers read.
    """
    readers: dict[tuple[str, str], list[str]] = {}
    for tower, (entity, features) in reads.items():
        columns = [name for each in features if not isinstance(each, IdSpec) for name in each.column_names()]
        for column in dict.fromkeys(columns):
            readers.setdefault((entity, column), []).append(tower)
    shared = {place: towers for place, towers in readers.items() if len(towers) > 1}
    found = [
        f"{where}: the towers {listed(towers)} read one column, '{column}'{'' if entity == EXAMPLE else f' of {entity}'}. If that "
        f"is meant, say so: {where}.overlap: [{column}]; else take it out of all but one."
        for (entity, column), towers in shared.items()
        if column not in meant
    ]
    idle = [column for column in meant if column not in {column for _, column in shared}]
    if idle:
        found.append(f"{where}.overlap names {listed(idle)}, which no two towers read.")
    return found
