"""Compare docstrings with signatures: a section that is there must be right and whole.

pydoclint does the comparison. It would also demand every section in every docstring that is longer than one line;
we let a section be absent, because one sentence and an example are often the better docstring.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

# What pydoclint says of an absent section: arguments (101, 103), returns (201), yields (402).
SECTION_OF = {"DOC101": "Args:", "DOC103": "Args:", "DOC201": "Returns:", "DOC402": "Yields:"}
COMPLAINT = re.compile(r"^\s+(?P<line>\d+): (?P<code>DOC\d+): ")


def docstrings(path: Path) -> dict[int, str]:
    """Each definition's docstring, by the line of its ``def`` or ``class``."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    defined = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))
    return {node.lineno: ast.get_docstring(node) or "" for node in defined}


def complaints(folder: str) -> list[str]:
    """What pydoclint says of ``folder``, as ``file:line: code: message``, less what it says of absent sections."""
    command = [sys.executable, "-m", "pydoclint.main", "--quiet", "--config=pydoclint.toml", folder]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (a fixed command)
    said = result.stdout + result.stderr
    kept, path, known = [], Path(), dict[int, str]()
    for line in filter(None, map(str.rstrip, said.splitlines())):
        complaint = COMPLAINT.match(line)
        if complaint is None:
            path = Path(line)
            if not path.is_file():  # neither a complaint nor a file's heading: pydoclint itself failed
                raise SystemExit(said)
            known = docstrings(path)
            continue
        section = SECTION_OF.get(complaint["code"])
        if section is None or section in known.get(int(complaint["line"]), section):
            kept.append(f"{path}:{line.strip()}")
    return kept


if __name__ == "__main__":
    found = complaints(sys.argv[1])
    print("\n".join(found) or "Docstrings agree with their signatures.")
    raise SystemExit(1 if found else 0)
