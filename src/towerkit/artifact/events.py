"""What each query met, to a file and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from towerkit.core.errors import RunError
from towerkit.features.history import Events
from towerkit.storage.tensors import load_tensors, save_tensors


def save_events(path: Path, events: Events) -> None:
    """Write the events of the known queries."""
    times = {} if events.times is None else {"times": events.times}
    save_tensors(path, {"starts": events.starts.astype(np.int64), "codes": events.codes.astype(np.int32), **times})


def load_events(path: Path, num_queries: int, num_codes: int) -> Events:
    """Read events.

    Args:
        path: The file.
        num_queries: Queries of the catalogue.
        num_codes: Codes of candidates, that of the unknown one included.

    Raises:
        RunError: If the file is missing or damaged, or does not fit the catalogues.
    """
    arrays = load_tensors(path)
    try:
        events = Events(
            arrays["starts"].astype(np.int64), arrays["codes"].astype(np.int32), arrays.get("times"), is_dated=True
        )
        fits = _fits(events, num_queries, num_codes)
    except (IndexError, KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise RunError(
            f"{path} does not fit the catalogues of {num_queries:,} queries and {num_codes - 1:,} candidates; train the Run "
            "again."
        )
    return events


def _fits(events: Events, num_queries: int, num_codes: int) -> bool:
    """A place or code beyond its table would be read from outside the array."""
    starts, codes, times = events.starts, events.codes, events.times
    if starts.shape != (num_queries + 2,) or codes.ndim != 1 or starts[0] or starts[1] or starts[-1] != len(codes):
        return False
    if (np.diff(starts) < 0).any() or (codes < 1).any() or (codes >= num_codes).any():
        return False
    if times is None:
        return True
    falls = np.flatnonzero(np.diff(times) < 0) + 1  # only from one query to the next
    return times.shape == codes.shape and bool(np.isfinite(times).all() and np.isin(falls, starts).all())
