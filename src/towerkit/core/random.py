"""Counter-based randomness: a number is a pure function of a seed and a position.

There is no hidden state to save, so a resumed training draws what an uninterrupted one would have
drawn, and two engines that ask for the same position get the same number. The mixing function is
the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def stream(seed: int, *names: object) -> int:
    """A 64-bit key for one named use of a seed, so that no two uses share their numbers.

    Example:
        >>> stream(0, "negatives", 3) == stream(0, "negatives", 3) != stream(0, "shuffle", 3)
        True
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def random_bits(key: int, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 random bits for each counter, any shape."""
    with np.errstate(over="ignore"):
        z = (counters + np.uint64(1)) * _GOLDEN + np.uint64(key)
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return z ^ (z >> np.uint64(31))


def random_integers(key: int, counters: NDArray[np.uint64], high: int) -> NDArray[np.int64]:
    """An integer in ``[0, high)`` for each counter; ``high`` must be below 2**32.

    The upper 32 random bits are scaled by a product and a shift, so the bias is below ``high / 2**32``.
    """
    upper = random_bits(key, counters) >> np.uint64(32)
    return ((upper * np.uint64(high)) >> np.uint64(32)).astype(np.int64)


def generator(seed: int, *names: object) -> np.random.Generator:
    """A NumPy generator for one named use of a seed."""
    return np.random.default_rng(stream(seed, *names))
