"""What towerkit says to bad input, word for word.

Pinned: each case of ``cases.py`` ends in a towerkit error (never in another library's), or in an answer that says what was
done; the text names the file, column, row and value that the case demands, and is the one in ``messages.md``. A changed
message fails here, so that each change of a word is read: ``TOWERKIT_UPDATE_MESSAGES=1 pytest tests/bad_input`` writes the
file again, and the difference is what to review.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import towerkit as tk

from . import files  # noqa: F401 - it adds its cases
from .cases import CASES, Case

MESSAGES = Path(__file__).with_name("messages.md")
HEAD = """# What towerkit says to bad input

Written by `TOWERKIT_UPDATE_MESSAGES=1 pytest tests/bad_input`; read the difference before you commit it.
"""
FEWEST = 50


def said(case: Case, folder: Path) -> str:
    """The error or the answer, without what differs from run to run."""
    try:
        text = str(case.call(folder))
    except tk.TowerkitError as error:
        text = f"{type(error).__name__}: {error}"
    text = text.replace(str(folder), "FOLDER").replace(tk.__version__, "VERSION")
    return re.sub(r"/[^ ']*/(ranker|predictor|seer)\b", r"FOLDER/\1", text)


def stored(text: str) -> dict[str, str]:
    """Name -> message of the file."""
    parts = text.split("\n## ")[1:]
    return {name: body.strip().removeprefix("> ") for name, _, body in (part.partition("\n") for part in parts)}


def problem(case: Case, text: str, known: dict[str, str]) -> str | None:
    """What is wrong with a message; None when nothing is."""
    missing = [name for name in case.names if name not in text]
    if missing:
        return f"the message does not name {missing}: {text}"
    if case.name not in known:
        return f"messages.md lacks it: {text}"
    return None if known[case.name] == text else f"it was: {known[case.name]}\nit is: {text}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The file's messages; written anew first where that is asked for."""
    if os.environ.get("TOWERKIT_UPDATE_MESSAGES"):
        found = [f"\n## {each.name}\n\n> {said(each, tmp_path_factory.mktemp('case'))}\n" for each in CASES]
        MESSAGES.write_text(HEAD + "".join(found), encoding="utf-8")
    return stored(MESSAGES.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_said(case: Case, tmp_path: Path, written: dict[str, str]) -> None:
    wrong = problem(case, said(case, tmp_path), written)
    assert wrong is None, wrong


def test_there_are_as_many_cases_as_promised_and_no_message_without_one(written: dict[str, str]) -> None:
    assert len(CASES) >= FEWEST
    assert list(written) == [case.name for case in CASES]


def test_a_changed_word_a_missing_name_and_a_foreign_error_are_found(tmp_path: Path) -> None:
    """The negative control."""
    case = Case("x", lambda folder: f"{folder}/a.csv: row 3 has 'x'.", ("a.csv", "row 3"))
    text = said(case, tmp_path)
    assert text == "FOLDER/a.csv: row 3 has 'x'." and problem(case, text, {"x": text}) is None
    assert "it was" in (problem(case, text, {"x": "FOLDER/a.csv: row 3 holds 'x'."}) or "")
    assert "does not name ['line 4']" in (problem(Case("x", case.call, ("line 4",)), text, {"x": text}) or "")
    assert "lacks it" in (problem(case, text, {}) or "")

    def foreign(folder: Path) -> object:
        raise ValueError("cannot convert")

    with pytest.raises(ValueError, match="cannot convert"):
        said(Case("y", foreign, ()), tmp_path)
