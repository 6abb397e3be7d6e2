"""Functions compiled at their first call, and kept on disk for the next process.

Rules of the kernels, so that the compiled code stays readable and its results the same on any machine:

- a kernel and the functions it calls stand in one file: the cache looks at the file of the kernel alone, and would miss an
  edit elsewhere;
- a ``prange`` iteration writes rows of its own and nothing else: the number of threads then never changes a bit;
- a parallel kernel takes arrays out of a tuple by index: unpacked into names, Numba may drop what is written to them;
- float32 sums may be reordered within one row (``fastmath``), so that they use the machine's vectors; a kernel that meets
  infinities or NaN says ``exact=True``.

With ``NUMBA_DISABLE_JIT=1`` the same functions run as plain Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""What may be assumed of sums: everything but that NaN and infinity do not occur."""


def compiled(*, parallel: bool = False, exact: bool = False) -> Callable[[F], F]:
    """Compile a function with Numba when it is first called.

    The machine code is kept beside the source, else in the user's cache folder; where neither can be written to, it is
    compiled again in each process.

    Args:
        parallel: ``numba.prange`` loops use all threads.
        exact: Keep the order of every sum as written.
    """

    def decorate(function: F) -> F:
        options: dict[str, Any] = {"parallel": parallel, "nogil": True, "error_model": "numpy"}
        options["fastmath"] = set() if exact else _FAST
        try:
            return cast(F, numba.njit(cache=True, **options)(function))
        except RuntimeError:  # no folder for the cache: source and home are both read-only
            return cast(F, numba.njit(**options)(function))

    return decorate


def parts_of(count: int) -> int:
    """Into how many parts a parallel kernel cuts ``count`` places whose loop is a function of its own: one for each thread.

    Such a kernel compiles quickly, and uses the threads that the other parallel kernels have woken: threads of Python's would
    stand in line behind these, which go on looking for work for some milliseconds.

    Args:
        count: Places.
    """
    return max(1, min(_num_threads(), count))


def was_compiled(function: Callable[..., Any]) -> bool:
    """Whether a :func:`compiled` function need not be compiled any more: by this process, or by one before that kept it.

    Args:
        function: A kernel; plain Python, where compiling is disabled, needs none.
    """
    if not isinstance(function, Dispatcher):
        return True
    folder = function.stats.cache_path
    kept = folder and any(Path(folder).glob(f"*.{function.py_func.__name__}-*.nbi"))
    return bool(function.signatures or kept)


@contextmanager
def torch_threads() -> Iterator[None]:
    """Inside the block, kernels use as many threads as PyTorch does; every parallel kernel is called inside one.

    Both may share one OpenMP library, where a count set for one is the other's too: PyTorch's is put back.
    """
    count = _num_threads()
    try:
        numba.set_num_threads(max(1, min(count, int(numba.config.NUMBA_NUM_THREADS))))  # type: ignore[attr-defined]
        yield
    finally:
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(count)


def _num_threads() -> int:
    """As many as PyTorch uses; where nobody has loaded it, as a server that only searches has not, as many as Numba may."""
    torch = sys.modules.get("torch")
    return int(numba.config.NUMBA_NUM_THREADS if torch is None else torch.get_num_threads())  # type: ignore[attr-defined]
