"""The figures to reach, each with where it is read among the measured lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A measured figure, its spread, and what it was held against."""

    value: float
    low: float
    high: float
    beside: str
    """The baseline of its own, in words and figures."""


@dataclass(frozen=True)
class Target:
    """One row of the table.

    ``read`` gives None where no line has the figure.
    """

    key: str
    what: str
    bound: float
    at_least: bool
    unit: str
    read: Callable[[Sequence[Line]], Figure | None]

    def met(self, figure: Figure) -> bool:
        """Whether the figure is on the right side of the bound."""
        return figure.value >= self.bound if self.at_least else figure.value <= self.bound


def line_of(lines: Sequence[Line], benchmark: str) -> Line | None:
    """The last line of a benchmark."""
    return next((line for line in reversed(lines) if line["benchmark"] == benchmark), None)


def best_ratio(benchmark: str, over: str, under: str, *, most: bool) -> Callable[[Sequence[Line]], Figure | None]:
    """The best of the ratios whose sides begin with these words: several engines may stand on one side."""

    def read(lines: Sequence[Line]) -> Figure | None:
        line = line_of(lines, benchmark)
        found = {} if line is None else {name: r for name, r in line["ratios"].items() if _is(name, over, under)}
        if line is None or not found:
            return None
        name = (max if most else min)(found, key=lambda each: found[each]["median"])
        spread = found[name]
        return Figure(
            spread["median"], spread["q1"], spread["q3"], ", ".join(_side(line, s) for s in name.split(" / "))
        )

    return read


def difference(benchmark: str, longer: str, shorter: str) -> Callable[[Sequence[Line]], Figure | None]:
    """Seconds that one side takes more than another, medians; the spread is between the extremes of both."""

    def read(lines: Sequence[Line]) -> Figure | None:
        line = line_of(lines, benchmark)
        if line is None:
            return None
        one, other = line["sides"][longer], line["sides"][shorter]
        low, high = one["min_s"] - other["max_s"], one["max_s"] - other["min_s"]
        beside = f"{_side(line, longer)}, {_side(line, shorter)}; engine {line['engine']}"
        return Figure(one["median_s"] - other["median_s"], low, high, beside)

    return read


def peak_memory(lines: Sequence[Line]) -> Figure | None:
    """Gigabytes at the peak of the leanest engine."""
    line = line_of(lines, "peak memory")
    if line is None:
        return None
    peaks = {name: size / 1e9 for name, size in line["peak_bytes"].items()}
    loading = peaks.pop("loading")
    engine = min(peaks, key=lambda name: peaks[name])
    own = peaks[engine]
    return Figure(own, own, own, f"engine {engine}; {loading:.2f} GB once the library is loaded")


def not_built(lines: Sequence[Line]) -> None:
    """What does not exist cannot be measured."""


def _is(name: str, over: str, under: str) -> bool:
    first, _, second = name.partition(" / ")
    return first.startswith(over) and second.startswith(under) and not first.startswith(f"{over},")


def _side(line: Line, name: str) -> str:
    return f"{name} {seconds(line['sides'][name]['median_s'])}"


def seconds(value: float) -> str:
    """In the unit that reads best.

    Example:
        >>> seconds(0.01234), seconds(2.5)
        ('12.3 ms', '2.50 s')
    """
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.1f} ms" if value < 1.0 else f"{value:.2f} s"


_EPOCH = "one-backprop epoch"
TARGETS = (
    Target(
        "epoch-by-hand",
        "ML-100K one-backprop epoch (d 32, N 5, batch 1024) against per-pair Python sampling with a PyTorch step",
        40.0,
        True,
        "x",
        best_ratio(_EPOCH, "by hand", "towerkit", most=True),
    ),
    Target(
        "epoch-vectorized",
        "the same against a vectorized PyTorch loop written as well as PyTorch allows",
        15.0,
        True,
        "x",
        best_ratio(_EPOCH, "vectorized", "towerkit", most=True),
    ),
    Target(
        "bpr-implicit",
        "compiled BPR against `implicit`'s BPR (Hogwild), pairs x dim per second; ours deterministic",
        1.0,
        True,
        "x",
        best_ratio("bpr against implicit", "implicit", "towerkit", most=True),
    ),
    Target(
        "softmax-two",
        "softmax step (2048 queries, 2048 + 1024 candidates, d 64), two backpropagations, against its three bare products",
        1.3,
        False,
        "x",
        best_ratio("softmax step, two_backprop", "towerkit", "bare products", most=False),
    ),
    Target(
        "softmax-one",
        "the same with one-backprop, against its two bare products",
        1.3,
        False,
        "x",
        best_ratio("softmax step, one_backprop", "towerkit", "bare products", most=False),
    ),
    Target(
        "streamed-time",
        "time per interaction from 10^7 to 10^8 interactions with fixed tables, streamed from Parquet",
        1.15,
        False,
        "x",
        not_built,
    ),
    Target("memory-gowalla", "peak memory: Gowalla, d 64", 1.0, False, " GB", peak_memory),
    Target("memory-streamed", "peak memory: 10^8 interactions streamed", 4.0, False, " GB", not_built),
    Target(
        "first-use",
        "first-use compile time of the kernels, then cached",
        15.0,
        False,
        " s",
        difference("first use", "empty cache", "filled cache"),
    ),
)
