"""Work in pieces on Ray, whose workers die; needs the extra ``ray``. Long: a cluster takes seconds to start.

Invariants:
- results come in the order of the pieces; a piece whose worker is killed is begun again by another; an error on purpose is that of
  the function; workers that die again and again end it with the reason, and a full object store ends nothing;
- the log that workers encode is that of one pass, bit for bit, and two workers train from it what one process trains;
- the vectors that workers write are those of one process, byte for byte, and so are the inverted lists that they fill.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from towerkit.cli import app
from towerkit.core.errors import DataError, TrainingError
from towerkit.data.readers import read_table
from towerkit.data.stream.opening import open_log
from towerkit.data.stream.pieces import encode_by_pieces
from towerkit.run_writer import train_run
from towerkit.testing.by_workers import furthest, train_alone
from towerkit.testing.logs import log_spec, small_log, write_log
from towerkit.training.progress import Silent

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs towerkit[ray]"),
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.timeout(900),
]


def dies_once(function: Any, marker: Path) -> Any:
    """The function, whose process is killed in the middle of the first call."""

    def call(piece: Any) -> Any:  # within a function, so that Ray sends it whole: workers cannot import a test
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(piece)

    return call


def test_pieces(tmp_path: Path) -> None:
    from towerkit.scale.pieces import workers_of

    def refuses(piece: int) -> int:
        if piece > 3:
            raise DataError(f"piece {piece} is too large")
        return piece

    with workers_of("local", 2) as each:
        import ray

        assert list(each(dies_once(lambda piece: piece * piece, tmp_path / "died"), range(20))) == [
            n * n for n in range(20)
        ]
        assert (tmp_path / "died").exists()
        with pytest.raises(DataError, match=r"^piece 4 is too large$"):
            list(each(refuses, range(9)))
        with pytest.raises(TrainingError, match="died 4 times"):
            list(each(lambda piece: os.kill(os.getpid(), signal.SIGKILL), [1]))
        held = [ray.put(np.full(50 << 20, number, np.uint8)) for number in range(6)]  # 300 MB of 200
        found = list(each(lambda piece: np.full(10 << 20, piece, np.uint8), range(4)))
        assert [(len(one), int(one[0])) for one in found] == [(10 << 20, number) for number in range(4)]
        assert [int(ray.get(one)[0]) for one in held] == list(range(6))


def test_a_log_that_workers_encode(tmp_path: Path) -> None:
    from towerkit.scale.pieces import workers_of
    from towerkit.scale.ray_train import train_on

    spec = log_spec(write_log(tmp_path / "log", small_log()), epochs=2, optimizer={"kind": "sgd", "lr": 1.0})
    alone = open_log(spec.data)
    right, _ = train_run(tmp_path / "alone", spec, alone, Silent())
    shutil.rmtree(tmp_path / "cache")

    def encode(files: Any, roles: Any, folder: Path) -> Any:
        with workers_of("local", 2) as each:
            return encode_by_pieces(
                files, roles, folder, lambda function, pieces: each(dies_once(function, tmp_path / "died"), pieces), 100
            )

    log = open_log(spec.data, encode=encode)
    assert (tmp_path / "died").exists()
    assert log.seal == alone.seal
    found = train_on("local", 2, tmp_path / "two", spec, log, Silent(), place=Path())
    assert furthest(found, right)["weight"] < 1e-5


def test_vectors_that_workers_write(tmp_path: Path) -> None:
    run, table = train_alone(tmp_path / "run"), read_table("builtin:shop-small/products").data
    (tmp_path / "rows").mkdir()
    for place in range(4):
        pq.write_table(table.slice(20 * place, 20), tmp_path / "rows" / f"{place}.parquet")
    words = ["embed", str(run.path), str(tmp_path / "rows"), "--side", "candidate", "--json", "--out"]
    alone = CliRunner().invoke(app, [*words, str(tmp_path / "alone")])
    assert alone.exit_code == 0, alone.output
    two = CliRunner().invoke(app, [*words, str(tmp_path / "two"), "--on", "local", "--workers", "2"])
    assert two.exit_code == 0, two.output
    assert json.loads(two.stdout)["rows"] == json.loads(alone.stdout)["rows"] > 0
    hashes = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).glob("*.parquet")}
        for name in ("alone", "two")
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4


def test_workers_fill_inverted_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="needs towerkit[ann]")
    from towerkit.index import filling

    monkeypatch.setattr(filling.by_shards, "__defaults__", (50,))  # so that there are several
    run = train_alone(tmp_path / "run")
    words = ["index", str(run.path), "--factory", "IVF4,Flat", "--json", "--out"]
    for name, more in (("one", []), ("two", ["--on", "local", "--workers", "2"])):
        done = CliRunner().invoke(app, [*words, str(tmp_path / name), *more])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "one" / "native.faiss").read_bytes() == (tmp_path / "two" / "native.faiss").read_bytes()
