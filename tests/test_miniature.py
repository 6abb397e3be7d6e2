"""The two-tower from scratch, as its page shows it: it runs, it is short, and its figures are those of the page."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "examples" / "miniature.py"


def test_it_is_read_in_one_sitting() -> None:
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.long
def test_its_figures_are_those_of_its_page() -> None:
    found = runpy.run_path(str(FILE))["main"]()
    page = (ROOT / "docs" / "miniature.md").read_text(encoding="utf-8")
    told = {name: float(value) for name, value in re.findall(r"^([\w -]+): test NDCG@10 ([\d.]+)$", page, re.MULTILINE)}
    assert told.keys() == found.keys()
    assert found == pytest.approx(
        told, abs=0.005
    )  # another machine may differ in the last digits, and an epoch be chosen by them
    assert found["popularity"] < found["two-backprop"] < found["people averaged"]
