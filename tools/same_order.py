"""Whether two ablations order the towers alike: python tools/same_order.py ONE.json OTHER.json

Two towers are ordered by an ablation where the intervals of their Shapley values do not overlap. The exit code is 1 where the two
files order some pair of towers the other way round.
"""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any


def order(values: dict[str, Any], one: str, other: str) -> int:
    """1 where the first tower is worth more, -1 where it is worth less, 0 where the intervals overlap."""
    if values[one]["low"] > values[other]["high"]:
        return 1
    return -1 if values[one]["high"] < values[other]["low"] else 0


def main() -> None:
    """Compare, print, tell."""
    first, second = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:3])
    opposed = 0
    for mode in first["modes"]:
        for figure in first["metrics"]:
            shapley = [each["modes"][mode]["shapley"] for each in (first, second)]
            values = [{name: parts[figure] for name, parts in each.items() if figure in parts} for each in shapley]
            pairs = [(order(values[0], *pair), order(values[1], *pair), pair) for pair in combinations(values[0], 2)]
            against = [pair for here, there, pair in pairs if here * there < 0]
            alike = sum(here * there > 0 for here, there, _ in pairs)
            print(
                f"{mode} {figure}: {alike} of {len(pairs)} pairs of towers ordered alike, {len(against)} against {against}"
            )
            opposed += len(against)
    sys.exit(int(opposed > 0))


if __name__ == "__main__":
    main()
