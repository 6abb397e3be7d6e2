"""What kept files say, in the types of this library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerkit.metrics.intervals import Interval

Content = Mapping[str, Any]


def interval_of(found: Content | None, key: str = "value") -> Interval | None:
    """A figure; None where it is missing or undefined.

    Args:
        found: With the figure under a key, and ``low``, ``high`` and ``n`` where it has them.
        key: Of the figure.
    """
    if found is None or found.get(key) is None:
        return None
    low, high = (float("nan") if found.get(end) is None else float(found[end]) for end in ("low", "high"))
    return Interval(float(found[key]), low, high, int(found.get("n") or 0))


def difference_cell(found: Content | None) -> str:
    """A paired difference for a table."""
    one = interval_of(found, "difference")
    if found is None or one is None:
        return "" if found is None else "undefined"
    clear = found.get("clear", found.get("is_clear"))
    verdict = "" if clear is None else (", clear" if clear else ", within chance")
    return f"{one.value:+.4f} [{one.low:.4f}, {one.high:.4f}]{verdict}"


def number(value: Any, form: str = ".4f") -> str:
    """A number for a table; nothing where it is none."""
    return format(value, form) if isinstance(value, int | float) and not isinstance(value, bool) else ""
