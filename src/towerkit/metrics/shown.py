"""What people see first: the one figure where there is room for one, and the values of a segment in order."""

from __future__ import annotations

import re
from collections.abc import Iterable


def headline(metrics: Iterable[str]) -> str:
    """The one figure to show where there is room for one: NDCG at the largest ``k``, or what a prediction is judged by first.

    Args:
        metrics: Names of figures, at least one.

    Example:
        >>> headline(["recall@5", "ndcg@5", "ndcg@20"]), headline(["liked/log_loss", "liked/auc"])
        ('ndcg@20', 'liked/auc')
    """
    names = sorted(metrics)
    deepest = [name for name in names if name.startswith("ndcg@")]
    if deepest:
        return max(deepest, key=lambda name: int(name.partition("@")[2]))
    first = [name for kind in _FIRST for name in names if name.rpartition("/")[2] == kind]
    return first[0] if first else names[0]


_FIRST = ("auc", "accuracy", "mae", "rmse")


def value_place(value: str) -> tuple[int, float, str]:
    """A key that puts the values of a segment in order: bands by their numbers, then names, missing ones last.

    Example:
        >>> sorted(["14 or more", "(missing)", "7 to 13", "below 7", "Rome", "Oslo"], key=value_place)
        ['below 7', '7 to 13', '14 or more', 'Oslo', 'Rome', '(missing)']
    """
    if value.startswith("below "):
        return 0, float("-inf"), value
    number = _NUMBER.match(value)
    if number:
        return 0, float(number.group().replace(",", "")), value
    return (2 if value.startswith("(") else 1), 0.0, value


_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?= |$)")
