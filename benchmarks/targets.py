"""The figures to reach, each with where it is read among the measured lines.

Figures of quality come from longer scripts than a benchmark: a line ``{"benchmark": "quality", "data": …, "model": …,
"seconds": …, "metrics": {"ndcg@20": {"value": …, "low": …, "high": …}}, "beside": …}`` is read like any other.
"""

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
        worked = line["cpu_seconds"][longer] - line["cpu_seconds"][shorter]
        beside = (
            f"{_side(line, longer)}, {_side(line, shorter)}; engine {line['engine']}; {worked:.1f} s of processor time"
        )
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


def streamed_time(lines: Sequence[Line]) -> Figure | None:
    """The ratio of the long log to the short one, with what the processor worked on each."""
    line = line_of(lines, "streamed interactions")
    if line is None:
        return None
    longer, shorter = reversed(line["sides"])
    name = f"{longer} / {shorter}"
    spread, worked = line["ratios"][name], line["ratios"][f"{name}, processor time"]
    beside = (
        f"per interaction {_side(line, longer)}, {_side(line, shorter)}; of processor time {worked['median']:.3g}x; "
        f"load {line['load']}"
    )
    return Figure(spread["median"], spread["q1"], spread["q3"], beside)


def resident(benchmark: str, until: Callable[[Line], str]) -> Callable[[Sequence[Line]], Figure | None]:
    """Gigabytes resident at the peak, the pages of mapped files counted in; ``until`` says from where to where."""

    def read(lines: Sequence[Line]) -> Figure | None:
        line = line_of(lines, benchmark)
        if line is None:
            return None
        peak, own = line["resident_bytes"] / 1e9, line["peak_bytes"] / 1e9
        return Figure(
            peak, peak, peak, f"from the files to {until(line)}; {own:.2f} GB without the pages of mapped files"
        )

    return read


streamed_memory = resident(
    "streamed peak memory",
    lambda line: "the evaluated Run" if line["whole"] else "the second window of training",
)
streamed_on_ray = resident(
    "streamed on Ray, peak memory", lambda line: f"the evaluated Run in {line['seconds']} s, load {line['load']}"
)


def large_index(figure: str, *, times: float = 1.0) -> Callable[[Sequence[Line]], Figure | None]:
    """A figure of the index of a million, in the unit that ``times`` makes."""

    def read(lines: Sequence[Line]) -> Figure | None:
        line = line_of(lines, "large index")
        if line is None:
            return None
        value = line[figure] * times
        beside = f"{line['about']}; one query {seconds(line['sides']['one query']['median_s'])}, recall {line['recall']:.4f}; "
        beside += (
            f"built in {line['build_s']:.0f} s, {line['build_cpu_s']:.0f} s of processor time; load {line['load']}"
        )
        return Figure(value, value, value, beside)

    return read


def slowest(benchmark: str, side: str) -> Callable[[Sequence[Line]], Figure | None]:
    """Milliseconds: the median over rounds of what each round tells of its slowest hundredth."""

    def read(lines: Sequence[Line]) -> Figure | None:
        line = line_of(lines, benchmark)
        if line is None or side not in line["sides"]:
            return None
        took = {name: 1e3 * line["sides"][side][f"{name}_s"] for name in ("median", "q1", "q3")}
        beside = (
            f"{line['rate']:.0f} requests a second, half of what {line['connections']} callers get; load {line['load']}"
        )
        return Figure(took["median"], took["q1"], took["q3"], beside)

    return read


def first_answer(lines: Sequence[Line]) -> Figure | None:
    """Seconds from the start of a process to its first answer."""
    line = line_of(lines, "service, cold start")
    if line is None:
        return None
    side = line["sides"]["first answer"]
    torch = "with" if line["torch"] else "without"
    beside = f"{line['n']:,} candidates, {torch} PyTorch; {line['cpu_s']:.2f} s of processor time; load {line['load']}"
    return Figure(side["median_s"], side["q1_s"], side["q3_s"], beside)


def rows_a_second(lines: Sequence[Line]) -> Figure | None:
    """Rows that an epoch on cached vectors learns from, by its seconds."""
    line = line_of(lines, "cached vectors")
    if line is None:
        return None
    side = line["sides"]["towerkit"]
    low, middle, high = (line["n"] / side[f"{name}_s"] for name in ("q3", "median", "q1"))
    loop = line["n"] / line["sides"]["by hand"]["median_s"]
    return Figure(middle, low, high, f"a plain PyTorch loop {loop:,.0f}; load {line['load']}")


