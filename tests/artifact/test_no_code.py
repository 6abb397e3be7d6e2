"""Loading a Run runs no code.

Pinned, with an audit hook in a process of its own, set once the library is imported and has answered once: opening, answering and
evaluating Runs of every kind and every format does nothing that Python audits but to read files below the Run, list its folders
and ask for identities (and, where trees answer, to hand memory to XGBoost). So nothing is compiled, executed, imported or
unpickled; no process, socket or library is opened; no file is written, and none read from elsewhere. The same watch sees each of
these things when a loader does them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "runs"

WATCHER = """
import json, os, sys
from pathlib import Path
from towerkit import run as runs
from towerkit.run import load_run

def use(folder):
    run = load_run(folder / "run")
    run.model, run.evaluation, run.baselines, run.spec, run.space
    questions = json.loads((folder / "answers.json").read_text())["questions"]
    return [getattr(run, question["call"])(**question["given"]) for question in questions]

def allowed(event, arguments):
    if event in ("builtins.id", "ctypes.cdata", "ctypes.cdata/buffer"):
        return True
    if event == "array.__new__":
        return arguments[0] in "iq"             # BM25 counts words into plain arrays of numbers
    if event == "os.scandir":
        return str(arguments[0]).startswith(below)
    if event == "open":
        path, mode, flags = arguments
        reads = not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        return reads and str(path).startswith(below)
    return False

def made(danger):                           # a loader that does what it must not, made before the watch would see it
    found, loads = {}, runs.LOADERS["tower_model"]
    exec("def does(folder):" + chr(10) + "    " + danger.replace(chr(10), chr(10) + "    "), found)
    def loader(folder, version):
        found["does"](folder)
        return loads(folder, version)
    return {**runs.LOADERS, "tower_model": loader}

warm, below = Path(sys.argv[1]), sys.argv[2]
for folder in sorted(warm.glob("*/*")):
    use(folder)                             # whatever is imported at first use is imported now
folders = sorted(Path(below).glob("*/*"))
dangerous = {name: made(danger) for name, danger in json.loads(sys.argv[3]).items()}
predictor = next(folder for folder in folders if folder.name == "tower_model")
events, is_on = [], False
sys.addaudithook(lambda event, arguments: is_on and not allowed(event, arguments) and events.append(event))
is_on = True
answered = {str(folder): len(use(folder)) for folder in folders}
is_on = False
found = {"": list(events)}
for name, loaders in dangerous.items():
    events.clear()
    runs.LOADERS, is_on = loaders, True
    use(predictor)
    is_on = False
    found[name] = list(events)
print(json.dumps({"events": found, "answered": answered}))
"""
DANGERS = {
    "unpickles": ("import pickle, fractions; pickle.loads(pickle.dumps(fractions.Fraction))", "pickle.find_class"),
    "loads a pickled tensor": (
        "import torch, io; b = io.BytesIO(); torch.save({1: torch.ones(1)}, b); b.seek(0); torch.load(b, weights_only=False)",
        "pickle.find_class",
    ),
    "evaluates a text": ("eval('1 + 1')", "compile"),
    "executes a text": ("exec('1 + 1')", "exec"),
    "imports a module": ("import sys; sys.modules.pop('colorsys', None); import colorsys", "import"),
    "unmarshals": ("import marshal; marshal.loads(marshal.dumps(1))", "marshal.loads"),
    "starts a process": ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
    "asks the shell": ("import os; os.system('true')", "os.system"),
    "opens a socket": ("import socket; socket.socket().close()", "socket.__new__"),
    "loads a library": (
        "import ctypes\ntry:\n    ctypes.CDLL(str(folder / 'weights.safetensors'))\nexcept OSError:\n    pass",
        "ctypes.dlopen",
    ),
    "writes into the Run": ("(folder / 'x').write_text('x'); (folder / 'x').unlink()", "os.remove"),
    "reads elsewhere": ("open('/dev/null').close()", "open"),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What was audited, in one process of its own: copies of all Runs in use, then one under each dangerous loader."""
    place = tmp_path_factory.mktemp("watched")
    copy = shutil.copytree(FIXTURES, place / "copy")
    dangers = json.dumps({name: code for name, (code, _) in DANGERS.items()})
    command = [sys.executable, "-c", WATCHER, str(FIXTURES), str(copy), dangers]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_loading_and_answering_runs_nothing(watched: Any) -> None:
    assert set(watched["events"][""]) == set()
    assert len(watched["answered"]) == len(list(FIXTURES.glob("*/*")))
    assert min(watched["answered"].values()) >= 3


@pytest.mark.parametrize("danger", DANGERS)
def test_a_loader_that_does_more_is_caught(watched: Any, danger: str) -> None:
    assert DANGERS[danger][1] in watched["events"][danger]
