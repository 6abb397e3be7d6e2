"""A kept study: the trials as lines through their settings, what mattered, and how the best figure grew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import at_largest_k, metric_order
from towerkit.reporting.blocks import Block, Figures, Folded, Part, Section, Words
from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.charts import Line, Row, Scale, intervals, lines, parallel
from towerkit.reporting.kept.reading import Content, difference_cell, number

_MOST_SCALES = 9
_WORST_DRAWN = 200


def tuning_section(content: Content, anchor: str) -> Section:
    """What a study found.

    Args:
        content: What ``towerkit tune`` wrote.
        anchor: The name of the section.
    """
    trials = content["trials"]
    done = [each for each in trials if each.get("value") is not None]
    states: dict[str, int] = {}
    for each in trials:
        states[str(each.get("state", "complete"))] = states.get(str(each.get("state", "complete")), 0) + 1
    counted = ", ".join(f"{count:,} {state}" for state, count in states.items())
    how = f"{len(trials):,} trials ({counted}), sampler {content.get('sampler', 'unknown')}, by {content['metric']}."
    charts = [*_parallel(content, done, anchor), *_importance(content, anchor), *_growth(content, anchor)]
    blocks: list[Block] = [
        Words(how),
        *_against(content),
        *([Figures(tuple(charts))] if charts else []),
        _table(content, trials),
    ]
    return Section(anchor, "Tuning", (Part("", tuple(blocks)),))


def _sign(content: Content) -> float:
    return 1.0 if content.get("higher_is_better", True) else -1.0


def _paths(content: Content, trials: Sequence[Content]) -> list[str]:
    """The settings that differ between trials, those that matter most first."""
    weight = (content.get("importance") or {}).get("parameters") or {}
    varied = {
        path for path in dict.fromkeys(path for each in trials for path in each["values"])
        if len({repr(each["values"].get(path)) for each in trials}) > 1
    }  # fmt: skip
    return sorted(varied, key=lambda path: (-float(weight.get(path) or 0.0), path))


def _parallel(content: Content, done: Sequence[Content], anchor: str) -> list[Chart]:
    """The best trial and the default are set off; of very many, the worst are left out."""
    if not done:
        return []
    best_first = sorted(range(len(done)), key=lambda place: -_sign(content) * done[place]["value"])[:_WORST_DRAWN]
    kinds = [-1] * len(done)
    for place, each in enumerate(done):
        kinds[place] = 1 if each.get("default") else kinds[place]
    kinds[best_first[0]] = 0
    space = content.get("space") or {}
    paths = _paths(content, done)[: _MOST_SCALES - 1]
    scales = [
        Scale(
            _short(path),
            tuple(_value(each["values"].get(path)) for each in done),
            bool((space.get(path) or {}).get("log")),
        )
        for path in paths
    ]
    scales.append(Scale(content["metric"].rpartition("/")[2], tuple(each["value"] for each in done)))
    told = [
        f"trial {each['number']}{' (default)' if each.get('default') else ''}: {each['value']:.4f}" for each in done
    ]
    about = "Each line is a trial, through its settings (the most important one on the left) to its validation figure on the right."
    names = ("best trial", "default") if 1 in kinds else ("best trial",)
    return [
        parallel(
            "Trials",
            scales,
            about=about,
            order=best_first[::-1],
            kinds=kinds,
            names=names,
            told=told,
            name=f"{anchor}-trials",
        )
    ]


def _short(path: str) -> str:
    """The end of a path that says enough: ``objective.negatives.0.count`` is ``negatives.count``."""
    return ".".join([part for part in path.split(".") if not part.isdigit()][-2:])


def _value(value: Any) -> Any:
    return value if value is None or (isinstance(value, int | float) and not isinstance(value, bool)) else str(value)


def _importance(content: Content, anchor: str) -> list[Chart]:
    found = content.get("importance") or {}
    charts = []
    for key, title in (("parts", "Importance of each part"), ("parameters", "Importance of each setting")):
        shares = found.get(key) or {}
        order = sorted(shares, key=lambda name: -float(shares[name] or 0.0))
        rows = [
            Row(name, (Interval(float(shares[name] or 0.0), float("nan"), float("nan"), 0),), 3) for name in order[:20]
        ]
        if rows:
            about = f"How much of the differences between good and other trials goes with it ({found.get('measure', 'a share')})."
            charts.append(
                intervals(title, rows, about=about, unit="share", bars=True, name=f"{anchor}-importance-{key}")
            )
    return charts


def _growth(content: Content, anchor: str) -> list[Chart]:
    points = tuple(
        (each["seconds"], each["best"]) for each in content.get("growth") or () if each.get("best") is not None
    )
    if not points:
        return []
    about = "The best validation figure so far, over the time that trials took."
    curve = Line("best so far", points)
    return [
        lines(
            "Budget curve", [curve], about=about, across_name="seconds of trials", steps=True, name=f"{anchor}-growth"
        )
    ]


def _against(content: Content) -> list[Block]:
    """Default against best on the held-out part, where the study says so."""
    metrics = (content.get("comparison") or {}).get("metrics") or {}
    names = sorted(metrics, key=metric_order)
    few = at_largest_k(names)
    found: list[Block] = [_differences(few, metrics, "Default against best on held-out rows")] if few else []
    return (
        [*found, Folded("Every figure, at every k", _differences(names, metrics, ""))]
        if len(few) < len(names)
        else found
    )


def _differences(names: Sequence[str], metrics: Content, caption: str) -> Grid:
    pairs = ((name, metrics[name]) for name in names)
    rows = tuple(
        (name, number(pair.get("first")), number(pair.get("second")), difference_cell(pair)) for name, pair in pairs
    )
    return Grid(("metric", "default", "best", "difference"), rows, caption)


def _table(content: Content, trials: Sequence[Content]) -> Block:
    paths = _paths(content, trials)
    rows = tuple(
        (
            f"{each['number']}{' (default)' if each.get('default') else ''}",
            str(each.get("state", "")),
            number(each.get("value")),
            number(each.get("seconds"), ".1f"),
            *(_cell(each["values"].get(path)) for path in paths),
            str(each.get("reason", "")),
        )
        for each in trials
    )
    return Folded("Every trial", Grid(("trial", "state", content["metric"], "seconds", *paths, "reason"), rows))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
