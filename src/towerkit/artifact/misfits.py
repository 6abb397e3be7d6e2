"""Files of a Run that agree with their hashes but not with each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from towerkit.core.errors import RunError, TowerkitError

_MISFITS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


@contextmanager
def damaged_is_a_run_error(path: Path) -> Iterator[None]:
    """Files that agree with their hashes may still not agree with each other; that is never a bare traceback."""
    try:
        yield
    except TowerkitError:
        raise
    except (*_MISFITS, pa.ArrowException) as error:
        raise RunError(
            f"{path}: its files do not fit together ({type(error).__name__}: {error}); train the Run again."
        ) from error
