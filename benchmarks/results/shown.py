"""How figures are written on docs/results.md."""

from __future__ import annotations

import math
import statistics

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 % quantile of Student's t by number of seeds."""


def spread(values: list[dict[str, float]]) -> str:
    """Mean ± half interval over seeds, and the first seed's interval over queries."""
    figures = [value["value"] for value in values]
    if len(figures) == 1:
        return f"{short(figures[0])} {interval(values[0])}"
    half = T_95[len(figures)] * statistics.stdev(figures) / math.sqrt(len(figures))
    return f"{short(statistics.mean(figures))} ± {short(half)} {interval(values[0])}"


def interval(value: dict[str, float]) -> str:
    """The bootstrap interval over queries."""
    return f"[{short(value['low'])}, {short(value['high'])}]"


def short(value: float) -> str:
    """Four places, without the zero in front."""
    return f"{value:.4f}".lstrip("0")


def signed(value: float) -> str:
    """A number with its sign, without the zero in front."""
    return f"{'−' if value < 0 else '+'}{short(abs(value))}"
