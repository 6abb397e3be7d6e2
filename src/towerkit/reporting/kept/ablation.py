"""A kept ablation: what each tower brings, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from towerkit.metrics.intervals import Interval
from towerkit.metrics.shown import headlines
from towerkit.reporting.blocks import Block, Figures, Folded, Part, Section, Words
from towerkit.reporting.chart import Chart, Grid
from towerkit.reporting.charts import Row, intervals
from towerkit.reporting.kept.reading import Content, difference_cell, interval_of, number


def ablation_section(content: Content, anchor: str) -> Section:
    """Bars of what goes with each tower, its Shapley value, its cost, and the verdicts.

    Args:
        content: What ``towerkit ablate --out`` wrote.
        anchor: The name of the section.
    """
    towers, metrics = content["towers"], content.get("metrics") or {}
    shown = headlines(metrics) if metrics else []
    verdicts = tuple(
        Words(f"{each['verdict'][:1].upper()}{each['verdict'][1:]}") for each in towers.values() if each.get("verdict")
    )
    notes = tuple(Words(str(note), is_note=True) for note in content.get("notes", ()))
    parts = [
        Part("Verdicts", (*notes, *verdicts)),
        Part("Cost of each tower", (_costs(towers), _times(towers, anchor))),
    ]
    for metric in shown:
        lower = not (metrics[metric].get("higher_is_better", True) if isinstance(metrics[metric], dict) else True)
        charts = tuple(_charts(content, metric, anchor, lower=lower))
        if charts:
            parts.append(Part(metric, (Figures(charts), *_tables(content, metric))))
    skipped = [Words(f"{name}: {why}") for name, why in (content.get("skipped") or {}).items()]
    parts += [Part("Not done", tuple(skipped))] if skipped else []
    return Section(anchor, f"Ablation of {Path(str(content.get('run', 'a Run'))).name}", tuple(parts))


def _costs(towers: Content) -> Block:
    rows = []
    for name, each in towers.items():
        sizes = f"{each['parameters']:,}", f"{each['bytes']:,}"
        time = number(each.get("ms_per_row"), ".4f"), number(each.get("share"), ".0%")
        rows.append((name, str(each.get("group", "")), ", ".join(each.get("reads", ())), *sizes, *time))
    return Grid(("tower", "of", "reads", "parameters", "bytes", "ms per row", "share of the time"), tuple(rows))


def _times(towers: Content, anchor: str) -> Block:
    rows = [
        Row(name, (Interval(float(each["ms_per_row"]), float("nan"), float("nan"), 0),), 2)
        for name, each in towers.items()
        if each.get("ms_per_row") is not None
    ]
    about = "The time of each tower, from a raw row to its vector, in a batch; measured where the ablation was made."
    return Figures(
        (intervals("Time of each tower", rows, about=about, unit="ms per row", bars=True, name=f"{anchor}-time"),)
    )


def _charts(content: Content, metric: str, anchor: str, *, lower: bool) -> Iterator[Chart]:
    worse = "above" if lower else "below"
    for mode, found in (content.get("modes") or {}).items():
        rows = _rows({name: pairs.get(metric) for name, pairs in found["without"].items()})
        if rows:
            about = f"The model without the tower minus the whole model ({mode}): a tower that helps is {worse} zero. "
            about += "Whiskers are paired 95 % intervals."
            title = f"{metric} without the tower ({mode})"
            yield intervals(
                title,
                rows,
                about=about,
                unit="difference",
                bars=True,
                name=f"{anchor}-{mode}-{_place(content, metric)}",
            )
        shares = {name: each.get(metric) for name, each in (found.get("shapley") or {}).items()}
        values = [Row(name, (interval_of(each),), 4) for name, each in shares.items() if interval_of(each) is not None]
        if values:
            about = (
                f"What each tower brings, shared out over all subsets (Shapley value, {found.get('shapley_is', mode)})."
            )
            title = f"{metric}: share of each tower ({mode})"
            yield intervals(
                title,
                values,
                about=about,
                unit=metric,
                bars=True,
                name=f"{anchor}-{mode}-shapley-{_place(content, metric)}",
            )
    for key, words in (
        ("retrain", "trained again without the tower"),
        ("structure", "trained again with the plainest part"),
    ):
        rows = _rows({name: (each.get("metrics") or {}).get(metric) for name, each in (content.get(key) or {}).items()})
        if rows:
            about = f"The model {words} minus the whole model: what helps is {worse} zero."
            yield intervals(
                f"{metric}, {words}",
                rows,
                about=about,
                unit="difference",
                bars=True,
                name=f"{anchor}-{key}-{_place(content, metric)}",
            )


def _place(content: Content, metric: str) -> int:
    return list(content["metrics"]).index(metric)


def _rows(pairs: dict[str, Any]) -> list[Row]:
    return [
        Row(name, (found,), 0) for name, pair in pairs.items() if (found := interval_of(pair, "difference")) is not None
    ]


def _tables(content: Content, metric: str) -> Iterator[Block]:
    modes = content.get("modes") or {}
    names = dict.fromkeys(name for found in modes.values() for name in found["without"])
    if names:
        rows = tuple(
            (name, *(difference_cell(found["without"].get(name, {}).get(metric)) for found in modes.values()))
            for name in names
        )
        yield Folded(f"{metric} without each tower", Grid(("without", *modes), rows))
    columns = [
        (tower, column, difference_cell(pairs.get(metric)))
        for tower, own in (content.get("columns") or {}).items()
        for column, pairs in own.items()
    ]
    if columns:
        yield Folded(f"{metric} with one column shuffled", Grid(("tower", "column", "difference"), tuple(columns)))
    for mode, found in modes.items():
        subsets = tuple(
            (", ".join(each["present"]) or "(none)", number(each["metrics"].get(metric)))
            for each in found.get("subsets", ())
        )
        if subsets:
            yield Folded(f"{metric} of every subset ({mode})", Grid(("towers present", metric), subsets))
