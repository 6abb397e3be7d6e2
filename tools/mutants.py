"""Mutants: a module with a change in one place, for ``tools/mutation.py``.

Each change is one of: a comparison, an operator, ``and``/``or``, a condition, a constant, a result, a call or an error taken
out.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "towerkit"
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
    unread = nodes_of_types(tree)
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


def nodes_of_types(tree: ast.AST) -> set[int]:
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
    return (
        "windows" in inside
        or "os.name ==" in lines[mutant.line - 1]
        or "win32" in "".join(lines[mutant.line - 2 : mutant.line])
    )
