"""Loading a Run runs no code.

Pinned, with an audit hook in a process of its own, set once the library is imported: loading, answering and evaluating a
Run of each kind compiles, executes and unpickles nothing, starts no process and opens no socket or library. The same
hook sees each of these things when they are done on purpose.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from towerkit.run import Run

WATCHER = """
import json, sys
from pathlib import Path
from towerkit.run import load_run

def use(path):
    run = load_run(path)
    run.model, run.evaluation, run.baselines, run.spec
    return run.recommend("u0001", k=3).num_rows if run.kind == "two_tower" else run.predict(rows).num_rows

warm, touched = sys.argv[1:]
rows = {"product_id": ["p0001"], "title": ["x"], "text": [None], "age": [3], "helpful_count": [None], "category": ["y"]}
use(warm)                                   # whatever is imported at first use is imported now
watched = ("exec", "compile", "marshal.loads", "pickle.find_class", "import", "subprocess.Popen", "os.system", "os.exec",
           "os.posix_spawn", "os.fork", "socket.__new__", "socket.connect", "ctypes.dlopen", "code.__new__")
events = []
sys.addaudithook(lambda event, arguments: events.append(event) if event in watched else None)
answered = use(touched)
during = list(events)
events.clear()
exec("1 + 1")                               # the hook is awake: each of these must be seen
import socket, subprocess, pickle, fractions
socket.socket().close()
pickle.loads(pickle.dumps(fractions.Fraction))
subprocess.run(["true"])
print(json.dumps({"during": during, "control": sorted(set(events)), "answered": answered}))
"""


@pytest.mark.parametrize("kind", ["two_tower", "tower_model", "late_fusion"])
def test_loading_and_answering_runs_nothing(runs: dict[str, Run], tmp_path: Path, kind: str) -> None:
    copy = shutil.copytree(runs[kind].path, tmp_path / "copy")
    command = [sys.executable, "-c", WATCHER, str(runs[kind].path), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["answered"] == (3 if kind == "two_tower" else 1)
    assert found["during"] == []
    assert {"exec", "compile", "pickle.find_class", "subprocess.Popen", "socket.__new__"} <= set(found["control"])
