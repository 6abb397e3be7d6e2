"""The page on extending tells the truth.

- Each file of the page, and each change of a menu, applies to a copy of the package as it stands on the page.
- In that copy a small model of each new kind is trained through its name in a spec; the Run is loaded in a new process, where it
  answers as it did before it was saved; missing values and unseen keys included.
- Without the menu change the same spec is refused, naming the kinds there are (so that the first claim can fail).
- The three lines of the contract test on the page pass in the copy.
- The examples in the new files' docstrings hold, and the new files keep the style, the types and the floors of the package.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from towerkit.core.errors import SpecError
from towerkit.core.spec import parse
from towerkit.spec import ModelingSpec

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(r"^```(?P<language>python|diff) file=(?P<path>\S+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)

SPECS = {
    "loss": {
        "model": {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": {"kind": "id", "dim": 8}},
        "objective": {"loss": {"kind": "squared_hinge", "margin": 0.5}},
        "training": {"epochs": 2, "batch_size": 64},
    },
    "tower": {
        "model": {
            "kind": "tower_model",
            "towers": {"readings": {"kind": "mean_numbers", "columns": ["a", "b"], "dim": 4}},
            "heads": {"good": {"kind": "binary", "column": "good"}},
        },
        "training": {"epochs": 2, "batch_size": 64},
    },
    "member": {
        "model": {
            "kind": "late_fusion",
            "members": {
                "towers": {
                    "kind": "tower_model",
                    "towers": {"table": {"kind": "table", "columns": ["b"], "layers": [4], "dim": 4}},
                    "heads": {"good": {"kind": "binary", "column": "good"}},
                },
                "bayes": {"kind": "naive_bayes", "columns": ["a", "b"], "task": {"kind": "binary", "column": "good"}},
            },
            "combine": {"kind": "stack", "folds": 2},
        },
        "training": {"epochs": 2, "batch_size": 64},
    },
}

WORLD = """
import json, sys
from pathlib import Path
import numpy as np
import towerkit as tk

assert Path(tk.__file__).resolve().is_relative_to(Path.cwd().resolve()), tk.__file__
specs = json.loads(Path("specs.json").read_text())
draw = np.random.default_rng(0)
good = draw.integers(0, 2, 240)
rows = {
    "user": [f"u{number}" for number in draw.integers(0, 30, 240)],
    "item": [f"i{number}" for number in draw.integers(0, 25, 240)],
    "a": np.where(draw.random(240) < 0.1, np.nan, good + draw.normal(0, 0.5, 240)),
    "b": good + draw.normal(0, 0.5, 240),
    "good": good,
}
asked = {
    "loss": {"user": ["u1", "nobody"], "item": ["i1", "i2"]},
    "tower": {"a": [1.0, None], "b": [0.0, None]},
    "member": {"a": [1.5, -0.5, None], "b": [1.0, -0.5, None]},
}
"""

TRAIN = """
pairs = {"query": "user", "candidate": "item"}
for name, spec in specs.items():
    run = tk.fit(spec, tk.read(rows, **(pairs if name == "loss" else {})), run=f"runs/{name}")
    if name == "member":
        assert run.baselines["member bayes"].metrics["auc"].value > 0.8, run.baselines["member bayes"].metrics
    model = run.model  # loaded once already, to have the answers to compare with
    Path(f"{name}.json").write_text(json.dumps(run.predict(asked[name]).to_pylist()))
print("trained")
"""

LOAD = """
for name in specs:
    found = tk.load(f"runs/{name}").predict(asked[name]).to_pylist()
    assert found == json.loads(Path(f"{name}.json").read_text()), found
    assert all(value is not None and value == value for row in found for value in row.values()), found
