"""Vectors computed once for each distinct content, whatever column, table or process it comes from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.notices import notice
from towerkit.pretrained.cache import ContentCache

CHUNK = 256
"""Contents that are computed before they are kept: what a killed process loses."""
_TELL_EVERY_S = 2.0


def content_key(content: bytes) -> bytes:
    """The key of a content: 16 bytes of its hash.

    Example:
        >>> len(content_key(b"a text")), content_key(b"a text") == content_key(b"another")
        (16, False)
    """
    return hashlib.blake2b(content, digest_size=16).digest()


def vectors_by_content(
    keys: Sequence[bytes],
    compute: Callable[[list[int]], NDArray[np.float32]],
    *,
    dim: int,
    cache: ContentCache,
    sizes: Sequence[int],
    what: str,
) -> NDArray[np.float32]:
    """The vector of each content: read from the cache, or computed and kept there.

    What is computed is computed in the order of size, the longest first, so that contents of a batch are alike and a batch
    that does not fit into memory is met at once.

    Args:
        keys: ``[contents]`` :func:`content_key` of each; equal contents are computed once.
        compute: Positions among the keys -> ``[positions, dim]``.
        dim: Width of the vectors.
        cache: Of this encoder with this preprocessing, and no other.
        sizes: ``[contents]`` how much work each is.
        what: What is computed, for whoever is told how far it is.

    Returns:
        ``[contents, dim]``.

    Raises:
        DataError: If a computed vector is not finite.
    """
    vectors = np.empty((len(keys), dim), np.float32)
    known = cache.read(keys)
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    missing = [place for key, place in first.items() if len(known.get(key, b"")) != 4 * dim]
    missing.sort(key=lambda place: (-sizes[place], place))
    found = {key: np.frombuffer(value, "<f4") for key, value in known.items()}
    told = time.monotonic()
    for start in range(0, len(missing), CHUNK):
        places = missing[start : start + CHUNK]
        computed = np.ascontiguousarray(compute(places), "<f4")
        if not np.isfinite(computed).all():
            bad = places[int(np.flatnonzero(~np.isfinite(computed).all(axis=1))[0])]
            raise DataError(
                f"The encoder gives no finite numbers for row {bad + 1}; use precision: float32, or another encoder."
            )
        fresh = {keys[place]: vector for place, vector in zip(places, computed, strict=True)}
        cache.write({key: vector.tobytes() for key, vector in fresh.items()})
        found |= fresh
        if time.monotonic() - told >= _TELL_EVERY_S:
            told = time.monotonic()
            notice(f"encoding {what}: {start + len(places):,} of {len(missing):,}")
    for place, key in enumerate(keys):
        vectors[place] = found[key]
    return vectors
