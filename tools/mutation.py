"""Change the code in one place at a time and see whether the tests notice: the share of changes that they catch.

    python tools/mutation.py [--sample 200] [--seed 0] [--module storage/lock.py …] [--workers 2]

Each change (a mutant) is one of: a comparison, an operator, ``and``/``or``, a condition, a constant, a result or a call taken
out. The changed module is put into a tree of links beside the other modules, so that the processes that tests start see it
too. The parent has imported the heavy packages and forks a child per mutant, which runs only the tests of that module and
stops at the first that fails. Prints the survivors and a row per module; ends with status 1 below ``--least``.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "towerkit"
TESTS: dict[str, list[str]] = {
    "storage/hashes.py": ["storage/test_hashes.py"],
    "storage/lock.py": ["storage/test_lock.py"],
    "storage/atomic.py": ["storage/test_atomic.py"],
    "storage/manifest.py": ["storage/test_manifest.py"],
    "storage/tensors.py": ["storage/test_tensors.py"],
    "training/checkpoint.py": ["training/test_checkpoint_folder.py"],
    "training/snapshot.py": ["training/test_checkpoint_folder.py"],
}
"""Module -> the tests that must notice a change in it, the quick ones first."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change.

    Args:
        module: Path below the package.
        line: Where.
        what: In words.
        text: The whole module with the change.
    """

    module: str
    line: int
    what: str
    text: str


def mutants_of(module: str) -> list[Mutant]:
    """Every change of a module."""
    tree = ast.parse((PACKAGE / module).read_text())
    unread = annotations(tree)
    found = []
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in unread:
            continue
        for number, (what, _) in enumerate(changes(node)):
            again = copy.deepcopy(tree)
            target = next(one for index, one in enumerate(ast.walk(again)) if index == place)
            changed = list(changes(target))[number][1]
            for name, value in changed.items():
                setattr(target, name, value)
            text = ast.unparse(ast.fix_missing_locations(again))
            found.append(Mutant(module, getattr(node, "lineno", 0), what, text))
    return found


def annotations(tree: ast.AST) -> set[int]:
    """The nodes of types, which nothing reads when the code runs."""
    found: set[int] = set()
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(kind := getattr(node, name, None), ast.AST):
                found |= {id(inner) for inner in ast.walk(kind)}
    return found


def changes(node: ast.AST) -> Iterator[tuple[str, dict[str, object]]]:
    """What may be changed at a node: in words, and the attributes to set."""
    match node:
        case ast.Compare(ops=[first, *rest]) if type(first) in SWAPS:
            new = SWAPS[type(first)]
            yield f"{type(first).__name__} -> {new.__name__}", {"ops": [new(), *rest]}
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield f"{type(op).__name__} -> {SWAPS[type(op)].__name__}", {"op": SWAPS[type(op)]()}
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if not is_typing(test):
            yield "condition negated", {"test": ast.UnaryOp(ast.Not(), test)}
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", {"value": not value}
        case ast.Constant(value=int() | float() as value):
            yield f"{value} -> {value + 1}", {"value": value + 1}
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "returns None", {"value": ast.Constant(None)}
        case ast.Expr(value=ast.Call()):
            yield "call taken out", {"value": ast.Constant(None)}
        case ast.Continue() | ast.Break():
            pass
        case ast.ExceptHandler(body=[*_, ast.Raise()]):
            yield "error swallowed", {"body": [ast.Pass()]}


def is_typing(test: ast.expr) -> bool:
    """Whether a condition is for type checkers or for another system than this one."""
    return ast.unparse(test) in ("TYPE_CHECKING", "os.name == 'nt'", "sys.platform == 'win32'")


def is_elsewhere(mutant: Mutant) -> bool:
    """Whether the change is in code that only Windows runs."""
    lines = (PACKAGE / mutant.module).read_text().splitlines()
    starts = [number for number, line in enumerate(lines[: mutant.line], 1) if line.startswith("def ")]
    inside = lines[starts[-1] - 1] if starts else ""
    return "windows" in inside or "os.name ==" in lines[mutant.line - 1] or "win32" in lines[mutant.line - 1]


def link_tree(mutant: Mutant, folder: Path) -> None:
    """The package as links, but for the changed module."""
    here, there = folder / "towerkit", PACKAGE
    for part in Path(mutant.module).parts:
        here.mkdir()
        for entry in there.iterdir():
            if entry.name not in (part, "__pycache__"):
                (here / entry.name).symlink_to(entry)
        here, there = here / part, there / part
    here.write_text(mutant.text)


def survives(mutant: Mutant, limit_s: float) -> bool:
    """Whether all tests of the module pass with the change; a test that takes too long has noticed it."""
    folder = Path(tempfile.mkdtemp())
    try:
        link_tree(mutant, folder)
        child = os.fork()
        if child == 0:
            os.setsid()
            run_tests(mutant.module, folder)
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status == 0
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_tests(module: str, folder: Path) -> None:
    """In a child: the tests of a module on the tree of links; ends the process."""
    import pytest

    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(quiet, stream)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HYPOTHESIS_PROFILE": "ci", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    tests = [str(ROOT / "tests" / name) for name in TESTS[module] if (ROOT / "tests" / name).exists()]
    options = ["-x", "-q", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    options += ["--basetemp", str(folder / "tmp"), "-c", str(ROOT / "pytest.ini")]
    status = 1
    try:
        status = int(pytest.main([*options, *tests]))
    finally:
        os._exit(status)


def main() -> None:
    """Sample, run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=200, help="0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", nargs="+", default=list(TESTS), choices=list(TESTS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for the tests of one mutant")
    parser.add_argument("--least", type=float, default=0.9, help="share that must be killed")
    chosen = parser.parse_args()
    for heavy in (
        "torch",
        "pyarrow",
        "hypothesis.extra.numpy",
        "safetensors.numpy",
        "pydantic",
        "scipy.sparse",
        "pytest",
    ):
        __import__(heavy)
    every = [one for module in chosen.module for one in mutants_of(module) if not is_elsewhere(one)]
    number = min(chosen.sample or len(every), len(every))
    sample = random.Random(chosen.seed).sample(every, number)  # noqa: S311 - a sample of places in the code
    for module in chosen.module:
        if not survives(Mutant(module, 0, "unchanged", (PACKAGE / module).read_text()), 10 * chosen.limit):
            raise SystemExit(f"the tests of {module} fail without any change, or take longer than the limit")
    print(f"{len(sample)} of {len(every)} mutants", flush=True)

    done = [0, 0]

    def judged(mutant: Mutant) -> bool:
        alive = survives(mutant, chosen.limit)
        done[alive] += 1
        if sum(done) % 20 == 0:
            print(f"{done[0]} of {sum(done)} killed so far", flush=True)
        if alive:
            print(f"    survived: {mutant.module}:{mutant.line}: {mutant.what}", flush=True)
        return alive

    with ThreadPoolExecutor(chosen.workers) as pool:
        alive = list(pool.map(judged, sample))
    for module in chosen.module:
        of_module = [a for a, mutant in zip(alive, sample, strict=True) if mutant.module == module]
        if of_module:
            killed = len(of_module) - sum(of_module)
            print(f"{module:28}{killed:>5} of {len(of_module):>4} killed  {killed / len(of_module):.1%}")
    share = 1 - sum(alive) / max(1, len(alive))
    print(f"{'all':28}{len(alive) - sum(alive):>5} of {len(alive):>4} killed  {share:.1%}")
    sys.exit(int(share < chosen.least))


if __name__ == "__main__":
    main()
