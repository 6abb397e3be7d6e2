"""What people see first: the one figure where there is room for one, and the values of a segment in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


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


_FIRST = ("auc", "accuracy", "rmse", "mae")


def headlines(metrics: Iterable[str]) -> list[str]:
    """The headline of each task; one where there are no tasks.

    Example:
        >>> headlines(["liked/log_loss", "liked/auc", "stars/mae"])
        ['liked/auc', 'stars/mae']
    """
    tasks: dict[str, list[str]] = {}
    for name in metrics:
        tasks.setdefault(name.rpartition("/")[0], []).append(name)
    return [headline(names) for names in tasks.values()]


def decision_line(about: Mapping[str, Any]) -> str:
    """How a task's probabilities became an answer, in words; nothing where they were left as they are.

    Args:
        about: The task in the protocol.

    Example:
        >>> decision_line({"threshold": 0.375, "threshold_by": "f1", "temperature": 1.5, "decided_on": "80 validation rows"})
        'threshold 0.375 (best f1), temperature 1.500, of 80 validation rows'
    """
    threshold, temperature = about.get("threshold", 0.5), about.get("temperature")
    parts = []
    if threshold != 0.5:
        several = isinstance(threshold, list)
        shown = f"{min(threshold):.4g} to {max(threshold):.4g}" if several else f"{threshold:.4g}"
        by = f" (best {about['threshold_by']})" if "threshold_by" in about else ""
        parts.append(f"{'a threshold for each label, ' if several else 'threshold '}{shown}{by}")
    if temperature is not None:
        parts.append(f"temperature {temperature:.3f}")
    if parts and "decided_on" in about:
        parts.append(f"of {about['decided_on']}")
    return ", ".join(parts)


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
