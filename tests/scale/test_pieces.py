"""Who encodes a log that several workers train from (`towerkit.scale.pieces`); Ray itself is in `test_ray_pieces.py`.

Invariants:
- one process, where there is one worker, no log, or a folder that the workers of a cluster may not reach;
- a log of one piece starts no cluster, and is the one that one process encodes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from towerkit.data.stream.opening import open_log
from towerkit.scale.pieces import encoder_on, workers_of
from towerkit.testing.logs import log_spec, small_log, write_log


def test_who_encodes(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "log", small_log())
    streamed, table = log_spec(folder).data, log_spec(folder, stream=False).data
    assert streamed.examples.stream is not None
    anywhere = streamed.examples.stream.model_copy(update={"cache": None})
    nowhere = streamed.model_copy(update={"examples": streamed.examples.model_copy(update={"stream": anywhere})})
    assert encoder_on("local", 1, streamed) is None
    assert encoder_on("local", 2, table) is None
    assert encoder_on("10.0.0.1:6379", 2, nowhere) is None
    assert encoder_on("10.0.0.1:6379", 2, streamed) is not None
    assert encoder_on("local", 2, nowhere) is not None


def test_a_log_of_one_piece_starts_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = log_spec(write_log(tmp_path / "log", small_log())).data
    alone = open_log(spec)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it would fail
    assert open_log(spec, encode=encoder_on("local", 2, spec)).seal == alone.seal


def test_without_an_address_this_process_works() -> None:
    with workers_of(None, 4) as each:
        assert list(each(str, [1, 2])) == ["1", "2"]
