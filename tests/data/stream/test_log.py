"""A log that is encoded on disk (`towerkit.data.stream`).

Pinned here:
- keys are those of the whole column in order of first appearance, with exact counts, however the rows are cut into batches;
  the findings of several readers merge to the same;
- parts: ``time`` and ``per_query`` (the last rows) hold out exactly what they hold out in memory; shares of random rows and of
  groups are right; an order statistic is exact; a part does not depend on how many rows are looked at together;
- what is learned from: pairs by catalogue row in the order of the log, and each query's distinct candidates, ascending, however
  few queries are sorted at a time;
- bad files are refused by file, row and column: missing keys and times, other columns or types, damage, nothing at all;
- the encoded log is found again, made anew when a file changes or it is damaged, and absent after a stop in the middle; who
  comes while it is encoded waits for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError, SpecError, TowerkitError
from towerkit.core.spec import parse
from towerkit.data.dataset import read_dataset
from towerkit.data.spec import DataSpec
from towerkit.data.split_specs import GroupedSplit, PerQuerySplit, RandomSplit
from towerkit.data.stream import arrays, files
from towerkit.data.stream.arrays import chunks, groups_of, let_go, written
from towerkit.data.stream.encoding import encode_alone
from towerkit.data.stream.keys import Keys
from towerkit.data.stream.learned import learned_pairs
from towerkit.data.stream.log import Log
from towerkit.data.stream.opening import open_data, open_log
from towerkit.data.stream.parting import decider, kth
from towerkit.experiment import log_recipe_of
from towerkit.features.streamed import StoredIndex, let_go_of_rows
from towerkit.storage.manifest import verify
from towerkit.testing.logs import log_spec, small_log, write_log
from towerkit.training.state import seeded_torch


def opened(folder: Path, **more: Any) -> Log:
    return open_log(log_spec(folder, **more).data)


def refusal(folder: Path, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder, **more)
    return str(caught.value)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is looked at a few rows at a time."""
    batches = files.LogFiles.batches
    monkeypatch.setattr(files.LogFiles, "batches", lambda self: batches(self, 50))
    monkeypatch.setattr(arrays.groups_of, "__defaults__", (20,))
    monkeypatch.setattr(arrays.chunks, "__defaults__", (64,))


# --- keys ---------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.sampled_from("abcdefgh"), min_size=1), cuts=st.lists(st.integers(0, 40), max_size=4))
def test_keys_do_not_depend_on_the_batches(values: list[str], cuts: list[int]) -> None:
    ends = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    keys, merged = Keys(pa.string()), Keys(pa.string())
    codes, codes_of_merged = [], []
    for low, high in pairwise(ends):
        piece = pa.array(values[low:high], pa.string())
        codes += keys.add(piece).tolist()
        reader = Keys(pa.string())
        own = reader.add(piece)
        codes_of_merged += merged.merge(reader)[own].tolist()
    distinct = list(dict.fromkeys(values))
    assert keys.values.to_pylist() == merged.values.to_pylist() == distinct
    assert keys.counts.tolist() == merged.counts.tolist() == [values.count(each) for each in distinct]
    assert codes == codes_of_merged == [distinct.index(value) for value in values]


