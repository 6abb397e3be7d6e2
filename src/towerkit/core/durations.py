"""Times as people write them: ``120s``, ``2m``, ``1h``."""

from __future__ import annotations

import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def duration_s(text: str) -> float | None:
    """Seconds of a time such as ``120``, ``120s``, ``2m`` or ``1h``; None where it is none above 0.

    Args:
        text: What was written.

    Example:
        >>> duration_s("2m"), duration_s("90"), duration_s("soon"), duration_s("0s")
        (120.0, 90.0, None, None)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|)", text.strip())
    if found is None or float(found[1]) <= 0:
        return None
    return float(found[1]) * _UNITS[found[2]]
