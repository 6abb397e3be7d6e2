"""What was computed is kept by content (`towerkit.pretrained.cache`, `.vectors`).

Invariants: what was written comes back in any process, equal contents once; a changed entry, and a file that is no database,
are not trusted and computed again; a killed or failing computation keeps what was done; a folder that cannot be written to
changes no answer; several processes fill one file; vectors are those of the function whatever the cache knows.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from towerkit.core.errors import DataError
from towerkit.core.notices import listening
from towerkit.pretrained import ContentCache, cache_folder, content_key, vectors_by_content
from towerkit.pretrained import vectors as vectors_module


class Computed:
    """A function of texts that counts its calls."""

    def __init__(self, texts: list[str], fails_after: int | None = None) -> None:
        self.texts, self.fails_after, self.asked = texts, fails_after, []  # type: ignore[var-annotated]

    def __call__(self, places: list[int]) -> NDArray[np.float32]:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise KeyboardInterrupt
        self.asked += [self.texts[place] for place in places]
        return np.array([[len(self.texts[place]), ord(self.texts[place][0])] for place in places], np.float32)


def ask(
    texts: list[str], cache: ContentCache, compute: Computed | None = None
) -> tuple[NDArray[np.float32], list[str]]:
    compute = compute or Computed(texts)
    keys = [content_key(text.encode()) for text in texts]
    sizes = [len(text) for text in texts]
    found = vectors_by_content(keys, compute, dim=2, cache=cache, sizes=sizes, what="texts")
    return found, compute.asked


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=12),
)
def test_each_content_is_computed_once_and_the_longest_first(
    tmp_path_factory: pytest.TempPathFactory, one: list[str], other: list[str]
) -> None:
    cache = ContentCache(tmp_path_factory.mktemp("cache") / "deep" / "some.sqlite")
    for texts, before in ((one, set()), (other, set(one))):
        found, asked = ask(texts, cache)
        np.testing.assert_array_equal(found, Computed(texts)(list(range(len(texts)))).reshape(len(texts), 2))
        assert len(asked) == len(set(asked)) and set(asked) == set(texts) - before
        assert [len(text) for text in asked] == sorted((len(text) for text in asked), reverse=True)


def test_a_changed_entry_is_computed_again_and_the_others_are_not(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "c.sqlite")
    ask(["a", "bb", "ccc"], cache)
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE entries SET value = ? WHERE key = ?", (b"\x00" * 8, content_key(b"bb")))
        database.execute("UPDATE entries SET value = ? WHERE key = ?", ("a text", content_key(b"ccc")))
    database.close()
    found, asked = ask(["a", "bb", "ccc"], cache)
    assert sorted(asked) == ["bb", "ccc"] and found[1].tolist() == [2.0, 98.0]
    assert ask(["a", "bb", "ccc"], cache)[1] == []


def test_a_vector_of_another_width_is_not_taken(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "c.sqlite")
    cache.write({content_key(b"a"): b"\x00" * 4})
    assert ask(["a"], cache)[1] == ["a"]


@pytest.mark.parametrize(
    "damage",
    [b"no database at all, but long enough to be taken for one" * 200, b"", b"SQLite format 3\x00" + b"\xff" * 5000],
)
def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    cache = ContentCache(tmp_path / "c.sqlite")
    cache.path.write_bytes(damage)
    assert ask(["a", "b"], cache)[1] == ["a", "b"]
    assert ask(["a", "b"], cache)[1] == []


def test_a_torn_file_never_gives_another_vector(tmp_path: Path) -> None:
    texts = [f"{'x' * (n % 7 + 1)}{n}" for n in range(400)]
    cache = ContentCache(tmp_path / "c.sqlite")
    right, _ = ask(texts, cache)
    whole = cache.path.read_bytes()
    for cut in range(0, len(whole), len(whole) // 13):
        cache.path.write_bytes(whole[:cut] + bytes(min(700, len(whole) - cut)) + whole[cut + 700 :])
        np.testing.assert_array_equal(ask(texts, cache)[0], right)


def test_what_was_done_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "CHUNK", 3)
    cache = ContentCache(tmp_path / "c.sqlite")
    texts = [chr(97 + n) for n in range(10)]
    with pytest.raises(KeyboardInterrupt):
        ask(texts, cache, Computed(texts, fails_after=6))
    assert ask(texts, cache)[1] == texts[6:]


def test_a_folder_that_cannot_be_written_to_changes_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for _ in range(2):
        found, asked = ask(["a"], ContentCache(tmp_path / "file" / "c.sqlite"))
        assert found.tolist() == [[1.0, 97.0]] and asked == ["a"]


def test_an_infinity_is_refused_and_not_kept(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "c.sqlite")
    with pytest.raises(DataError, match="no finite numbers for row 2; use precision: float32"):
        vectors_by_content(
            [b"a", b"b"],
            lambda _: np.array([[1.0], [np.inf]], np.float32),
            dim=1,
            cache=cache,
            sizes=[1, 1],
            what="texts",
        )
    assert cache.read([b"a", b"b"]) == {}


def test_whoever_listens_is_told_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_module, "CHUNK", 2)
    monkeypatch.setattr(vectors_module, "_TELL_EVERY_S", 0.0)
    told: list[str] = []
    with listening(told.append):
        ask(["a", "b", "c"], ContentCache(tmp_path / "c.sqlite"))
    assert told == ["encoding texts: 2 of 3", "encoding texts: 3 of 3"]


def test_several_processes_fill_one_file(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from towerkit.pretrained.cache import ContentCache\n"
        "cache = ContentCache(Path(sys.argv[1]))\n"
        "for n in range(60): cache.write({b'%d-%d' % (n, k): b'%d' % (n * k) for k in range(5)})\n"
    )
    path = tmp_path / "c.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(2)]
    assert [each.wait(timeout=120) for each in running] == [0, 0]
    found = ContentCache(path).read([b"%d-%d" % (n, k) for n in range(60) for k in range(5)])
    assert found == {b"%d-%d" % (n, k): b"%d" % (n * k) for n in range(60) for k in range(5)}


def test_the_folder_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOWERKIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("TOWERKIT_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "towerkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "towerkit"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "towerkit"
