"""The part of docs/results.md about what a Run says of itself, from known.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shown import interval, short, signed

HEAD = """
## What the Runs say of themselves

`ablate`, `crossval` and `tune` from the command line, on one data set of each sort; `KEEP=1 bash acceptance/6.sh` does it
again. What the questions mean and how they are answered stands in [ablation](ablation.md),
[cross-validation](crossval.md) and [tuning](tuning.md), which have more figures. A difference has its paired bootstrap
interval; *chance* means that it is not clear after Holm's correction over all that was asked with it. A tower's Shapley
value is what it adds, averaged over all orders in which the towers could join. Searches are short here: so many trials show
that it works, not what the best settings are.
"""


@dataclass(frozen=True)
class World:
    """A data set of acceptance/6.sh."""

    name: str
    title: str
    about: str
    metrics: tuple[str, ...]
    """Those that are shown of the folds and of the search."""


WORLDS = (
    World(
        "shop",
        "The shop: who buys what",
        "`examples/shop_ablation.yaml`: a two-tower whose candidate side has four towers, one of them useless by construction.",
        ("ndcg@20", "recall@20"),
    ),
    World(
        "clothing",
        "Women's clothing reviews: two tasks",
        "`examples/clothing_multitask.yaml` with `model.absent=0.1`: words and a table, stars and recommendation.",
        ("rating/mae", "rating/auc", "recommended/auc"),
    ),
    World(
        "emoji",
        "Emoji: picture and name, three tasks",
        "`examples/emoji.yaml` with `model.absent=0.1`: a picture by EfficientNet-Lite0, frozen, and a name.",
        ("category/accuracy", "subcategory/accuracy", "keywords/f1_micro"),
    ),
    World(
        "ml1m",
        "MovieLens-1M: ids, features and titles",
        "`examples/ml1m_features.yaml`, 4 epochs in place of 14.",
        ("ndcg@20", "recall@20"),
    ),
)


def known_part(content: Mapping[str, Any]) -> str:
    """The sections of the data sets that were measured."""
    parts = [HEAD]
    parts += [section(world, content[world.name]) for world in WORLDS if world.name in content]
    return "\n".join(parts)


def section(world: World, found: Mapping[str, Any]) -> str:
    """One data set: towers, folds, search."""
    lines = [f"### {world.title}", "", world.about, ""]
    for part in ("ablation", "again"):
        if part in found:
            lines += [*towers(found[part], "" if part == "ablation" else " under another seed"), ""]
    if "folds" in found:
        lines += [*folds(found["folds"], world.metrics), ""]
    if "tuning" in found:
        lines += [*tuning(found["tuning"], world.metrics), ""]
    return "\n".join([*lines, f"Measured {found['measured']}.", ""])


def towers(found: Mapping[str, Any], when: str) -> list[str]:
    """The table of the towers."""
    metrics = list(found["metrics"])
    whole = ", ".join(f"{name} {short(found['metrics'][name]['value'])}" for name in metrics)
    heads = [f"without it, {name}" for name in metrics] + [f"Shapley value, {name}" for name in metrics]
    lines = [
        f"`ablate`{when} (mode {found['mode']}; the whole model: {whole}):",
        "",
        "| tower | " + " | ".join(heads) + " | parameters | share of the time of its side |",
        "|---" * (len(heads) + 3) + "|",
    ]
    for name, own in found["towers"].items():
        cells = [gap(own["without"].get(metric)) for metric in metrics]
        cells += [
            f"{signed(each['value'])} {interval(each)}" if (each := own["shapley"].get(m)) else "" for m in metrics
        ]
        share = "" if own["share"] is None else f"{100 * own['share']:.0f} %"
        lines.append(f"| `{name}` | {' | '.join(cells)} | {own['parameters']:,} | {share} |")
    return lines


def folds(found: Mapping[str, Any], metrics: tuple[str, ...]) -> list[str]:
    """The table of the cross-validation."""
    baselines = list(found["baselines"])
    lines = [
        f"`crossval`, {found['folds']} folds ({found['by']}):",
        "",
        "| figure | mean of the folds | lowest to highest | "
        + " | ".join(each.replace("_", " ") for each in baselines)
        + " |",
        "|---" * (3 + len(baselines)) + "|",
    ]
    for metric in metrics:
        if metric not in found["metrics"]:
            continue
        own, apart = found["metrics"][metric], found["spread"][metric]
        beside = [
            short(value) if (value := found["baselines"][each].get(metric)) is not None else "" for each in baselines
        ]
        row = [metric, f"{short(own['value'])} {interval(own)}", f"{short(apart['least'])} to {short(apart['most'])}"]
        lines.append("| " + " | ".join([*row, *beside]) + " |")
    return lines


def tuning(found: Mapping[str, Any], metrics: tuple[str, ...]) -> list[str]:
    """What the search found."""
    many = sum(found["trials"].values())
    states = ", ".join(f"{count} {state}" for state, count in found["trials"].items())
    first = "" if found["default"] is None else f" against {short(found['default']['value'])} of the default"
    reached = f"{found['metric']} {short(found['best']['value'])} (trial {found['best']['trial']})"
    told = f"`tune`, {many} trials ({states}), {found['seconds']:.0f} s: {reached}{first}"
    if not found["comparison"]:
        return [f"{told}; no trial was better than the default."]
    return [f"{told}. On test rows, the best beside the default: {compared(found['comparison'], metrics)}."]


def compared(differences: Mapping[str, Any], metrics: tuple[str, ...]) -> str:
    """Some differences in a line."""
    return ", ".join(f"{metric} {gap(differences[metric])}" for metric in metrics if metric in differences)


def gap(found: Mapping[str, Any] | None) -> str:
    """A difference with its interval, and whether it is clear."""
    if found is None or found["difference"] is None:
        return ""
    chance = "" if found["clear"] else " chance"
    return f"{signed(found['difference'])} [{signed(found['low'])}, {signed(found['high'])}]{chance}"
