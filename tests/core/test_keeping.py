"""Values kept for a while (`towerkit.core.keeping`).

Pinned here:
- without a block that keeps, everything is made anew; within one, a key is made once, and another thread makes its own;
- the value that was not asked for the longest goes first; what fails is not kept;
- the seconds saved are those that making took, with what was there already inside of it;
- an object as a key is that object alone.
"""

from __future__ import annotations

import threading
import time

import pytest

from towerkit.core.keeping import Same, keeping, kept


def test_a_key_is_made_once_within_the_block_and_never_kept_outside():
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return "value"

    assert [kept("key", make) for _ in range(2)] == ["value", "value"] and len(made) == 2
    with keeping() as keeper:
        assert [kept("key", make) for _ in range(3)] == ["value"] * 3
        assert len(made) == 3 and keeper.hits == 2
        other = threading.Thread(target=lambda: kept("key", make))
        other.start()
        other.join()
        assert len(made) == 4
    kept("key", make)
    assert len(made) == 5


def test_what_was_not_asked_for_the_longest_goes_first():
    made: list[int] = []

    def ask(key: int) -> None:
        kept(key, lambda: made.append(key))

    with keeping(most=2):
        for key in (1, 2, 1, 3, 1, 2):
            ask(key)
    assert made == [1, 2, 3, 2]


def test_what_fails_is_not_kept():
    with keeping() as keeper:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                kept("key", lambda: 1 / 0)
        assert keeper.hits == 0 and kept("key", lambda: 7) == 7


def test_the_seconds_saved_are_those_of_all_that_was_not_made():
    def inner() -> int:
        time.sleep(0.02)
        return 1

    def outer() -> int:
        time.sleep(0.02)
        return kept("inner", inner)

    with keeping() as keeper:
        kept("inner", inner)
        kept("outer", outer)
        before = keeper.saved_s
        assert before >= 0.02, "the inner value was there"
        kept("outer", outer)
        assert keeper.saved_s - before >= 0.04, "without the block, both would have been made"


def test_an_object_as_a_key_is_that_object_alone():
    one, other = [1], [1]
    assert Same(one) == Same(one) and hash(Same(one)) == hash(Same(one))
    assert Same(one) != Same(other) and Same(one) != one
