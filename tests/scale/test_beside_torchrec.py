"""Tables in shards beside TorchRec's row-wise ones: the same rows are read, and the same Adagrad steps are taken.

Its packages (``torchrec.txt``) are not installed with towerkit; decision 0036 says why. Skipped without them;
``acceptance/8.sh`` makes an environment with them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("torchrec") is None, reason="needs torchrec and fbgemm-gpu-cpu (docs/decisions/0036)"),
]


def test_the_same_rows_and_steps(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("torchrec_worker.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    each = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=300) for process in each] == [0, 0]
    for rank in range(2):
        apart = json.loads((tmp_path / f"apart-{rank}.json").read_text())
        assert apart["read"][0] == 0.0
        assert max(apart["read"]) < 1e-5  # of numbers around 1; its kernel rounds otherwise
        assert apart["table"] < 1e-5
