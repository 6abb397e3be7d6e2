"""Answers to everyone, into a file.

Invariants:
- the file holds what :meth:`Run.recommend` answers to each known query, in the order of the catalogue, under the same choice, in
  each form; its notes say how many queries have fewer answers;
- killed (SIGKILL) at any chunk, again and again, and asked again, it goes on and ends with the bytes of a call that was not; what
  was answered is not answered again;
- a chunk that was cut short is answered again; one that is damaged is never joined;
- other settings, another Run or a folder of somebody else's are refused with what differs, and nothing is touched;
- two at once: one is refused; no file is left half, and no folder of parts stays.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.recommend.conftest import NUM_USERS

import towerkit as tk
from towerkit.models.answer import Retriever
from towerkit.recommend import everyone
from towerkit.recommend.choice import Choice
from towerkit.run import Run
from towerkit.storage.lock import folder_lock

KILLED = """
import os, signal, sys
import towerkit as tk
last = int(sys.argv[3])
def tell(done, total):
    if done >= last:
        os.kill(os.getpid(), signal.SIGKILL)
tk.load(sys.argv[1]).recommend_all(sys.argv[2], k=4, chunk=5, tell=tell)
"""


def killed(run: Run, out: Path, last: int) -> None:
    """A process that answers everyone and is killed after so many queries."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(run.path), str(out), str(last)], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def interrupted(run: Run, out: Path, last: int) -> None:
    """A call that Ctrl-C ends after so many queries."""

    def tell(done: int, total: int) -> None:
        if done >= last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.recommend_all(out, k=4, chunk=5, tell=tell)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow"])
def test_the_file_holds_the_answers_to_each(shop: Run, tmp_path: Path, suffix: str) -> None:
    told: list[tuple[int, int]] = []
    choice: dict[str, Any] = {"k": 4, "where": "kind != 'toy'", "deny": ["i0"], "exclude_seen": False}
    out = tmp_path / f"all{suffix}"
    written = shop.recommend_all(out, chunk=7, tell=lambda done, total: told.append((done, total)), **choice)
    model = shop.model
    assert isinstance(model, Retriever)
    keys = model.query.keys.to_pylist()
    each = pa.concat_tables([shop.recommend(key, **choice) for key in keys])
    read = {".parquet": pyarrow.parquet.read_table, ".csv": pyarrow.csv.read_csv}.get(suffix)
    found = read(out) if read else pa.ipc.open_file(out).read_all()
    assert found.drop_columns(["score"]).equals(each.drop_columns(["score"]))
    assert found.column("score").to_pylist() == pytest.approx(each.column("score").to_pylist(), abs=1e-6)
    assert (written.queries, written.rows, written.went_on_after) == (NUM_USERS, each.num_rows, 0)
    assert told[0] == (7, NUM_USERS) and told[-1] == (NUM_USERS, NUM_USERS)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert written.notes == () and tk.notes_of(found) == []


