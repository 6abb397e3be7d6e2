"""What people see first: the one figure where there is room for one, the order of figures, and how each is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from towerkit.metrics.intervals import Interval


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


_RANKING = ("ndcg", "recall", "hit_rate", "precision", "mrr", "map", "f1", "coverage", "gini", "novelty", "serendipity")
_CLASSES = ("auc", "average_precision", "accuracy", "subset_accuracy", "log_loss", "brier", "ece", "rmse", "mae", "f1")
_COLUMNS = (
    "popularity",
    "recent_popularity",
    "item_knn",
    "ease",
    "ials",
    "majority",
    "mean",
    "logistic_regression",
    "ridge_regression",
)


def metric_order(metric: str) -> tuple[str, float, str, int]:
    """A key that puts figures in order: by task, then those people look at first, then by depth.

    Example:
        >>> sorted(["recall@5", "ndcg@20", "auc", "ndcg@5"], key=metric_order)
        ['ndcg@5', 'ndcg@20', 'auc', 'recall@5']
    """
    task, _, plain = metric.rpartition("/")
    family, _, depth = plain.partition("@")
    order = _RANKING if depth else _CLASSES
    place = order.index(family) if family in order else len(order)
    return task, place if depth else place + 0.5, family, int(depth or 0)  # of a ranking, AUC comes behind NDCG


def at_largest_k(names: Sequence[str]) -> list[str]:
    """Each figure once: at the largest ``k``, where it has one.

    Example:
        >>> at_largest_k(["ndcg@5", "ndcg@20", "auc", "snacks/ndcg@5"])
        ['ndcg@20', 'auc', 'snacks/ndcg@5']
    """
    largest: dict[str, int] = {}
    for name in names:
        family, _, depth = name.partition("@")
        largest[family] = max(largest.get(family, 0), int(depth or 0))
    return [name for name in names if int(name.partition("@")[2] or 0) == largest[name.partition("@")[0]]]


def column_order(name: str) -> tuple[int, str]:
    """A key that puts what is measured in order: baselines from the simplest on, then members.

    Example:
        >>> sorted(["member text", "item_knn", "popularity"], key=column_order)
        ['popularity', 'item_knn', 'member text']
    """
    return (_COLUMNS.index(name) if name in _COLUMNS else len(_COLUMNS), name)


def figure(interval: Interval | None) -> str:
    """A figure with its interval; nothing where it was not measured.

    Example:
        >>> figure(Interval(0.5, 0.25, 0.75, 10)), figure(Interval(float("nan"), 0.0, 0.0, 0)), figure(None)
        ('0.5000 [0.2500, 0.7500]', 'undefined', '')
    """
    if interval is None or interval.value != interval.value:
        return "undefined" if interval is not None else ""
    known = interval.low == interval.low  # a figure of all lists together has no interval
    return f"{interval.value:.4f} {between(interval.low, interval.high)}" if known else f"{interval.value:.4f}"


def between(low: float, high: float) -> str:
    """An interval.

    Example:
        >>> between(0.25, 0.75)
        '[0.2500, 0.7500]'
    """
    return f"[{low:.4f}, {high:.4f}]"
