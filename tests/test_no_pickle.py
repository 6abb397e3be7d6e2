"""No file of this repository reads or writes a pickle, or runs a text as code.

The linter bans the same names, but a comment can silence it; this reads the syntax trees of the package, its tests, tools,
benchmarks and examples. The few places that may are named here with the reason. Each ban finds a planted offender.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("src", "tests", "tools", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
)
MODULES = {
    "pickle", "_pickle", "cPickle", "pickle5", "dill", "cloudpickle", "joblib", "jsonpickle", "shelve", "marshal", "torch.package",
    "torch.serialization", "numpy.lib.format",
}  # fmt: skip
CALLS = {
    "torch.load", "torch.save", "torch.jit.load", "torch.jit.save", "numpy.load", "numpy.save", "numpy.savez", "np.load", "np.save",
    "np.savez", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "eval", "exec", "compile", "__import__",
    "pandas.read_pickle", "pd.read_pickle", "builtins.eval", "builtins.exec",
}  # fmt: skip
METHODS = {"to_pickle", "read_pickle", "__reduce__", "__reduce_ex__"}
ALLOWED = {
    ("src/towerkit/spec.py", "yaml.load"): "with a subclass of the safe loader, which test_spec.py holds to it",
    (
        "src/towerkit/pretrained/convert.py",
        "torch.load",
    ): "of tensors only: the one command that converts weights of old",
    ("src/towerkit/pretrained/convert.py", "weights_only"): "it is True there, which test_convert.py holds it to",
    ("tests/pretrained/test_pictures.py", "torch.save"): "makes a file such as a user converts",
    ("tools/mutation.py", "__import__"): "of packages whose names stand in the tool itself",
}


def offences(source: str) -> Iterator[str]:
    """The banned names that a source uses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _is_banned(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if _is_banned(node.module):
                yield node.module
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in full if name in CALLS or _is_banned(name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.attr
        elif isinstance(node, ast.FunctionDef) and node.name in METHODS:
            yield node.name
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield "allow_pickle"
        elif isinstance(node, ast.keyword) and ast.unparse(node) == "trust_remote_code=False":
            pass  # says no
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "weights_only"):
            yield node.arg


def _is_banned(module: str) -> bool:
    return any(module == banned or module.startswith(f"{banned}.") for banned in MODULES)


@pytest.mark.parametrize("folder", ["src", "tests", "tools", "benchmarks", "examples"])
def test_nothing_pickles_or_runs_texts(folder: str) -> None:
    found = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(f"{folder}/"):
            found += [
                f"{name}: {each}" for each in offences(path.read_text(encoding="utf-8")) if (name, each) not in ALLOWED
            ]
    assert found == []


def test_every_exception_is_still_needed() -> None:
    for name, each in ALLOWED:
        assert each in set(offences((ROOT / name).read_text(encoding="utf-8"))), name


def test_the_files_are_found() -> None:
    assert len([path for path in FILES if "src" in path.parts]) > 100


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "def f():\n    import dill", "from joblib import load", "import torch.package", "from torch import load",
        "torch.load(path)", "np.load(path, allow_pickle=False)", "open_it(path, allow_pickle=True)", "yaml.load(text)",
        "eval(text)", "exec(text)", "__import__('os')", "frame.to_pickle(path)",
        "class A:\n    def __reduce__(self):\n        pass",
        "import marshal", "import shelve as s", "from numpy import load", "model(trust_remote_code=True)",
        "model(trust_remote_code=flag)",
    ],
)  # fmt: skip
def test_a_planted_offender_is_found(source: str) -> None:
    assert list(offences(source))


def test_what_only_sounds_alike_is_left_alone() -> None:
    source = (
        "model.eval()\nre.compile('x')\njson.load(f)\nyaml.safe_load(f)\nrun.load(path)\npool.evaluate(1)\nretrieval(1)\n"
        "model(trust_remote_code=False)"
    )
    assert list(offences(source)) == []