def test_it_says_how_many_have_fewer(shop: Run, tmp_path: Path) -> None:
    written = shop.recommend_all(tmp_path / "all.parquet", k=30, chunk=8)
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    counts = table.group_by("query").aggregate([("rank", "count")]).column("rank_count").to_pylist()
    short = sum(count < 30 for count in counts)
    assert 0 < short < NUM_USERS
    assert written.notes[0].startswith(
        f"{short} of {NUM_USERS} queries have fewer than the 30 answers asked for, the fewest {min(counts)} "
    )
    assert tk.notes_of(table) == list(written.notes)
    nothing = shop.recommend_all(tmp_path / "none.parquet", k=3, where="price > 1000")
    assert (
        nothing.rows == 0 and pyarrow.parquet.read_table(tmp_path / "none.parquet").schema.names == table.schema.names
    )


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_killed_it_goes_on_and_ends_with_the_same_bytes(shop: Run, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "all.parquet"
    shop.recommend_all(whole, k=4, chunk=5)
    for last in (5, 55):
        killed(shop, out, last)
        assert not out.exists()
        assert len(list((tmp_path / "all.parquet.parts").glob("0*.parquet"))) == last // 5
    written = shop.recommend_all(out, k=4, chunk=5)
    assert written.went_on_after == 55
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.parquet", "whole.parquet"]


def test_what_is_answered_is_not_answered_again_and_a_cut_chunk_is(
    shop: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "all.parquet"
    shop.recommend_all(whole, k=4, chunk=20)
    asked: list[int] = []
    plainly = everyone.by_place

    def stops(model: Any, start: int, stop: int) -> Any:
        asked.append(start)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return plainly(model, start, stop)

    monkeypatch.setattr(everyone, "by_place", stops)
    with pytest.raises(KeyboardInterrupt):
        shop.recommend_all(out, k=4, chunk=20)
    cut = tmp_path / "all.parquet.parts" / f"{20:012d}.parquet"
    cut.write_bytes(cut.read_bytes()[:-9])
    asked.extend([0] * 3)
    shop.recommend_all(out, k=4, chunk=20)
    assert asked[6:] == [20, 40]
    assert out.read_bytes() == whole.read_bytes()


def test_a_damaged_chunk_is_never_joined(shop: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "all.parquet"
    monkeypatch.setattr(everyone, "_join", stops)
    with pytest.raises(KeyboardInterrupt):
        shop.recommend_all(out, k=4, chunk=20)
    monkeypatch.undo()
    part = tmp_path / "all.parquet.parts" / f"{0:012d}.parquet"
    content = bytearray(part.read_bytes())
    content[60] ^= 1
    part.write_bytes(content)
    with pytest.raises(tk.TowerkitError, match=r"000000000000\.parquet is damaged .*; delete .*all\.parquet\.parts"):
        shop.recommend_all(out, k=4, chunk=20)
    assert not out.exists()


def test_other_settings_are_refused_with_what_differs(shop: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    interrupted(shop, out, 20)
    before = sorted(path.name for path in tmp_path.rglob("[!.]*"))
    for message, settings in {
        "k was 4 and is 5": {"k": 5},
        "exclude_seen was true and is false": {"exclude_seen": False},
        "candidates.allowed was": {"where": "kind == 'toy'"},
        "chunk was 5 and is 6": {"chunk": 6},
    }.items():
        with pytest.raises(
            tk.RunError, match=rf"interrupted answer with other settings: .*{message}.*or delete .*\.parts to begin"
        ):
            shop.recommend_all(out, **{"k": 4, "chunk": 5, **settings})  # type: ignore[arg-type]
    model = shop.model
    assert isinstance(model, Retriever)
    with pytest.raises(tk.RunError, match=r"run was \"[0-9a-f]{64}\" and is \"another\""):
        everyone.answer_everyone(model, 4, Choice(), out, identity={"run": "another"}, chunk=5)
    assert sorted(path.name for path in tmp_path.rglob("[!.]*")) == before
    shop.recommend_all(out, k=4, chunk=5)


def test_a_folder_of_somebody_elses_is_left_alone(shop: Run, tmp_path: Path) -> None:
    folder = tmp_path / "all.parquet.parts"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(tk.RunError, match="is not what an interrupted answer left"):
        shop.recommend_all(tmp_path / "all.parquet", k=3)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_one_of_two_is_refused_and_a_place_that_cannot_be_written_is_told_first(shop: Run, tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "all.parquet.parts"),
        pytest.raises(tk.RunError, match=r"all\.parquet\.parts' is being written"),
    ):
        shop.recommend_all(tmp_path / "all.parquet", k=3)
    with pytest.raises(tk.DataError, match=r"all\.txt: the extension says the form of the file"):
        shop.recommend_all(tmp_path / "all.txt", k=3)
    with pytest.raises(tk.DataError, match="there is no folder '.*nowhere'"):
        shop.recommend_all(tmp_path / "nowhere" / "all.parquet", k=3)
    with pytest.raises(tk.DataError, match="is a Run, which holds only what towerkit wrote"):
        shop.recommend_all(shop.path / "all.parquet", k=3)
    with pytest.raises(tk.SpecError, match="chunk must be a whole number of at least 1; received 0"):
        shop.recommend_all(tmp_path / "all.parquet", k=3, chunk=0)
    assert list(tmp_path.iterdir()) == []
