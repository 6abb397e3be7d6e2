"""Imports point one way.

- The floors and the list of packages that stay out, both in ``.importlinter``, hold for this package.
- Negative controls on a copy: an import of a higher floor, of a package that stays out (also inside a function), and a
  folder without a floor each break a contract, and the report names the two sides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT = """
from importlinter.cli import lint_imports
raise SystemExit(lint_imports(config_filename=".importlinter", no_cache=True))
"""


def lint(folder: Path, source: Path) -> tuple[int, str]:
    """The exit code and report of import-linter for the package in ``source`` under the contracts in ``folder``."""
    environment = os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200"}
    command = [sys.executable, "-c", LINT]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the contracts and a copy of the package, whose lowest floor may be edited."""
    shutil.copy(ROOT / ".importlinter", tmp_path)
    shutil.copytree(ROOT / "src" / "towerkit", tmp_path / "towerkit", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_this_package_keeps_its_floors() -> None:
    code, report = lint(ROOT, ROOT / "src")
    assert code == 0, report
    assert "0 broken" in report


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("core/climbs.py", "import towerkit.data\n", "towerkit.core.climbs -> towerkit.data"),
        ("core/reads.py", "def read():\n    import pandas\n", "towerkit.core.reads -> pandas"),
        ("attic/__init__.py", '"""No floor."""\n', "attic"),
    ],
)
def test_a_forbidden_import_breaks_a_contract(copy: Path, file: str, text: str, told: str) -> None:
    path = copy / "towerkit" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    code, report = lint(copy, copy)
    assert code == 1, report
    assert told in report