confident = tk.load("runs/member").predict(asked["member"]).column("good").to_pylist()
assert confident[:2] == ["1", "0"], confident
print("answered")
"""


def blocks() -> list[tuple[str, str, str]]:
    """Language, path and body of each block of the page that names a file."""
    found = BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    return [(block["language"], block["path"], block["body"]) for block in found]


def applied(text: str, change: str, path: str) -> str:
    """A file's text after a change in the form of a diff, whose hunks are separated by ``@@``."""
    for hunk in re.split(r"^@@\n", change, flags=re.MULTILINE):
        lines = hunk.splitlines()
        assert {line[0] for line in lines} <= set(" +-"), f"{path}: not a diff: {hunk}"
        old = "\n".join(line[1:] for line in lines if line[0] != "+") + "\n"
        new = "\n".join(line[1:] for line in lines if line[0] != "-") + "\n"
        assert text.count(old) == 1, f"{path} has {text.count(old)} places that read:\n{old}"
        text = text.replace(old, new)
    return text


def python(folder: Path, code: str) -> str:
    """What a new process prints, with the copy of the package first on its path."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", WORLD + code]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def copied(folder: Path) -> Path:
    """A folder with a copy of the package and the specs of the test."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "towerkit", folder / "src" / "towerkit", ignore=ignored)
    (folder / "tests").mkdir()
    for name in ("tests/test_contract.py", "tests/conftest.py", "pytest.ini"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "specs.json").write_text(json.dumps(SPECS), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with everything on the page applied."""
    folder = copied(tmp_path_factory.mktemp("extended"))
    for language, name, body in blocks():
        path = folder / name
        if language == "python":
            assert not path.exists(), f"{name} is in the package already"
            path.write_text(body, encoding="utf-8")
        else:
            path.write_text(applied(path.read_text(encoding="utf-8"), body, name), encoding="utf-8")
    return folder


def test_the_page_shows_one_file_and_one_menu_for_each_of_three_parts() -> None:
    *parts, contract = blocks()
    assert [language for language, _, _ in parts] == [*["python", "diff"] * 3, "diff"]
    assert parts[-1][1] == "src/towerkit/artifact/layout.py", "the name of the file that the member writes"
    assert contract[1] == "tests/test_contract.py"


def test_new_kinds_train_and_answer_the_same_in_a_new_process(extended: Path) -> None:
    assert python(extended, TRAIN) == "trained\n"
    assert python(extended, LOAD) == "answered\n"


@pytest.mark.parametrize(
    ("name", "kind"), [("loss", "squared_hinge"), ("tower", "mean_numbers"), ("member", "naive_bayes")]
)
def test_without_the_menu_changes_the_kinds_are_unknown(name: str, kind: str) -> None:
    with pytest.raises(SpecError, match=f"unknown kind '{kind}'"):
        parse(ModelingSpec, SPECS[name])


@pytest.mark.long
def test_the_new_kinds_keep_the_contract(extended: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_contract.py"]
    chosen = ["-k", "squared_hinge or mean_numbers or naive_bayes"]
    environment = {**os.environ, "PYTHONPATH": str(extended / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command + chosen, cwd=extended, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert "3 passed" in result.stdout, result.stdout


@pytest.mark.long
def test_the_new_files_keep_the_house_rules(extended: Path) -> None:
    new = [name for language, name, _ in blocks() if language == "python"]
    settings = ("ruff.toml", "mypy.ini", "pydoclint.toml", ".importlinter")
    for name in settings:
        shutil.copy(ROOT / name, extended)
    lint = "from importlinter.cli import lint_imports\n"
    lint += "raise SystemExit(lint_imports(config_filename='.importlinter', no_cache=True))"
    commands = [
        [sys.executable, "-m", "ruff", "check", "--no-cache", *new],
        [sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *new],
        [sys.executable, "-m", "doctest", new[0]],
        [sys.executable, "-c", lint],
        [sys.executable, str(ROOT / "tools" / "check_docstrings.py"), "src/towerkit"],
    ]
    for command in commands:
        environment = {**os.environ, "PYTHONPATH": str(extended / "src")}
        result = subprocess.run(command, cwd=extended, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command[2:]}: {result.stdout}{result.stderr}"
