"""The log of events.

Invariants:
- an event counts once, whatever comes how often in one call or several; an id with another content is refused; the order is that of
  coming, and a log that is opened again says the same (also in PostgreSQL, where a server is installed);
- a process that is killed at any moment loses no event and no item that it acknowledged and invents none; a writer that
  acknowledges before it writes (the control) is caught;
- what is forgotten is in no byte of the files; what is compacted counts no more, its ids still count as told, and the items that a
  query met stay; a log that cannot be compacted stays as it is;
- what happens as it comes is never earlier than what came before, also where the clock goes back, and counts for a forgotten query;
- when the disk is full nothing is half written, and afterwards writing goes on;
- two processes cannot own one log; a file that was taken away is not written, and a server that went is written again when it is
  back, by its owner only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towerkit.core.errors import DataError, RunError

pytestmark = pytest.mark.skipif(importlib.util.find_spec("sqlalchemy") is None, reason="needs towerkit[serve]")
WRITER = Path(__file__).with_name("write_events.py")
SHORT_ROUNDS, LONG_ROUNDS = 10, 1_000


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a PostgreSQL server of this session."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("runuser") is None or os.getuid() != 0 or importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs Debian's postgresql, root and towerkit[sql]")
    programs = found[-1].parent
    folder = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    shutil.chown(folder, "postgres")
    port = 20_000 + os.getpid() % 20_000

    def run(*words: str) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *words], check=True, capture_output=True, cwd=folder)

    run(str(programs / "initdb"), "-D", f"{folder}/db", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    run(str(programs / "pg_ctl"), "-w", "-D", f"{folder}/db", "-l", f"{folder}/log", "-o", options, "start")
    yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    run(str(programs / "pg_ctl"), "-D", f"{folder}/db", "-m", "fast", "stop")
    shutil.rmtree(folder)


def happened(number: int, query: str = "u1", item: str | None = None, model: str = "shop") -> object:
    """An event."""
    from towerkit.serving.journal import Happened

    return Happened(model, f"e{number}", query, item or f"i{number}", float(number))


def ids(journal: object, model: str = "shop") -> list[str]:
    """The events that count."""
    return [event.id for event in journal.read(model)]  # type: ignore[attr-defined]


def check_forgotten(journal: Any) -> None:
    """What somebody forgotten did before is not taken again; what others did is."""
    old, others = journal.append([happened(3, "u2"), happened(1)])
    assert "forgotten after the event 'e3'" in old
    assert others is None


def check_log(where: str) -> None:
    """What holds of a log anywhere."""
    from towerkit.serving.journal import Journal

    journal = Journal(where)
    found = journal.append([happened(1), happened(2), happened(1)])
    assert [event.place if event else None for event in found] == [1, 2, None]  # type: ignore[union-attr]
    assert journal.append([happened(2), happened(3, "u2")])[0] is None
    assert "another content" in str(journal.append([happened(3, "u9")])[0])
    assert journal.append([happened(3, model="other")])[0].place == 4  # type: ignore[union-attr]
    journal.put_items("shop", [("a", {"price": 1.5, "kind": "x"}), ("a", {"price": 2.5}), ("b", {"name": "é"})])
    for key in ("a", "a", "b"):
        journal.remove_item("shop", key)
    journal.put_items("shop", [("b", {"price": 1.0})])
    journal.close()
    journal = Journal(where)
    assert ids(journal) == ["e1", "e2", "e3"]
    assert [event.place for event in journal.read("shop", after=1)] == [2, 3]
    assert journal.items("shop") == [{"price": 2.5, "kind": "x"}, {"name": "é", "price": 1.0}]
    assert (journal.removed("shop"), journal.removed("other")) == (["a"], [])
    journal.remove_item("third", "a")
    assert [journal.knows(model) for model in ("shop", "other", "third", "nobody")] == [True, True, True, False]
    assert journal.forget("shop", "u2") == 1
    assert ids(journal) == ["e1", "e2"]
    check_forgotten(journal)
    journal.close()
    journal = Journal(where)
    check_forgotten(journal)
    assert journal.compact("shop", keep=1) == 1
    assert [(event.id, event.time) for event in journal.read("shop")] == [("e1", None), ("e2", 2.0)]
    assert journal.append([happened(1)]) == [None]
    assert journal.append([happened(5)])[0].place == 5  # type: ignore[union-attr]
    journal.close()


def test_a_log_in_sqlite(tmp_path: Path) -> None:
    check_log(str(tmp_path / "deep" / "events.db"))


def test_a_file_may_be_called_as_one_likes(tmp_path: Path) -> None:
    check_log(str(tmp_path / "what?mode=memory&100%.db"))
    assert (tmp_path / "what?mode=memory&100%.db").stat().st_size > 0


def test_a_log_in_postgresql(postgres: str) -> None:
    from towerkit.serving.journal import Journal

    check_log(postgres)
    journal = Journal(postgres)
    with pytest.raises(DataError, match="one owner"):
        Journal(postgres)
    journal.close()


@settings(max_examples=20, deadline=None)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=5), max_size=6))
def test_each_event_counts_once(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    from towerkit.serving.journal import Journal

    journal = Journal(str(tmp_path_factory.mktemp("log") / "events.db"))
    for batch in batches:
        journal.append([happened(number) for number in batch])
    in_order = list(dict.fromkeys(number for batch in batches for number in batch))
    assert ids(journal) == [f"e{number}" for number in in_order]
    journal.close()


def test_what_is_forgotten_is_in_no_byte(tmp_path: Path) -> None:
    from towerkit.serving.journal import Happened, Journal

    path = tmp_path / "events.db"
    journal = Journal(str(path))
    secret = "somebody-to-be-forgotten"
    journal.append([Happened("shop", f"{secret}-{n}", secret, f"i{n}", 1.0) for n in range(50)])
    journal.append([happened(number) for number in range(50)])
    everything = lambda: b"".join(file.read_bytes() for file in tmp_path.iterdir())  # noqa: E731
    assert secret.encode() in everything()
    assert journal.forget("shop", secret) == 50
    assert secret.encode() not in everything()
    assert len(ids(journal)) == 50
    journal.close()


def test_a_full_disk_writes_nothing_by_halves(tmp_path: Path) -> None:
    import sqlalchemy as sa

    from towerkit.serving.journal import Journal

    journal = Journal(str(tmp_path / "events.db"))
    journal.append([happened(number) for number in range(100)])
    with journal._store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sa.exc.OperationalError, match="full"):
        for start in range(1_000, 9_000, 1_000):
            journal.append([happened(number, item="i" * 200) for number in range(start, start + 1_000)])
    assert len(ids(journal)) % 1_000 == 100
    with journal._store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1073741823")
    before = len(ids(journal))
    journal.append([happened(99_999)])
    assert len(ids(journal)) == before + 1
    journal.close()


def test_a_log_has_one_owner_and_a_good_address(tmp_path: Path) -> None:
    from towerkit.serving.journal import Journal

    journal = Journal(str(tmp_path / "events.db"))
    (tmp_path / "link.db").symlink_to(tmp_path / "events.db")
    for name in ("events.db", "link.db"):
        with pytest.raises(RunError, match=r"has one owner; received .*events\.db, which a running service owns"):
            Journal(str(tmp_path / name))
    journal.close()
    # What a killed process of another machine, or container, left does not keep the next one out.
    (tmp_path / ".events.db.lock").write_text('{"pid": 1, "host": "another", "token": "abc"}')
    Journal(str(tmp_path / "events.db")).close()
    with pytest.raises(DataError, match="SQLite file or a PostgreSQL"):
        Journal(str(tmp_path))
    with pytest.raises(DataError, match=r"postgresql://ann:\*\*\*@127.0.0.1:1/x"):
        Journal("postgresql://ann:secret@127.0.0.1:1/x")


class Writers:
    """A process that forks writers of a log, each of which is killed somewhere in its work."""

    def __init__(self, path: Path, when: str) -> None:
        command = [sys.executable, str(WRITER), str(path), when]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def killed(self, first: int, pause_s: float) -> tuple[set[str], int]:
        """What a writer from a number on acknowledged before it was killed, and the last number that it began to write."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{first}\n")
        self._process.stdin.flush()
        told, last, writer = set(), first, 0
        for line in self._process.stdout:
            what, _, rest = line.strip().partition(" ")
            if what == "killed":
                break
            if what == "writer":
                writer = int(rest)
            elif what == "begun":
                last = int(rest)
            elif what == "told":
                told.add(rest)
            if writer and last > first:  # it writes: now
                time.sleep(pause_s)
                os.kill(writer, signal.SIGKILL)
                writer = 0
        return told, last


