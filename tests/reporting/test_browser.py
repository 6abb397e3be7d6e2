"""A real browser shows the report: nothing is said on its console, every drawing has a size, nothing leaves the file.

- On a desktop, on a phone of 360 pixels and on a dark screen: no message, one request (the file), no scrolling sideways.
- Every drawing is as wide as its place and as high as it should be, its words are 9 pixels high or more on the phone.
- The control: a page that breaks these rules is found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import towerkit as tk
from towerkit.reporting import write_report
from towerkit.testing.browser import Page, browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="needs a browser: apt-get install chromium")

_DRAWN = """[...document.querySelectorAll("svg.chart")].map(s => {
  const box = s.getBoundingClientRect(), inner = s.getBBox();
  const words = [...s.querySelectorAll("text")].map(t => t.getBoundingClientRect().height);
  return [s.id || s.querySelector("title").textContent, box.width, box.height, inner.width, Math.min(...words)];
})"""


@pytest.fixture(scope="module")
def report(
    ranking: tk.Run, prediction: tk.Run, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int]:
    """One page about both, and how many drawings it has."""
    out = tmp_path_factory.mktemp("browser") / "report.html"
    found = write_report([ranking, prediction], out, base=folder, examples=6, points=60, measure=False)
    return found.path, len(found.figures)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for all tests."""
    with browser() as page:
        yield page


@pytest.mark.parametrize(
    ("width", "dark"), [(1200, False), (360, False), (1200, True)], ids=["desktop", "phone", "dark"]
)
def test_the_page_in_a_browser(report: tuple[Path, int], page: Page, width: int, dark: bool) -> None:
    path, count = report
    page.open(path.as_uri(), width=width, dark=dark)
    drawn = page.ask(_DRAWN)
    sideways = page.ask("document.documentElement.scrollWidth")
    ground = page.ask("getComputedStyle(document.body).backgroundColor")
    assert page.problems == [] and page.requests == [path.as_uri()]
    assert len(drawn) == count and sideways <= width
    for name, wide, high, inner, words in drawn:
        assert wide > 300 and high > 60 and inner > 100, name
        assert words >= 9, name
    assert ground == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")


def test_the_browser_finds_a_bad_page(tmp_path: Path, page: Page) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!DOCTYPE html><title>x</title><img src="gone.png"><script>console.log("hello"); nothing()</script>',
        encoding="utf-8",
    )
    page.open(bad.as_uri())
    assert page.requests == [bad.as_uri(), (tmp_path / "gone.png").as_uri()]
    assert any("hello" in each for each in page.problems) and any("Uncaught" in each for each in page.problems)
