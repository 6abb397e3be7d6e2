"""What this machine can do at most: bytes per second and floating-point operations per second, as PyTorch reaches them.

Each function makes a *side* for ``harness.alternate``: work without allocation whose size is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Limit:
    """Some work and its size."""

    work: Callable[[], object]
    amount: float
    """Bytes moved, or floating-point operations, per call."""
    unit: str
    """Of ``amount`` per second, in units of 10^9."""

    def rate(self, seconds: float) -> float:
        """10^9 units per second."""
        return self.amount / seconds / 1e9


def triad(size: int) -> Limit:
    """``a = b + 3 c`` over float32 vectors too large for the caches: two reads and one write per element.

    The write may first read its line, which the count leaves out, as STREAM does.

    Args:
        size: Elements of each of the three vectors.

    Reference: McCalpin, STREAM, 1995.
    """
    b, c, a = torch.ones(size), torch.ones(size), torch.empty(size)
    return Limit(lambda: torch.add(b, c, alpha=3.0, out=a), 3 * 4 * size, "GB/s")


def gemm(rows: int, inner: int, columns: int, *, dtype: torch.dtype = torch.float32, medium: bool = False) -> Limit:
    """``[rows, inner] @ [inner, columns]`` into a buffer that stays.

    Args:
        rows: Of the left matrix.
        inner: The axis that is summed over.
        columns: Of the right matrix, which is stored by columns, as tables of vectors are.
        dtype: Of inputs and result.
        medium: With ``torch.set_float32_matmul_precision("medium")`` during the product alone.
    """
    draw = torch.Generator().manual_seed(0)
    left = torch.randn(rows, inner, generator=draw).to(dtype)
    right = torch.randn(columns, inner, generator=draw).to(dtype).T
    out = torch.empty(rows, columns, dtype=dtype)

    def work() -> None:
        with matmul_precision("medium" if medium else torch.get_float32_matmul_precision()):
            torch.mm(left, right, out=out)

    return Limit(work, 2.0 * rows * inner * columns, "GFLOP/s")


def gather(table_rows: int, dim: int, picked: int) -> Limit:
    """``picked`` random rows of a float32 table into a buffer: the reads of an embedding, and as many writes."""
    draw = torch.Generator().manual_seed(0)
    table = torch.randn(table_rows, dim, generator=draw)
    rows = torch.randint(table_rows, (picked,), generator=draw)
    out = torch.empty(picked, dim)
    return Limit(lambda: torch.index_select(table, 0, rows, out=out), 2 * 4 * picked * dim, "GB/s")


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Inside the block, float32 products of PyTorch use this precision; afterwards what they used before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
