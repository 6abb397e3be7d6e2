"""An epoch of one-backprop and of BPR by each engine of the library, beside plain PyTorch loops, in turns.

One-backprop has the reference's settings (dim 32, five negatives, batches of 1024, Adam with weight decay over all item rows,
one of a user's several writes kept), so that both sides do the same arithmetic; ``reference/one_backprop.py`` has the loops.
The same with the library's own defaults (touched rows only, duplicates grouped) stands beside it.
Each side runs with the number of threads, one or all, that suits it best.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness import alternate_timed, ratio, report, stopwatch
from library import dataset_of, fastest_threads, library_sides
from pairs import Source, gowalla, ml100k
from reference.bpr import Bpr
from reference.one_backprop import ByHand, Settings, Vectorized, VectorizedAutograd

Side = Callable[[], float]


def one_backprop_spec(settings: Settings, *, as_reference: bool) -> dict[str, Any]:
    """The spec of the reference's arithmetic, or of the library's defaults."""
    tower = {"kind": "id", "dim": settings.dim}
    optimizer: dict[str, Any] = {"kind": "adam", "lr": settings.lr}
    optimizer |= {"rows": "all", "weight_decay": settings.weight_decay} if as_reference else {"rows": "touched"}
    return {
        "model": {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": "dot"}},
        "objective": {
            "loss": {"kind": "sampled_softmax"},
            "negatives": [{"kind": "uniform", "count": settings.negatives}],
        },
        "update": {
            "kind": "one_backprop",
            "beta": settings.beta,
            "duplicates": "last" if as_reference else "grouped",
        },
        "training": {"batch_size": settings.batch_size, "drop_last": True, "optimizer": optimizer},
    }


def bpr_spec(dim: int, optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """BPR with two backpropagations and one uniform negative."""
    tower = {"kind": "id", "dim": dim}
    return {
        "model": {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": "dot"}},
        "objective": {"loss": {"kind": "bpr"}, "negatives": [{"kind": "uniform", "count": 1}]},
        "update": {"kind": "two_backprop"},
        "training": {"batch_size": 1024, "optimizer": dict(optimizer)},
    }


def measure(
    name: str, source: Source, sides: dict[str, Side], refused: dict[str, str], repeats: int, **about: Any
) -> None:
    """Choose threads, take turns, report every reference over every engine."""
    threads = {}
    for side, timed in sides.items():
        sides[side], threads[side] = fastest_threads(timed)
    seconds = alternate_timed(sides, repeats)
    own = [side for side in sides if side.startswith("towerkit")]
    ratios = {
        f"{other} / {mine}": ratio(seconds[other], seconds[mine]) for mine in own for other in sides if other not in own
    }
    pairs = source.pairs
    sizes = {"n": len(pairs.users), "users": pairs.num_users, "items": pairs.num_items}
    told = {"data": source.origin, "dtype": "float32", "threads_of": threads, "refused": refused}
    report(name, seconds, **sizes, **told, **about, ratios=ratios)


def one_backprop(source: Source, settings: Settings, *, tiny: bool) -> None:
    """Both flavors, beside the three loops."""
    dataset, pairs = dataset_of(source.pairs), source.pairs
    loops = {"by hand": ByHand, "vectorized": Vectorized, "vectorized, autograd": VectorizedAutograd}
    references: dict[str, Side] = {
        name: partial(stopwatch, loop(pairs, settings).epoch) for name, loop in loops.items()
    }
    for flavor, as_reference in (("", True), (", library's defaults", False)):
        spec = one_backprop_spec(settings, as_reference=as_reference)
        epochs = {"torch": 1} if tiny else {"torch": 1, "compiled": 30}
        sides, refused = library_sides(dataset, spec, epochs=epochs)
        about = {"dim": settings.dim, "negatives": settings.negatives, "batch": settings.batch_size}
        measure(f"one-backprop epoch{flavor}", source, {**references, **sides}, refused, 2 if tiny else 5, **about)


def bpr(source: Source, dim: int, *, tiny: bool) -> None:
    """BPR beside the vectorized loop, by plain gradient descent as most implementations do it."""
    dataset = dataset_of(source.pairs)
    spec = bpr_spec(dim, {"kind": "sgd", "lr": 0.05, "rows": "touched"})
    sides, refused = library_sides(dataset, spec, epochs={"torch": 1} if tiny else {"torch": 1, "compiled": 5})
    loop = Bpr(source.pairs, dim=dim)
    measure(
        "bpr epoch", source, {"vectorized": partial(stopwatch, loop.epoch), **sides}, refused, 2 if tiny else 3, dim=dim
    )


def main() -> None:
    """MovieLens-100K for one-backprop, Gowalla for BPR."""
    tiny = "--tiny" in sys.argv
    settings = Settings(dim=8, batch_size=64) if tiny else Settings()
    one_backprop(ml100k(tiny=tiny), settings, tiny=tiny)
    bpr(gowalla(tiny=tiny).part(200_000), 8 if tiny else 64, tiny=tiny)


if __name__ == "__main__":
    main()
