"""The model as a picture; where an ablation of this very Run lies beside it, also what each tower costs and brings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from towerkit.ablation.opening import seal_of
from towerkit.core.errors import TowerkitError
from towerkit.metrics.shown import headlines
from towerkit.reporting.blocks import Part, Section, Words, grid_markup, section_markup
from towerkit.reporting.chart import Chart
from towerkit.reporting.kept import kept_sections
from towerkit.reporting.markup import Markup, element, foreign, joined, text
from towerkit.storage.hashes import read_json
from towerkit.studio.frame import View, note
from towerkit.studio.opened import Opened
from towerkit.studio.picture import Bar, plan_chart
from towerkit.studio.plan import Plan, plan_of

_MOST_BYTES = 1 << 24
_MOST_FILES = 500


def towers_page(opened: Opened, root: Path) -> View:
    """The picture, and the ablation where there is one.

    Args:
        opened: The Run.
        root: The folder whose files may be about it.
    """
    plan = plan_of(opened.run.model)
    found = ablation_of(opened, root)
    content: Mapping[str, Any] = {} if found is None else read_json(found)
    chart = plan_chart(plan, _bars(plan, content))
    parts = [_figure(chart)]
    if found is None:
        name = opened.run.path.name
        parts.append(
            note(
                "What each tower brings is not known here. Measure it, and keep it beside the Run: towerkit ablate "
                f"{name} --out {name}.ablation.json"
            )
        )
    else:
        parts += [section_markup(each) for each in _sections(found)]
    return View(opened.entry.name, joined(parts), run=opened.entry.id, topic="towers")


def _figure(chart: Chart) -> Markup:
    drawing = element(
        "div", {"class": "scroll", "tabindex": 0, "role": "group", "aria-label": chart.title}, chart.inline()
    )
    table = element("details", {}, element("summary", {}, text("The same as a table")), grid_markup(chart.table))
    return element("figure", {"class": "plan"}, drawing, element("p", {}, foreign(chart.about)), table)


def _sections(found: Path) -> list[Section]:
    try:
        return kept_sections([found])
    except TowerkitError as error:
        return [Section("ablation", "Ablation", (Part("", (Words(str(error), is_note=True),)),))]


def ablation_of(opened: Opened, root: Path) -> Path | None:
    """The file that an ablation of these very files of a Run wrote; the newest, where there are several."""
    known = opened.kept.get("ablation")
    if isinstance(known, Path) and known.is_file():
        return known
    seal = seal_of(opened.run)
    found = next((path for path in _files(opened.run.path, root) if _is_about(path, seal)), None)
    opened.kept["ablation"] = found
    return found


def _files(run: Path, root: Path) -> Iterator[Path]:
    """JSON files beside the Run and in the folder of Runs, the newest first."""
    folders = dict.fromkeys([run.parent, *([root] if run != root else [])])
    found = []
    for folder in folders:
        for path in folder.glob("*.json"):
            try:
                about = path.stat()
            except OSError:
                continue
            if about.st_size <= _MOST_BYTES:
                found.append((about.st_mtime, path))
    yield from (path for _, path in sorted(found, reverse=True)[:_MOST_FILES])


def _is_about(path: Path, seal: str) -> bool:
    try:
        if seal not in path.read_text(encoding="utf-8"):
            return False
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == "ablation" and content.get("seal") == seal


def _bars(plan: Plan, content: Mapping[str, Any]) -> dict[str, list[Bar]]:
    """Box -> its share of the learned numbers, of the time, and what goes without it."""
    whole = sum(box.parameters or 0 for box in plan.boxes)
    losses = _losses(content)
    most = max((abs(value) for _, value in losses.values()), default=0.0)
    found: dict[str, list[Bar]] = {}
    for box in plan.boxes:
        if not box.is_tower:
            continue
        bars = []
        if whole and box.parameters:
            share = box.parameters / whole
            bars.append(Bar("size", share, f"{share:.1%} of the model", 5))
        cost = (content.get("towers") or {}).get(box.name)
        if isinstance(cost, Mapping) and isinstance(cost.get("share"), float):
            bars.append(Bar("time", cost["share"], f"{cost['share']:.0%} of a {cost.get('group', 'row')}", 4))
        if box.name in losses:
            metric, value = losses[box.name]
            told = f"{value:+.4f} {metric.rpartition('/')[2]}"
            bars.append(Bar("without it", abs(value) / most if most else 0.0, told, 1 if value > 0 else 0))
        found[box.name] = bars
    return found


def _losses(content: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Tower -> the first headline figure, and how much of it there is more without the tower."""
    metrics = content.get("metrics") or {}
    if not metrics:
        return {}
    metric = headlines(metrics)[0]
    for mode in (content.get("modes") or {}).values():
        pairs = {name: each.get(metric) for name, each in mode.get("without", {}).items()}
        return {name: (metric, float(each["difference"])) for name, each in pairs.items() if each is not None}
    return {}
