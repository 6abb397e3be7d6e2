"""A matrix of counts: each cell filled by its share of the row."""

from __future__ import annotations

from collections.abc import Sequence

from towerkit.reporting.chart import WIDTH, Chart, Grid, label, slug
from towerkit.reporting.markup import element, joined, text

_LEFT, _TOP, _TALLEST = 92.0, 40.0, 44.0


def heat(
    title: str,
    counts: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    about: str,
    across_name: str = "predicted",
    down_name: str = "true",
    name: str | None = None,
) -> Chart:
    """A square matrix of counts.

    Args:
        title: Of the drawing.
        counts: ``[names, names]``, rows from the top.
        names: Of the rows and of the columns.
        about: What is seen, in a sentence.
        across_name: What the columns are.
        down_name: What the rows are.
        name: Of the file; made of the title when not given.
    """
    size = (WIDTH - _LEFT - 4) / max(len(names), 1)
    tall = min(size, _TALLEST)
    parts = [label(f"{down_name} ↓   {across_name} →", 4.0, 14.0, "m", room=WIDTH - 8)]
    for place, each in enumerate(names):
        parts.append(label(each, _LEFT + size * (place + 0.5), _TOP - 6, "small", anchor="middle", room=size + 8))
    for down, row in enumerate(counts):
        y = _TOP + tall * down
        parts.append(label(names[down], _LEFT - 6, y + tall / 2 + 4, "small", anchor="end", room=_LEFT - 8))
        for place, count in enumerate(row):
            share = count / sum(row) if sum(row) else 0.0
            told = f"{down_name} {names[down]}, {across_name} {names[place]}: {count:,} ({share:.1%} of the row)"
            cell: dict[str, object] = {"class": f"fl s0 h{round(share * 10)}", "x": _LEFT + size * place, "y": y}
            parts.append(
                element(
                    "g", {}, element("title", {}, text(told)), element("rect", cell | {"width": size, "height": tall})
                )
            )
            if len(names) <= 8:
                middle = _LEFT + size * (place + 0.5)
                parts.append(label(f"{count:,}", middle, y + tall / 2 + 4, anchor="middle", room=size + 14))
    ends: dict[str, object] = {"x": _LEFT, "y": _TOP, "width": size * len(names), "height": tall * len(names)}
    parts.append(element("rect", {"class": "ax gr", **ends}))
    rows = tuple((names[down], *(f"{count:,}" for count in row)) for down, row in enumerate(counts))
    grid = Grid((f"{down_name} \\ {across_name}", *names), rows)
    return Chart(name or slug(title), title, about, _TOP + tall * len(names) + 6, joined(parts), grid)