def check_kills(folder: Path, rounds: int, when: str, seed: int = 3) -> int:
    """Kill writers of one log; how many acknowledged events and items it lost."""
    from towerkit.serving.journal import Journal

    draw, path, first = random.Random(seed), folder / "events.db", 0
    acknowledged, there = set[str](), list[str]()
    with Writers(path, when) as writers:
        for number in range(rounds):
            told, last = writers.killed(first, draw.uniform(0.0, 0.02))
            acknowledged |= told
            first = last + 1
            if number % 10 and number < rounds - 1:
                continue
            journal = Journal(str(path))
            events = ids(journal)
            prices = [row["price"] for row in journal.items("shop")]
            journal.close()
            there = [*events, *(f"i{price}" for price in prices)]
            assert len(set(there)) == len(there)
            assert all(int(each[1:]) <= last for each in there), "something was invented"
    return len(acknowledged - set(there))


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path) -> None:
    assert check_kills(tmp_path, SHORT_ROUNDS, "late") == 0


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_by_a_thousand_kills(tmp_path: Path) -> None:
    assert check_kills(tmp_path, LONG_ROUNDS, "late") == 0


def test_a_writer_that_acknowledges_too_early_is_caught(tmp_path: Path) -> None:
    assert check_kills(tmp_path, 1, "early") > 0


