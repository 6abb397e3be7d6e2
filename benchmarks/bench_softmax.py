"""A step of sampled softmax with in-batch and shared negatives, beside its own bare matrix products, in turns.

2,048 queries against their 2,048 positives and 1,024 shared uniform negatives, width 64, tables as large as Gowalla's. The
products are logits ``Q C^T``, candidate gradient ``P^T Q`` and, with two backpropagations, query gradient ``P C``; bare, they
write into buffers that stay. Beside them stand the same products as the engine takes them: by tiles, from oneDNN where PyTorch
has it, which is faster than ``torch.mm``; a step's ratio to these tells what it adds to its own products. A step of the library
is all of it: order, negatives, masks, logarithms of the sampling probability, softmax, both gradients, and the update of the
touched rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from harness import alternate_timed, ratio, report, stopwatch
from library import dataset_of, fastest_threads, library_sides
from pairs import gowalla

from towerkit.kernels.product import product

BARE, OWN = "bare products", "products as the engine takes them"


def spec_of(update: str, *, batch: int, negatives: int, dim: int) -> dict[str, Any]:
    """The step as a spec."""
    tower = {"kind": "id", "dim": dim}
    pool = [{"kind": "in_batch"}, {"kind": "uniform", "count": negatives, "shared": True}]
    return {
        "model": {"kind": "two_tower", "query": tower, "candidate": tower, "match": {"kind": "dot"}},
        "objective": {"loss": {"kind": "sampled_softmax", "temperature": 0.1}, "negatives": pool},
        "update": {"kind": update},
        "training": {"batch_size": batch, "drop_last": True, "optimizer": {"kind": "adam", "rows": "touched"}},
    }


def bare(count: int, *, batch: int, negatives: int, dim: int) -> Callable[[], None]:
    """Two or three products of the step's shapes."""
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(batch, dim, generator=draw)
    candidate = torch.randn(batch + negatives, dim, generator=draw)
    logits = torch.empty(batch, batch + negatives)
    by_candidate, by_query = torch.empty_like(candidate), torch.empty_like(query)

    def products() -> None:
        torch.mm(query, candidate.T, out=logits)
        torch.mm(logits.T, query, out=by_candidate)
        if count == 3:
            torch.mm(logits, candidate, out=by_query)

    return products


def engines_own(count: int, *, batch: int, negatives: int, dim: int) -> Callable[[], None]:
    """The same products by the function that the engine calls, into new memory as it does."""
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(batch, dim, generator=draw)
    candidate = torch.randn(batch + negatives, dim, generator=draw)

    def products() -> None:
        for part in query.split(max(1, (1 << 16) // (batch + negatives)) * 16):  # four megabytes of logits
            logits = product(part, candidate)
            product(part.T, logits.T)
            if count == 3:
                product(logits, candidate.T)

    return products


def per_call(timed: Callable[[], float], calls: int) -> Callable[[], float]:
    """A side whose time is divided by the steps that it holds."""
    return lambda: timed() / calls


def repeated(work: Callable[[], None], times: int) -> Callable[[], None]:
    """So many calls, so that an engine's epoch and the bare products take turns of like length."""

    def together() -> None:
        for _ in range(times):
            work()

    return together


def measure(update: str, count: int, *, tiny: bool) -> None:
    """One update, with every engine that takes it."""
    batch, negatives, dim = (64, 32, 8) if tiny else (2048, 1024, 64)
    source = gowalla(tiny=tiny).part(40 * batch)
    steps = len(source.pairs.users) // batch
    spec = spec_of(update, batch=batch, negatives=negatives, dim=dim)
    epochs, refused = library_sides(dataset_of(source.pairs), spec, epochs={"torch": 1})
    products = repeated(bare(count, batch=batch, negatives=negatives, dim=dim), steps)
    own = repeated(engines_own(count, batch=batch, negatives=negatives, dim=dim), steps)
    sides = {name: per_call(lambda work=work: stopwatch(work), steps) for name, work in ((BARE, products), (OWN, own))}
    sides |= {name: per_call(timed, steps) for name, timed in epochs.items()}
    threads = {}
    for name, timed in sides.items():
        sides[name], threads[name] = fastest_threads(timed)
    seconds = alternate_timed(sides, repeats=2 if tiny else 3)
    about = {"n": batch, "candidates": batch + negatives, "dim": dim, "dtype": "float32", "products": count}
    about |= {"data": source.origin, "threads_of": threads, "refused": refused}
    ratios = {f"{name} / {base}": ratio(seconds[name], seconds[base]) for name in epochs for base in (BARE, OWN)}
    report(f"softmax step, {update}", seconds, **about, ratios=ratios)


def main() -> None:
    """Both updates."""
    for update, count in (("two_backprop", 3), ("one_backprop", 2)):
        measure(update, count, tiny="--tiny" in sys.argv)


if __name__ == "__main__":
    main()
