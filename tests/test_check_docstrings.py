"""The docstring check bites.

- A docstring without a section passes; a section that names another argument, or leaves one out, does not.
- The complaint names the file, the line and the argument.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTED = '''
def scale(values: list[float], factor: float) -> list[float]:
    """Each value times a factor.

    {section}
    """
    return [factor * value for value in values]
'''


def check(folder: Path, section: str) -> tuple[int, str]:
    (folder / "part.py").write_text(DOCUMENTED.format(section=section), encoding="utf-8")
    command = [sys.executable, "tools/check_docstrings.py", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    "section", ["Longer words.", "Args:\n        values: What to scale.\n        factor: The factor."]
)
def test_an_absent_or_a_right_section_passes(tmp_path: Path, section: str) -> None:
    code, said = check(tmp_path, section)
    assert code == 0, said


@pytest.mark.parametrize(
    "section",
    ["Args:\n        values: What to scale.\n        weight: The factor.", "Args:\n        values: What to scale."],
)
def test_a_wrong_section_is_refused(tmp_path: Path, section: str) -> None:
    code, said = check(tmp_path, section)
    assert code == 1, said
    assert "part.py:2: DOC103" in said
    assert "factor: float" in said