def first_step(lines: Sequence[Line]) -> Figure | None:
    """Seconds from the start of a process to the end of its first step, the vectors being there."""
    line = line_of(lines, "first step")
    if line is None:
        return None
    side = line["sides"]["filled cache"]
    beside = f"{_side(line, 'empty cache')}; load {line['load']}"
    return Figure(side["median_s"], side["q1_s"], side["q3_s"], beside)


def page_of_studio(lines: Sequence[Line]) -> Figure | None:
    """Seconds until the slowest large page of the studio answers, the first time that it is asked for."""
    line = line_of(lines, "studio")
    if line is None or not line["sides"]:
        return None
    first = {name: side["median_s"] for name, side in line["sides"].items() if name.endswith(", first")}
    name = max(first, key=lambda each: first[each])
    later = name.removesuffix("first") + "again"
    return Figure(
        first[name], first[name], first[name], f"{_side(line, name)}, {_side(line, later)}; load {line['load']}"
    )


def bytes_at_home(lines: Sequence[Line]) -> Figure | None:
    """Bytes of an epoch where queries move without a gradient and stay at home, by those of gradients for everything."""
    line = line_of(lines, "scale, shared, 2 workers")
    if line is None or line["dim"] != 64:
        return None
    cells = {name: cell["bytes"] for name, cell in line["cells"].items()}
    share = cells["one_backprop, query"] / cells["two_backprop, rows"]
    return Figure(share, share, share, ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in cells.items()))


def on_ray(lines: Sequence[Line]) -> Figure | None:
    """An epoch of one worker on Ray by one of the plain command."""
    line = line_of(lines, "one worker on Ray")
    if line is None:
        return None
    spread = line["ratios"]["one worker / plain"]
    beside = f"{_side(line, 'one worker')}, {_side(line, 'plain')}; Ray's start and end {line['start_s']} s; load {line['load']}"
    return Figure(spread["median"], spread["q1"], spread["q3"], beside)


def told_ratio(benchmark: str, name: str, over: str, under: str) -> Callable[[Sequence[Line]], Figure | None]:
    """One of several ratios of a line, for vectors of width 64."""

    def read(lines: Sequence[Line]) -> Figure | None:
        line = line_of([line for line in lines if line.get("dim") == 64], benchmark)
        if line is None or name not in line.get("ratios", {}):
            return None
        spread = line["ratios"][name]
        return Figure(spread["median"], spread["low"], spread["high"], f"{_side(line, over)}, {_side(line, under)}")

    return read


def quality(data: str, model: str, metric: str) -> Callable[[Sequence[Line]], Figure | None]:
    """A metric of a model on test, or the ``seconds`` that it took."""

    def read(lines: Sequence[Line]) -> Figure | None:
        own = [line for line in lines if line["benchmark"] == "quality" and line["data"] == data]
        line = next((line for line in reversed(own) if line["model"] == model), None)
        if line is None:
            return None
        if metric == "seconds":
            return Figure(line["seconds"], line["seconds"], line["seconds"], line["beside"])
        value = line["metrics"][metric]
        return Figure(value["value"], value["low"], value["high"], line["beside"])

    return read


