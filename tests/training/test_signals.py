"""Ctrl-C and SIGTERM while the command line trains.

Invariants:
- the step under way is finished, the state saved, the status is 130 or 143, and the message says how to go on;
- ``--resume`` then ends with the weights of a training that was never stopped, and the checkpoints go;
- a checkpoint in the way of a new training is refused; ``--overwrite`` begins anew; ``--resume`` without one begins at the start;
- a second signal ends the process at once; handlers are put back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from towerkit.testing.faults import CASES
from towerkit.training.signals import StopSignals

SPEC = CASES["one_backprop, debias"]


def train(folder: Path, *words: str, **settings: object) -> subprocess.Popen[str]:
    training = {**SPEC["training"], "patience": 1000, "refit": False, **settings}
    (folder / "spec.json").write_text(json.dumps({**SPEC, "training": training}))
    command = [sys.executable, "-m", "towerkit", "train", "spec.json", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], status: int) -> str:
    """What it said on standard error, once it ended as it should."""
    err = process.communicate(timeout=280)[1]
    assert process.returncode == status, err
    return err


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


def weights(folder: Path, name: str) -> bytes:
    return (folder / name / "model" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: int, status: int) -> None:
    process = train(tmp_path, "--run", "run", "--json", epochs=3000)
    wait_for(tmp_path / "run.checkpoint" / "history.jsonl")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    assert "the state is in run.checkpoint. The same command with --resume continues." in err
    assert json.loads(out)["error"]["type"] == "TrainingStopped"
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "run.checkpoint").glob("0*/state.safetensors"))


@pytest.mark.long
def test_stopped_resumed_and_written(tmp_path: Path) -> None:
    ended(train(tmp_path, "--run", "whole", epochs=150), 0)
    process = train(tmp_path, "--run", "run", epochs=150)
    wait_for(tmp_path / "run.checkpoint" / "history.jsonl")
    process.send_signal(signal.SIGINT)
    ended(process, 130)
    refused = ended(train(tmp_path, "--run", "run", epochs=150), 1)
    assert "An interrupted training of run is in run.checkpoint. Continue it with --resume" in refused
    assert "training.epochs was 150 and is 149" in ended(train(tmp_path, "--run", "run", "--resume", epochs=149), 1)
    ended(train(tmp_path, "--run", "run", "--resume", epochs=150), 0)
    assert weights(tmp_path, "run") == weights(tmp_path, "whole")
    assert not (tmp_path / "run.checkpoint").exists()
    histories = [
        [{**json.loads(line), "seconds": 0} for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("run", "whole")
    ]
    assert histories[0] == histories[1] and len(histories[0]) == 150
    told = ended(train(tmp_path, "--run", "fresh", "--resume", epochs=1), 0)
    assert "There is nothing to resume in fresh.checkpoint" in told


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\nfrom towerkit.training.signals import StopSignals\nstop = StopSignals()\n"
        "with stop.listening():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.1)\n"
        "    print(stop.received, flush=True)\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGINT and done.stdout == "2\n"


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = StopSignals()
    with stop.listening():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        os.kill(os.getpid(), signal.SIGTERM)
        while stop.received is None:
            time.sleep(0.001)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert stop.received == signal.SIGTERM