def test_a_file_that_was_taken_away_is_not_written(tmp_path: Path) -> None:
    from towerkit.serving.journal import Journal

    path = tmp_path / "events.db"
    journal = Journal(str(path))
    journal.append([happened(1)])
    path.rename(tmp_path / "elsewhere.db")  # what is written now would be in no file of that name
    for write in (lambda: journal.append([happened(2)]), lambda: journal.put_items("shop", [("a", {})])):
        with pytest.raises(FileNotFoundError):
            write()
    assert ids(journal) == ["e1"]
    (tmp_path / "elsewhere.db").rename(path)
    journal.append([happened(3)])
    assert ids(journal) == ["e1", "e3"]
    journal.close()


class Wire:
    """Hands on what comes to a port of its own to that of a server, until it is cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    @staticmethod
    def _hand_on(source: socket.socket, target: socket.socket) -> None:
        try:
            while content := source.recv(65536):
                target.sendall(content)
        except OSError:
            pass

    def cut(self) -> None:
        """Nothing goes through from now on, and whoever was connected notices."""
        self.is_cut = True
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def close(self) -> None:
        """End."""
        self.cut()
        self._listening.close()


def opened_soon(address: str) -> Any:
    """A log whose server may still have to notice that its owner is gone."""
    from towerkit.serving.journal import Journal

    until = time.monotonic() + 60
    while True:
        try:
            return Journal(address)
        except DataError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_database_that_goes_and_comes_back(postgres: str) -> None:
    import sqlalchemy as sa

    from towerkit.serving.journal import Journal

    port = int(postgres.rpartition(":")[2].partition("/")[0])
    wire = Wire(port)
    address = postgres.replace(str(port), str(wire.port))
    try:
        journal = Journal(address)
        journal.append([happened(1, model="gone")])
        wire.cut()
        for number in (2, 3):
            with pytest.raises(sa.exc.SQLAlchemyError):
                journal.append([happened(number, model="gone")])
        other = opened_soon(postgres)  # whoever comes first owns it now
        other.append([happened(4, model="gone")])
        wire.is_cut = False
        with pytest.raises(PermissionError, match="one owner"):
            journal.append([happened(5, model="gone")])
        other.close()
        assert journal.append([happened(4, model="gone"), happened(6, model="gone")])[0] is None
        assert ids(journal, "gone") == ["e1", "e4", "e6"]
        assert [event.id for event in journal.missed()] == ["e4"]
        assert journal.missed() == []
        journal.close()
    finally:
        wire.close()


def told(journal: Any, *events: tuple[str, float | None], query: str = "u1") -> list[Any]:
    """Events of a query: items and times."""
    from towerkit.serving.journal import Happened

    start = journal._last
    return journal.append(  # type: ignore[no-any-return]
        [Happened("shop", f"x{n}", query, item, time) for n, (item, time) in enumerate(events, start=start)]
    )


def test_what_is_compacted_was_still_met(tmp_path: Path) -> None:
    from towerkit.serving.journal import Journal

    journal = Journal(str(tmp_path / "events.db"))
    told(journal, ("a", 1.0), ("b", 2.0), ("a", 3.0), ("late", 99.0), ("c", 4.0), ("d", 5.0), ("e", 6.0))
    told(journal, ("a", 1.0), query="u2")
    for _ in range(2):  # twice changes nothing
        journal.compact("shop", keep=2)
        found = [(event.query, event.item, event.time) for event in journal.read("shop")]
        # The last two that came, the last two that happened; of the others the items, each once.
        kept = [("b", None), ("a", None), ("late", 99.0), ("c", None), ("d", 5.0), ("e", 6.0)]
        assert found == [("u1", *each) for each in kept] + [("u2", "a", 1.0)]
    told(journal, ("b", 7.0), ("f", 8.0), ("g", 9.0))
    journal.compact("shop", keep=2)
    met = [(event.item, event.time) for event in journal.read("shop") if event.query == "u1"]
    assert met == [
        ("a", None),
        ("late", 99.0),
        ("c", None),
        ("d", None),
        ("e", None),
        ("b", None),
        ("f", 8.0),
        ("g", 9.0),
    ]
    assert journal.forget("shop", "u1") == 10
    journal.close()


def test_a_log_that_cannot_be_compacted_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from towerkit.serving.journal import Journal

    journal = Journal(str(tmp_path / "events.db"))
    told(journal, *((f"i{number}", float(number)) for number in range(20)))
    before = journal.read("shop")
    with journal._store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
        assert journal.compact("shop", keep=2) == 0
        assert journal.read("shop") == before
        assert "cannot be compacted now" in caplog.text
        connection.exec_driver_sql("PRAGMA query_only=OFF")
    assert journal.compact("shop", keep=2) == 18
    journal.close()


def test_a_clock_that_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving import journal as module

    journal = module.Journal(str(tmp_path / "events.db"))
    clock = iter([1_000.0, 400.0, 400.0, 300.0, 2_000.0])
    monkeypatch.setattr(module, "now", lambda: next(clock))
    told(journal, ("a", None), ("b", None))
    assert journal.forget("shop", "u2") == 0  # at 400
    told(journal, ("a", None), query="u2")
    told(journal, ("c", None))
    times = [event.time for event in journal.read("shop")]
    assert times == [1_000.0, 1_000.0, 1_000.0, 2_000.0]
    journal.close()


def test_whoever_is_forgotten_may_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from towerkit.serving import journal as module

    journal = module.Journal(str(tmp_path / "events.db"))
    clock = iter([1_000.0, 500.0, 500.0])
    monkeypatch.setattr(module, "now", lambda: next(clock))
    told(journal, ("a", 9e10))
    assert journal.forget("shop", "u1") == 1  # at 1000; what happened up to 9e10 is not taken again
    old, new = told(journal, ("a", 9e10), ("b", None))
    assert "forgotten after" in old
    assert new.time > 9e10
    assert [event.item for event in journal.read("shop")] == ["b"]
    journal.close()


@pytest.mark.parametrize("content", [b"these are no events\n" * 100, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_a_file_that_is_no_log_is_told_so(tmp_path: Path, content: bytes) -> None:
    from towerkit.serving.journal import Journal

    path = tmp_path / "events.db"
    path.write_bytes(content)
    for _ in range(2):  # the lock was let go
        with pytest.raises(DataError, match="SQLite file or a PostgreSQL database that can be written"):
            Journal(str(path))
    assert path.read_bytes() == content
