"""Whoever begins at the README comes to every page and every example, and the gallery has a row for every use.

- The README links to each page of docs and to each example of the gallery; what it links to is there.
- A use has one row in docs/gallery.md, under its name, with all of its specs; the rows are in tables of public data or of the shop.
- The uses that people know are all found there, by the names in the table below.
"""

from __future__ import annotations

import re
from pathlib import Path

from towerkit.gallery import uses

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)]*)?\)")
THE_THIRTEEN = {
    1: "movies",
    2: "snacks",
    3: "search",
    4: "ads",
    5: "sentiment",
    6: "topics",
    7: "hybrid",
    8: "genres",
    9: "reviews",
    10: "newcomers",
    11: "gate",
    12: "synergy",
    13: "online",
}
MADE_BY_SPHINX = {"index.md", "changelog.md", "contributing.md", "gallery.md"}
"""Pages that lead to others, or stand in the README under another name."""


def rows() -> dict[str, str]:
    """Use -> its row of the gallery."""
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    return {found[1]: found[0] for found in re.finditer(r"^\| `(\w+)` \|.*$", text, re.MULTILINE)}


def test_the_readme_leads_everywhere() -> None:
    linked = {link for link, _ in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md") if page.name not in MADE_BY_SPHINX}
    examples = {f"examples/{name}" for use in uses().values() for name in use.files}
    assert (pages | examples | {"docs/gallery.md"}) - linked == set()
    assert [link for link in linked if not (ROOT / link).exists()] == []


def test_every_use_has_a_row_with_its_specs() -> None:
    told = rows()
    assert told.keys() == uses().keys()
    for name, use in uses().items():
        missing = [each for each in use.files if f"`{each.removesuffix('.yaml')}`" not in told[name]]
        assert missing == [], name
        assert re.search(r"\.\d\d|not measured yet", told[name]), f"{name} has no figure, and does not say so"


def test_the_uses_that_people_know_are_there() -> None:
    assert sorted(THE_THIRTEEN) == list(range(1, 14)) and set(THE_THIRTEEN.values()) <= rows().keys()
