"""An ablation for people: what each tower costs, what is left without it, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from towerkit.ablation.result import Ablation, Retrained
from towerkit.grid import Grid
from towerkit.metrics.significance import Difference


def show_ablation(found: Ablation, console: Console) -> None:
    """Print an ablation.

    Args:
        found: What to print.
        console: Where.
    """
    _show_costs(found, console)
    for metric in found.whole:
        _show_metric(found, metric, console)
    _show_retrained("trained again without", found.retrained, found, console)
    _show_retrained("trained again with", {e.change: e for e in found.structure.values()}, found, console)
    for metric in found.whole:
        _show_columns(found, metric, console)
    for name, reason in found.skipped.items():
        _say(console, f"not trained without {name}: {reason}")
    for note in found.notes:
        _say(console, f"note: {note}")
    for tower in found.costs:
        _say(console, found.verdict(tower))


def _show_costs(found: Ablation, console: Console) -> None:
    table = Grid(["tower", "reads", "parameters", "KiB", "ms per row", "share of"])
    for name, cost in found.costs.items():
        reads = ", ".join(cost.reads) or "(no column of its own)"
        share = f"{cost.share:.1%} {cost.group}"
        table.add(name, reads, f"{cost.parameters:,}", f"{cost.bytes / 1024:,.1f}", f"{cost.ms_per_row:.4f}", share)
    table.show(console)


def _show_metric(found: Ablation, metric: str, console: Console) -> None:
    """A row per tower: the change without it in each mode, then its Shapley values."""
    whole = found.whole[metric]
    _say(console, f"{metric}: {whole.value:.4f} with all towers; the change without one, and its Shapley value")
    modes = list(found.played)
    table = Grid(["without", *modes, *(f"Shapley ({mode})" for mode in modes if found.played[mode].shares)])
    for name in found.costs:
        cells = [_change(found.played[mode].alone.get(name, {}).get(metric)) for mode in modes]
        for mode in modes:
            share = found.played[mode].shares.get(name, {}).get(metric)
            if share is not None:
                sampled = "" if share.error is None else f" ± {share.error:.4f}"
                cells.append(f"{share.value:+.4f}{sampled} [{share.low:+.4f}, {share.high:+.4f}]")
        if any(cells):
            table.add(name, *cells)
    if modes:
        table.show(console)


def _show_retrained(what: str, each: Mapping[str, Retrained], found: Ablation, console: Console) -> None:
    if not each:
        return
    table = Grid([what, *found.whole])
    for name, one in each.items():
        table.add(name, *(_change(one.metrics.get(metric)) for metric in found.whole))
    table.show(console)


def _show_columns(found: Ablation, metric: str, console: Console) -> None:
    if not found.columns:
        return
    _say(console, f"{metric}: the change with one column shuffled")
    table = Grid(["tower", "column", "change"])
    for tower, own in found.columns.items():
        for column, pairs in own.items():
            table.add(tower, column, _change(pairs.get(metric)))
    table.show(console)


def _change(pair: Difference | None) -> str:
    if pair is None:
        return ""
    if pair.difference != pair.difference:
        return "undefined"
    chance = "" if pair.is_clear else " chance"
    return f"{pair.difference:+.4f} [{pair.low:+.4f}, {pair.high:+.4f}]{chance}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
