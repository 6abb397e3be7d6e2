"""A peer runs in a process of its own and takes its turn when told to; nothing is installed here.

- It gets its job, says what it is, and each turn gives the seconds that it took itself; other output is passed over.
- A process that ends early, and an environment that cannot be made, are told with what they said.
- Without ``--peers`` nothing is installed or measured, and standard error says so; the same for ``--quality``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Import = Callable[[str], Any]
ROOT = Path(__file__).parents[2]

FAKE = """
import sys
sys.path.insert(0, {folder!r})
from serve import column, job, serve
told = job()
assert sys.argv == [sys.argv[0]]
print("a banner")
turns = iter([1.5, 2.5])
serve(lambda: next(turns) * len(column(told["users"])), {{"version": "fake 1"}})
"""


@pytest.fixture
def environment(benchmark_module: Import, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with this interpreter in the place of each peer's."""
    module = benchmark_module("peers.environment")
    monkeypatch.setattr(module, "interpreter", lambda name: Path(sys.executable))
    return module


def test_a_peer_takes_its_turns(environment: Any, tmp_path: Path) -> None:
    import numpy as np

    np.arange(4).tofile(tmp_path / "users")
    script = tmp_path / "fake.py"
    script.write_text(FAKE.format(folder=str(ROOT / "benchmarks" / "peers")))
    with environment.peer("fake", str(script), {"users": str(tmp_path / "users")}, {}) as peer:
        assert peer.about == {"version": "fake 1"}
        assert [peer(), peer()] == [6.0, 10.0]
    assert peer.process.poll() is not None


def test_a_peer_that_ends_early_is_told_with_its_last_words(environment: Any, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such model')")
    with (
        pytest.raises(environment.PeerError, match=r"code 1: no such model"),
        environment.peer("broken", str(script), {}, {}),
    ):
        pass


def test_an_environment_that_cannot_be_made_is_told(
    benchmark_module: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = benchmark_module("peers.environment")
    (tmp_path / "odd.txt").write_text("odd==1.0\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setenv("TOWERKIT_PEERS", str(tmp_path / "cache"))

    def fails(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "No matching distribution found for odd==1.0")

    monkeypatch.setattr(module.subprocess, "run", fails)
    with pytest.raises(module.PeerError, match=r"odd: no environment: .*odd==1\.0"):
        module.interpreter("odd")


def test_every_requirement_is_pinned() -> None:
    files = sorted((ROOT / "benchmarks" / "peers").glob("*.txt"))
    assert [file.stem for file in files][:1] == ["implicit"]
    for file in files:
        for line in file.read_text().split():
            assert "==" in line or line == "setuptools<81", (file.name, line)


@pytest.mark.parametrize(("script", "word"), [("peers", "make bench-peers"), ("quality", "--quality")])
def test_what_takes_long_or_needs_an_index_is_left_out_unless_asked_for(script: str, word: str) -> None:
    path = str(ROOT / "benchmarks" / f"bench_{script}.py")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert word in done.stderr
