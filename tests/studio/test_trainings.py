"""Trainings that are not over, and who may look.

- What the history file says so far is shown; a line that is not whole yet is left out.
- A process that holds the lock runs the training, and the button interrupts it as Ctrl-C does; without one the training is stopped.
- A process that began after the lock was written is another one with the same number, and is left alone.
- With a token, pages ask for it: a wrong one is refused, a session opens them, and signing out ends it.
- ``towerkit studio --json`` says where it listens and ends with status 0.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.studio.conftest import history_line, open_studio

from towerkit.core.errors import RunError
from towerkit.storage.lock import lock_path
from towerkit.studio.trainings import stop, training_of

HOLDER = """
import signal, sys, time
from pathlib import Path
from towerkit.storage.lock import folder_lock
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have told its jobs to ignore it
with folder_lock(Path(sys.argv[1])):
    try:
        print("held", flush=True)
        while True:
            time.sleep(0.05)
    except KeyboardInterrupt:
        sys.exit(7)
"""
TOKEN = "a-token-of-the-studio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checkpoints of a training of which two epochs are done."""
    folder = tmp_path / "mine.checkpoint"
    folder.mkdir()
    lines = history_line(1, 0.9) + history_line(2, 0.7)
    (folder / "history.jsonl").write_text(lines + '{"stage": "train", "epo', encoding="utf-8")
    return folder


@pytest.fixture
def holder(folder: Path) -> Generator[subprocess.Popen[str]]:
    """A process that holds the lock, as one that trains does."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_stopped_training(folder: Path) -> None:
    training = training_of("mine", folder)
    assert [each["epoch"] for each in training.records] == [1, 2] and training.process is None
    assert training.last() == {"loss": 0.7, "validation/ndcg@5": 0.2}
    with pytest.raises(RunError, match="Nothing on this machine trains mine"):
        stop(training)


@pytest.mark.skipif(sys.platform == "win32", reason="a signal would end the process at once")
def test_a_running_training_is_shown_and_stopped(folder: Path, holder: subprocess.Popen[str]) -> None:
    asked = open_studio(folder.parent)
    try:
        page = asked.send("GET", "/training/mine")[1]
        assert f"runs as process {holder.pid}" in page and "0.7000" in page and 'class="chart"' in page
        assert "mine" in asked.send("GET", "/")[1]
        assert asked.post("/training/mine/stop")["told"].startswith("Asked to stop")
        assert holder.wait(60) == 7
        assert "○ stopped" in asked.send("GET", "/live/training/mine")[1]["html"]
        assert asked.send("POST", "/training/other/stop", {})[0] == 404
    finally:
        asked.stop()


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")
def test_a_later_process_with_the_same_number_is_left_alone(folder: Path, holder: subprocess.Popen[str]) -> None:
    assert training_of("mine", folder).process == holder.pid
    an_hour_ago = time.time() - 3600
    os.utime(lock_path(folder), (an_hour_ago, an_hour_ago))
    assert training_of("mine", folder).process is None


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    asked = open_studio(tmp_path, token=TOKEN)
    try:
        status, _, headers = asked.send("GET", "/")
        assert status == 303 and headers["location"] == "/sign-in"
        assert asked.send("GET", "/sign-in")[0] == 200
        assert asked.send("GET", "/sign-in", headers={"Host": "evil.example"})[0] == 421
        assert asked.send("POST", "/sign-in", {"token": "another-token-of-16"})[0] == 401
        assert asked.send("POST", "/training/mine/stop", {})[0] == 401
        status, _, headers = asked.send("POST", "/sign-in", {"token": TOKEN})
        cookie = headers["set-cookie"]
        assert status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
        session = {"Cookie": cookie.partition(";")[0]}
        assert "Sign out" in asked.send("GET", "/", headers=session)[1]
        assert asked.send("POST", "/sign-out", {}, session)[0] == 200
        assert asked.send("GET", "/", headers=session)[0] == 303
        assert asked.send("GET", "/", headers={"Cookie": "towerkit-studio=made-up"})[0] == 303
    finally:
        asked.stop()


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "towerkit", "studio", str(tmp_path), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            assert told["runs"] == 0 and told["folder"] == str(tmp_path)
            with urllib.request.urlopen(told["listening"], timeout=60) as answer:  # noqa: S310  (our own)
                assert b"There are no Runs here yet" in answer.read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