# --- parts --------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.data())
def test_an_order_statistic_is_exact(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    assert kth(np.array(values), place) == sorted(values)[place]


@pytest.mark.parametrize("split", ["time", "per_query"])
def test_parts_are_those_of_a_table_in_memory(tmp_path: Path, split: str, small_pieces: None) -> None:
    folder = write_log(tmp_path / "log", small_log())
    take = {} if split == "time" else {"take": "last"}
    both = []
    for stream in (False, True):
        spec = log_spec(folder, stream=stream, split=split).data
        shares = {"kind": split, "validation": 0.15, "test": 0.1, **take}
        spec = parse(DataSpec, {**spec.model_dump(exclude_unset=True), "split": shares})
        both.append(open_data(spec))
    table, log = both
    assert isinstance(log, Log)
    assert np.array_equal(table.parts.test, log.parts.test) and len(log.parts.test) > 30
    assert np.array_equal(table.parts.validation, log.parts.validation)
    assert len(table.parts.train) == len(log.parts.train)
    assert log.row_numbers(np.array([5, 0, 17])).tolist() == table.parts.train[[5, 0, 17]].tolist()


def test_the_last_rows_of_a_query_go_by_time(tmp_path: Path) -> None:
    log = small_log()
    mixed = log.take(pa.array(np.random.default_rng(1).permutation(len(log))))
    folder = write_log(tmp_path / "log", mixed)
    split = {"kind": "per_query", "validation": 0.1, "test": 0.2, "take": "last"}
    found = []
    for stream in (False, True):
        spec = log_spec(folder, stream=stream).data
        found.append(open_data(parse(DataSpec, {**spec.model_dump(exclude_unset=True), "split": split})))
    assert np.array_equal(found[0].parts.test, found[1].parts.test) and len(found[1].parts.test) > 60


def codes(rows: int, queries: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, queries, rows).astype(np.int32)


def test_random_shares_are_right_on_average_and_never_move() -> None:
    queries = codes(50_000, 9)
    counts = np.bincount(queries)
    decide = decider(RandomSplit(validation=0.1, test=0.2), 5, queries, counts, None)
    whole = decide(slice(0, 50_000))
    assert np.abs(np.bincount(whole) / 50_000 - [0.7, 0.1, 0.2]).max() < 0.01
    assert np.array_equal(np.concatenate([decide(part) for part in chunks(50_000, 777)]), whole)
    other = decider(RandomSplit(validation=0.1, test=0.2), 6, queries, counts, None)
    assert np.mean(other(slice(0, 50_000)) == whole) < 0.6


def test_random_rows_of_each_query_have_exact_shares() -> None:
    queries = codes(5_000, 37)
    counts = np.bincount(queries, minlength=37)
    split = PerQuerySplit(validation=0.1, test=0.2)
    parts = decider(split, 0, queries, counts, None)(slice(0, 5_000))
    for query in range(37):
        held = np.bincount(parts[queries == query], minlength=3)
        assert held[2] == round(counts[query] * 0.2) and held[1:].sum() == round(counts[query] * (0.2 + 0.1))
    again = decider(split, 1, queries, counts, None)(slice(0, 5_000))
    assert not np.array_equal(parts, again)


def test_a_query_with_one_row_stays_in_training_and_a_group_is_not_cut() -> None:
    queries = np.array([0, 1, 1, 2, 2, 2], np.int32)
    parts = decider(PerQuerySplit(validation=0.0, test=0.9), 0, queries, np.array([1, 2, 3]), None)(slice(0, 6))
    assert parts[0] == 0 and np.bincount(parts[1:3], minlength=3).tolist() == [1, 0, 1]
    many = codes(1000, 20)
    groups = decider(GroupedSplit(validation=0.1, test=0.2), 0, many, np.bincount(many), None)(slice(0, 1000))
    of_each = [set(groups[many == query].tolist()) for query in range(20)]
    assert sorted(len(parts) for parts in of_each) == [1] * 20
    assert sorted(part for parts in of_each for part in parts) == [0] * 14 + [1] * 2 + [2] * 4


# --- what is learned from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refit", [False, True])
def test_pairs_and_histories(tmp_path: Path, small_pieces: None, refit: bool) -> None:
    folder = write_log(tmp_path / "log", small_log())
    log = opened(folder).for_refit() if refit else opened(folder)
    found, table = learned_pairs(log), read_dataset(log_spec(folder, stream=False).data)
    table = table.for_refit() if refit else table
    rows = table.parts.train
    catalogues = [log.keys[name].take(pa.array(order)) for name, order in zip(log.pair, found.orders, strict=True)]
    for side, name in enumerate(log.pair):
        own = table.labelled(name, rows)
        assert catalogues[side].take(pa.array(found.pairs[:, side] - 1)).equals(own)
        assert catalogues[side].slice(0, found.num_known[side]).equals(own.unique())
    assert found.counts[1:].tolist() == np.bincount(found.pairs[:, 1], minlength=61)[1:].tolist()
    for query in range(len(catalogues[0]) + 1):
        history = found.known[found.starts[query] : found.starts[query + 1]]
        assert history.tolist() == np.unique(found.pairs[found.pairs[:, 0] == query, 1]).tolist()


def test_codes_are_grouped_by_their_rows() -> None:
    counts = np.array([0, 3, 3, 0, 9, 1, 1])
    assert list(groups_of(counts, 6)) == [(0, 4), (4, 5), (5, 7)]


# --- bad files ----------------------------------------------------------------------------------------------------


def test_a_missing_key_is_named_by_file_row_and_column(tmp_path: Path) -> None:
    log = small_log(300)
    users = log.column("user").to_pylist()
    users[217] = None
    folder = write_log(tmp_path / "log", log.set_column(0, "user", pa.array(users)))
    said = refusal(folder)
    assert f"{folder}/part-002.parquet, row 18: the column 'user' is empty" in said


@pytest.mark.parametrize("value", [None, float("inf")])
def test_a_missing_or_infinite_time_is_named(tmp_path: Path, value: float | None) -> None:
    log = small_log(300)
    times = log.column("when").to_pylist()
    times[101] = value
    folder = write_log(tmp_path / "log", log.set_column(2, "when", pa.array(times)))
    assert "part-001.parquet, row 2: the column 'when'" in refusal(folder)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    pq.write_table(small_log(5).drop_columns(["item"]), folder / "part-009.parquet")
    assert "part-009.parquet: there is no column 'item'" in refusal(folder)
    numbered = small_log(5).set_column(0, "user", pa.array([1, 2, 3, 4, 5]))
    pq.write_table(numbered, folder / "part-009.parquet")
    said = refusal(folder)
    assert "part-009.parquet: the column 'user' holds int64, but in" in said and "it holds string" in said
    pq.write_table(
        small_log(5).set_column(1, "item", pa.array([1, 2, 3, 4, 5], pa.int32())), folder / "part-009.parquet"
    )
    assert opened(folder).num_rows == 605  # a narrower integer is the same key


def test_columns_that_are_not_read_may_be_anything(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    pq.write_table(small_log(5).drop_columns(["other"]), folder / "part-009.parquet")
    assert opened(folder).num_rows == 605


def test_a_partition_is_no_column_of_a_stream(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_log(folder / "when=3", small_log().drop_columns(["when"]))
    assert "'when' is a partition (when=3)" in refusal(folder)


def test_damage_and_nothing(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    (folder / "part-001.parquet").write_bytes(b"PAR1 and then nothing")
    assert "part-001.parquet: is not a usable Parquet file" in refusal(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is a folder without a Parquet file" in refusal(empty)
    pq.write_table(small_log(5).slice(0, 0), empty / "nothing.parquet")
    assert "has no rows" in refusal(empty)
    assert not (tmp_path / "cache").exists()


def test_a_page_that_cannot_be_read_is_told_of_its_file(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log(3000))
    path = folder / "part-002.parquet"
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    assert "part-002.parquet: is not a usable Parquet file" in refusal(folder)
    assert not [each for each in (tmp_path / "cache").iterdir() if not each.name.startswith(".")]


def test_one_key_is_too_few_and_an_empty_part_is_told(tmp_path: Path) -> None:
    one = small_log(20).set_column(1, "item", pa.array([7] * 20))
    assert "the candidate column 'item' holds one value only (7)" in refusal(write_log(tmp_path / "log", one))
    still = small_log(20).set_column(2, "when", pa.array([1.0] * 20))
    assert "leaves no training row out of 20" in refusal(write_log(tmp_path / "still", still))


def test_empty_files_many_small_row_groups_and_a_giant_one(tmp_path: Path) -> None:
    log = small_log()
    found = []
    for name, row_group in (("tiny", 1), ("giant", 10**6)):
        folder = write_log(tmp_path / name, log, files=1, row_group=row_group)
        pq.write_table(log.slice(0, 0), folder / "a-first.parquet")
        found.append(opened(folder))
    assert pq.ParquetFile(tmp_path / "tiny" / "part-000.parquet").num_row_groups == 600
    for name in ("user", "item"):
        assert found[0].keys[name].equals(found[1].keys[name])
        assert np.array_equal(found[0].codes(name), found[1].codes(name))


def test_one_file_is_a_log_too(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log(), files=1)
    log = opened(folder / "part-000.parquet")
    assert log.num_rows == 600 and log.name.endswith("log/part-000.parquet")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"duplicates": "first"}, "'duplicates' needs the rows in memory"),
        ({"k_core": 2}, "'k_core' needs the rows in memory"),
        ({"test": {"path": "t.parquet"}}, "'test' needs the rows in memory"),
        ({"entities": {"item": {"path": "i.csv"}}}, "'entities' needs the rows in memory"),
        ({"split": {"kind": "leave_last", "position": "when"}}, "received split.kind 'leave_last'"),
        ({"split": {"kind": "grouped", "column": "c"}}, "received split.kind 'grouped' with a column"),
        ({"split": {"kind": "time"}}, "needs examples.time"),
        ({"examples": {"candidate": None}}, "name the column in examples.candidate"),
        ({"examples": {"positive": "r >= 4"}}, "'examples.positive' needs the rows in memory"),
        ({"examples": {"format": "jsonl"}}, "'examples.format' needs the rows in memory"),
    ],
)
def test_what_needs_the_rows_in_memory_is_refused(more: dict[str, Any], said: str) -> None:
    examples = {"path": "x", "query": "user", "candidate": "item", "stream": True, **more.pop("examples", {})}
    with pytest.raises(SpecError) as caught:
        parse(DataSpec, {"examples": {k: v for k, v in examples.items() if v is not None}, **more})
    assert said in str(caught.value)


def test_stream_is_yes_no_or_its_settings() -> None:
    def read(stream: Any) -> Any:
        return parse(
            DataSpec, {"examples": {"path": "x", "query": "u", "candidate": "i", "stream": stream}}
        ).examples.stream

    assert read(True) is not None and read({"cache": "c"}).cache == "c"
    assert read(False) is None and read(None) is None


# --- the encoded log ----------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))


def test_it_is_found_again_and_made_anew_when_a_file_changes(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    log = opened(folder)
    with mock.patch("towerkit.data.stream.opening.encode_log", side_effect=AssertionError("encoded again")):
        again = opened(folder)
    assert again.seal == log.seal and again.folder == log.folder
    write_log(folder, small_log(seed=1))
    changed = opened(folder)
    assert changed.folder != log.folder and changed.seal != log.seal
    pq.write_table(small_log(5), folder / "part-100.parquet")
    assert opened(folder).num_rows == 605


@pytest.mark.parametrize("file", ["0.npy", "part.npy", "1.arrow", "manifest.json"])
def test_damage_is_noticed_and_made_good(tmp_path: Path, file: str) -> None:
    folder = write_log(tmp_path / "log", small_log())
    log = opened(folder)
    data = bytearray((log.folder / file).read_bytes())
    data[-20] ^= 1
    (log.folder / file).write_bytes(data)
    said: list[str] = []
    again = open_log(log_spec(folder).data, say=said.append)
    assert again.seal == log.seal
    assert any("damaged and is made again" in line and file in line for line in said)
    verify(again.folder)


def test_what_was_gathered_is_checked_too(tmp_path: Path) -> None:
    log = opened(write_log(tmp_path / "log", small_log()))
    before = learned_pairs(log).pairs.copy()
    place = log.folder.with_name(f"{log.folder.name}-train") / "pairs.npy"
    place.write_bytes(place.read_bytes()[:-8])
    assert np.array_equal(learned_pairs(log).pairs, before)


@pytest.mark.parametrize("where", ["encode_log", "learned._write_histories"])
def test_a_stop_in_the_middle_leaves_nothing(tmp_path: Path, where: str) -> None:
    folder = write_log(tmp_path / "log", small_log())
    target = f"towerkit.data.stream.{'opening.encode_log' if where == 'encode_log' else where}"
    with mock.patch(target, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        learned_pairs(opened(folder))
    assert names(tmp_path / "cache") == ([] if where == "encode_log" else [opened(folder).folder.name])
    assert len(learned_pairs(opened(folder)).pairs) == 479


KILLED = """
import os, signal, sys
from pathlib import Path
from towerkit.data.stream import learned
from towerkit.data.stream.opening import open_log
from towerkit.testing.logs import log_spec
learned._write_histories = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
learned.learned_pairs(open_log(log_spec(Path(sys.argv[1])).data))
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_while_it_gathers(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    log = opened(folder)
    assert names(tmp_path / "cache") == [log.folder.name]
    assert len(learned_pairs(log).pairs) == 479
    left = [each.name for each in (tmp_path / "cache").iterdir() if ".tmp-" in each.name]
    assert left == []  # the next writer removes what a dead one left


def test_who_comes_while_it_is_encoded_waits(tmp_path: Path) -> None:
    spec, begun, calls = log_spec(write_log(tmp_path / "log", small_log())).data, threading.Event(), list[int]()

    def encode(*given: Any) -> Any:
        calls.append(1)
        begun.set()
        time.sleep(0.3)
        return encode_alone(*given)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(open_log, spec, encode=encode)
        assert begun.wait(20)
        second = pool.submit(open_log, spec, encode=encode)
    assert first.result().seal == second.result().seal
    assert len(calls) == 1


def test_a_file_where_the_cache_should_be(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    (tmp_path / "cache").write_text("")
    with pytest.raises(TowerkitError, match="is a file; name a folder"):
        opened(folder)


def test_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folder = write_log(tmp_path / "log", small_log())
    examples = {"path": "log", "query": "user", "candidate": "item", "stream": True}
    log = open_log(parse(DataSpec, {"examples": examples}), base=folder.parent)
    assert log.folder.parent == tmp_path / "home" / "towerkit" / "streams"
    assert log.split["kind"] == "per_query" and log.split["streamed"] is True


def test_pages_that_are_let_go_are_read_anew(tmp_path: Path) -> None:
    with written(tmp_path / "pairs.npy", np.int32, (5_000, 2)) as append:
        append(np.arange(10_000).reshape(-1, 2))
    pairs = arrays.opened(tmp_path / "pairs.npy")
    column = pairs[:, 1]
    column[3] = -1  # in this process only, and lost with the page: nobody does so, but it shows that the page went
    let_go(column)
    assert column[:5].tolist() == [1, 3, 5, 7, 9]
    own = np.arange(3)
    own[1] = 8
    let_go(own[1:])
    assert own.tolist() == [0, 8, 2]


def test_the_rows_of_a_log_are_let_go(tmp_path: Path) -> None:
    write_log(tmp_path / "log", small_log(300))
    spec = log_spec(tmp_path / "log")
    log = opened(tmp_path / "log")
    with seeded_torch(0):
        prepared = log_recipe_of(spec, log).prepare(log, log.parts.train, spec.training)
    (rows, _) = prepared.encoded.index.values()
    assert isinstance(rows, StoredIndex)
    before = rows[range(5)]
    rows.column[:5] = 0  # lost with the page
    let_go_of_rows(prepared.encoded)
    assert rows[range(5)].tolist() == before.tolist()
    assert before.any()