def either(*reads: Callable[[Sequence[Line]], Figure | None]) -> Callable[[Sequence[Line]], Figure | None]:
    """The greatest of several figures; None where none is there."""

    def read(lines: Sequence[Line]) -> Figure | None:
        return max((found for each in reads if (found := each(lines))), key=lambda figure: figure.value, default=None)

    return read


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
    if value < 0.00001:
        return f"{value * 1e6:.2f} µs"
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
        "ml100k-one-backprop",
        "ML-100K `one_backprop`, reference split: test NDCG@20, chosen on validation, refit, 5 seeds",
        0.447,
        True,
        "",
        quality("ml-100k", "one_backprop", "ndcg@20"),
    ),
    Target(
        "ml100k-best",
        "the same, best preset",
        0.455,
        True,
        "",
        either(quality("ml-100k", "best", "ndcg@20"), quality("ml-100k", "spectral", "ndcg@20")),
    ),
    Target(
        "gowalla-spectral-time",
        "Gowalla, `--preset spectral`: seconds from the start of the command to the evaluated Run",
        60.0,
        False,
        " s",
        quality("gowalla", "spectral", "seconds"),
    ),
    Target(
        "gowalla-spectral-recall", "its test Recall@20", 0.1920, True, "", quality("gowalla", "spectral", "recall@20")
    ),
    Target("gowalla-spectral-ndcg", "its test NDCG@20", 0.1597, True, "", quality("gowalla", "spectral", "ndcg@20")),
    Target(
        "gowalla-best-time",
        "Gowalla, `--preset best`: seconds of the same",
        180.0,
        False,
        " s",
        quality("gowalla", "best", "seconds"),
    ),
    Target("gowalla-best-recall", "its test Recall@20", 0.1950, True, "", quality("gowalla", "best", "recall@20")),
    Target("gowalla-best-ndcg", "its test NDCG@20", 0.1640, True, "", quality("gowalla", "best", "ndcg@20")),
    Target(
        "evaluation-product",
        "full evaluation of Gowalla (29,858 x 40,981, d 64, all ranking metrics, k 5/10/20) against chunked "
        "`torch.mm(out=)` alone",
        1.3,
        False,
        "x",
        told_ratio("evaluation", "evaluation to product", "evaluation", "product"),
    ),
    Target(
        "evaluation-topk",
        "the same against `topk` over chunked scores with a seen mask",
        2.0,
        True,
        "x",
        told_ratio("evaluation", "topk to evaluation", "topk", "evaluation"),
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
        streamed_time,
    ),
    Target("memory-gowalla", "peak memory: Gowalla, d 64", 1.0, False, " GB", peak_memory),
    Target("memory-streamed", "peak memory: 10^8 interactions streamed", 4.0, False, " GB", streamed_memory),
    Target(
        "first-use",
        "first-use compile time of the kernels, then cached",
        15.0,
        False,
        " s",
        difference("first use", "empty cache", "filled cache"),
    ),
    Target(
        "index-faiss",
        "faiss HNSW through towerkit against bare faiss, queries per second in batches of 64",
        0.9,
        True,
        "x",
        best_ratio("index beside faiss", "bare faiss", "towerkit", most=True),
    ),
    Target(
        "index-build",
        "1,000,000 candidates, d 64: seconds to build their index",
        600.0,
        False,
        " s",
        large_index("build_s"),
    ),
    Target("index-recall", "its recall@20", 0.98, True, "", large_index("recall")),
    Target("index-p99", "its slowest hundredth of single queries", 2.0, False, " ms", large_index("p99_s", times=1e3)),
    Target(
        "service-throughput",
        "`/v1/recommend` by id, 100,000 candidates, d 64, k 20: throughput against an empty FastAPI route on the same server",
        0.5,
        True,
        "x",
        best_ratio("service", "empty route", "recommend", most=True),
    ),
    Target(
        "service-p99",
        "its slowest hundredth at half of that throughput",
        10.0,
        False,
        " ms",
        slowest("service", "p99 at half"),
    ),
    Target(
        "service-cold",
        "the same service: seconds from the start of the process to the first answer by id, without PyTorch",
        2.0,
        False,
        " s",
        first_answer,
    ),
    Target(
        "events-single",
        "`/v1/events`, one event a call of 64 callers: durable events per second against bare SQLite commits of the same rows",
        0.5,
        True,
        "x",
        best_ratio("service, events", "bare, 1 a", "service, 1 a", most=True),
    ),
    Target(
        "events-batched",
        "the same, a hundred events a call and a commit",
        0.5,
        True,
        "x",
        best_ratio("service, events", "bare, 100 a", "service, 100 a", most=True),
    ),
    Target(
        "encode-bare",
        "texts a second through frozen MiniLM, cache empty, against a plain loop over its module",
        0.9,
        True,
        "x",
        best_ratio("encoding texts", "by hand", "towerkit", most=True),
    ),
    Target(
        "cached-rows",
        "rows a second on cached vectors: three towers of 64 (1,280, 384 and 32 numbers), gated, batches of 1,024",
        50_000.0,
        True,
        "",
        rows_a_second,
    ),
    Target(
        "cached-input",
        "the same: cutting its batches alone, as a share of the epoch",
        0.1,
        False,
        "x",
        best_ratio("cached vectors", "batches alone", "towerkit", most=False),
    ),
    Target(
        "first-step",
        "second training of the posters' spec: seconds from the start of the process to the end of its first step",
        5.0,
        False,
        " s",
        first_step,
    ),
    Target(
        "studio-interactive",
        "the studio: seconds until 1,000 Runs or a map of 50,000 points answer the first touch, asked for the first time",
        2.0,
        False,
        " s",
        page_of_studio,
    ),
    Target(
        "scale-bytes",
        "bytes that two workers exchange in an epoch of Gowalla (d 64, 1,024 shared candidates): `one_backprop` with queries "
        "at home against `two_backprop` without",
        0.6,
        False,
        "x",
        bytes_at_home,
    ),
    Target(
        "scale-memory",
        "10^8 interactions streamed by `--on local --workers 1`: the most that a worker holds",
        4.0,
        False,
        " GB",
        streamed_on_ray,
    ),
    Target(
        "scale-overhead",
        "an epoch of Gowalla by `--on local --workers 1` against the plain command; the start of Ray stands beside",
        1.1,
        False,
        "x",
        on_ray,
    ),
)
