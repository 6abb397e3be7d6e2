"""From numbers to places in a drawing: linear and logarithmic axes, and where their ticks stand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """Numbers from ``low`` to ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a number stands.

        Args:
            value: Above 0 on a logarithmic axis.

        Example:
            >>> Axis(1.0, 100.0, 0.0, 10.0, log=True).place(10.0)
            5.0
        """
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers within the axis: 1, 2 or 5 times a power of ten; on a logarithmic one powers of ten where they suffice.

        Args:
            most: At most so many.

        Example:
            >>> Axis(0.0, 1.0, 0.0, 1.0).ticks(), Axis(0.001, 1.0, 0.0, 1.0, log=True).ticks()
            ([0.0, 0.25, 0.5, 0.75, 1.0], [0.001, 0.01, 0.1, 1.0])
        """
        return _powers(self.low, self.high, most) if self.log else _steps(self.low, self.high, most)


def axis_of(
    values: Iterable[float], start: float, end: float, *, log: bool = False, zero: bool = False, room: float = 0.04
) -> Axis:
    """The axis that shows all numbers.

    Args:
        values: Those that are not finite are left out; none at all give an axis from 0 to 1.
        start: Where it begins in the drawing.
        end: Where it ends.
        log: Logarithmic, where all numbers are above 0.
        zero: Begins or ends at 0.
        room: What is left free at both ends, as a share.
    """
    found = [value for value in values if math.isfinite(value)]
    log = log and all(value > 0 for value in found) and bool(found)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if zero and not log:
        low, high = min(low, 0.0), max(high, 0.0)
    if log:
        factor = (high / low) ** room if high > low else 2.0
        return Axis(low / factor, high * factor, start, end, log=True)
    free = (high - low) * room if high > low else abs(high) * 0.1 or 0.5
    below = 0.0 if zero and low == 0.0 else free
    above = 0.0 if zero and high == 0.0 and low < 0.0 else free
    return Axis(low - below, high + above, start, end)


def _steps(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _powers(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    powers = [float(f"1e{n}") for n in range(first, last + 1)]
    if len(powers) >= 2:
        return powers[:: math.ceil(len(powers) / most)]
    between = [float(f"{factor}e{n}") for n in range(first - 1, last + 2) for factor in (1, 2, 5)]
    found = [each for each in between if low * 0.999 <= each <= high * 1.001]
    return found if len(found) >= 2 else _steps(low, high, 3)


def tick_text(value: float) -> str:
    """A number beside an axis.

    Example:
        >>> tick_text(0.25), tick_text(20000.0), tick_text(0.00002), tick_text(0.0)
        ('0.25', '20,000', '2e-05', '0')
    """
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"
