"""The limits of this machine: STREAM triad, gathered rows, and products in float32 and bfloat16, in turns."""

from __future__ import annotations

import sys

import torch
from harness import alternate, report
from limits import Limit, gather, gemm, triad


def limits(*, tiny: bool) -> dict[str, Limit]:
    """Name -> work; ``tiny`` only shows that each of them runs."""
    side = 256 if tiny else 2048
    return {
        "stream triad": triad(100_000 if tiny else 40_000_000),
        "gather rows of 64": gather(1_000 if tiny else 1_000_000, 64, 1_000 if tiny else 500_000),
        "float32 product": gemm(side, side, side),
        "float32 product, medium": gemm(side, side, side, medium=True),
        "bfloat16 product": gemm(side, side, side, dtype=torch.bfloat16),
        "float32 product, inner 64": gemm(side, 64, 3 * side // 2),
        "bfloat16 product, inner 64": gemm(side, 64, 3 * side // 2, dtype=torch.bfloat16),
    }


def main() -> None:
    """Time them all."""
    tiny = "--tiny" in sys.argv
    sides = limits(tiny=tiny)
    for limit in sides.values():
        limit.work()  # buffers touched, threads started
    seconds = alternate({name: limit.work for name, limit in sides.items()}, repeats=3 if tiny else 15)
    rates = {
        name: {"best": round(limit.rate(min(seconds[name])), 1), "unit": limit.unit} for name, limit in sides.items()
    }
    report("machine", seconds, dtype="float32, bfloat16", n=len(sides), rates=rates)


if __name__ == "__main__":
    main()
