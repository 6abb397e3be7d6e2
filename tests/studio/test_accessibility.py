"""Who cannot see colors, uses no mouse or has a small screen can use every page.

- axe-core finds nothing against WCAG 2.2 AA on any page of the studio and on the report, light and dark, wide and at 360 pixels,
  and nothing scrolls sideways; the control: a page that breaks the rules is found out.
- By keys alone: the first one leads to the content, a column is sorted, two Runs are chosen and compared, the map moves and zooms.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.conftest import Asked, started
from tests.studio.conftest import history_line, open_studio
from tests.studio.test_browser import wait_for

import towerkit as tk
from towerkit.reporting import write_report
from towerkit.serving.settings import Settings
from towerkit.testing.accessibility import axe, violations
from towerkit.testing.browser import Page, browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="needs a browser: apt-get install chromium")
needs_axe = pytest.mark.skipif(axe() is None, reason="needs axe-core: make test brings it, where there is npm")

PAGES = {
    "runs": ("/", ""),
    "compare": ("/compare/shop/deep~ids", ""),
    "overview of a ranker": ("/runs/shop", ""),
    "overview of a predictor": ("/runs/reviews", ""),
    "towers": ("/runs/shop/towers", ""),
    "towers of a fusion": ("/runs/late/towers", ""),
    "try a ranker": ("/runs/shop/try", "document.querySelectorAll('.answers li').length === 10"),
    "try a predictor": ("/runs/reviews/try", "document.querySelectorAll('dl.shares').length === 2"),
    "space": ("/runs/shop/space", "document.getElementById('map').dataset.painted === '80'"),
    "data": ("/runs/shop/data", ""),
    "training": ("/training/mine", ""),
    "service": ("/service", ""),
    "not there": ("/runs/nothing", ""),
}
ADMIN, TOKEN = "the-admin-token-of-a-test", "a-token-of-the-studio"
SIZES = {
    "light": (1280, False),
    "dark": (1280, True),
    "light phone": (360, False),
    "dark phone": (360, True),
}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for all tests."""
    with browser() as page:
        yield page


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The studio with a service and a training, so that it has all of its pages."""
    folder = tmp_path_factory.mktemp("whole")
    for each in root.iterdir():
        (folder / each.name).symlink_to(each)
    (folder / "mine.checkpoint").mkdir()
    (folder / "mine.checkpoint" / "history.jsonl").write_text(history_line(1, 0.9) + history_line(2, 0.7))
    service = started({"live": root / "deep" / "ids"}, Settings(port=0, admin_token=ADMIN))
    service.post("/v1/recommend", query="u0001")
    asked = open_studio(folder, service=f"http://127.0.0.1:{service.port}")
    yield asked
    asked.stop()
    service.stop()


def is_for_everyone(page: Page) -> None:
    """Nothing is found, nothing scrolls sideways."""
    assert violations(page) == []
    assert page.ask("document.documentElement.scrollWidth") <= page.ask("innerWidth")


@pytest.mark.long
@needs_axe
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", SIZES)
def test_a_page(whole: Asked, page: Page, name: str, size: str) -> None:
    path, ready = PAGES[name]
    width, dark = SIZES[size]
    page.open(f"http://127.0.0.1:{whole.port}{path}", width=width, dark=dark)
    if ready:
        wait_for(page, ready)
    is_for_everyone(page)


@pytest.mark.long
@needs_axe
@pytest.mark.parametrize("size", SIZES)
def test_sign_in(root: Path, page: Page, size: str) -> None:
    asked = open_studio(root, token=TOKEN)
    width, dark = SIZES[size]
    page.open(f"http://127.0.0.1:{asked.port}/", width=width, dark=dark)
    assert page.ask("document.getElementById('sign-in') !== null")
    is_for_everyone(page)
    asked.stop()


@pytest.fixture(scope="module")
def report(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page about a ranker and a predictor."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    runs = [tk.load(root / "shop"), tk.load(root / "reviews")]
    return write_report(runs, out, base=root, examples=4, points=60, measure=False).path


@pytest.mark.long
@needs_axe
@pytest.mark.parametrize("size", SIZES)
def test_the_report(report: Path, page: Page, size: str) -> None:
    width, dark = SIZES[size]
    page.open(report.as_uri(), width=width, dark=dark)
    is_for_everyone(page)


@needs_axe
def test_a_bad_page_is_found_out(tmp_path: Path, page: Page) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<!DOCTYPE html><html lang="en"><title>x</title><main><h1>x</h1><input><p style="color:#aaa">pale</p></main>'
    )
    page.open(bad.as_uri())
    assert [each.partition(":")[0] for each in violations(page)] == ["color-contrast", "label"]


def tab_to(page: Page, script: str) -> None:
    """Press Tab until an expression of the page is true of what has the focus."""
    for _ in range(60):
        if page.ask(f"(focused => {script})(document.activeElement)"):
            return
        page.press("Tab")
    raise AssertionError(f"Tab never comes to {script}")


def test_the_list_by_keys(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/")
    page.press("Tab")
    assert page.ask("document.activeElement.className") == "skip"
    assert page.ask("document.activeElement.getBoundingClientRect().left") >= 0  # seen while it has the focus
    page.press("Enter")
    assert page.ask("location.hash") == "#main"
    tab_to(page, "focused.dataset.sort === 'text'")
    assert page.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter")
    assert page.ask("document.activeElement.parentElement.ariaSort") == "ascending"
    for name in ("deep~ids", "shop"):
        tab_to(page, f"focused.value === '{name}'")
        page.press(" ")
    page.ask("document.querySelector('.skip').focus()")
    tab_to(page, "focused.id === 'compare'")
    page.press("Enter")
    wait_for(page, "location.pathname === '/compare/deep~ids/shop'")


def test_the_map_by_keys(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/runs/shop/space")
    wait_for(page, "document.getElementById('map').dataset.painted === '80'")
    drawn = "document.getElementById('map').toDataURL()"
    tab_to(page, "focused.id === 'map'")
    seen = [page.ask(drawn)]
    for key in ("+", "ArrowLeft", "ArrowUp"):
        page.press(key)
        page.ask("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame)).then(() => 0)")
        seen.append(page.ask(drawn))
    assert len(set(seen)) == 4
    page.press("0")
    page.ask("new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame)).then(() => 0)")
    assert page.ask(drawn) == seen[0]
    tab_to(page, "focused.id === 'find'")


def test_answers_by_keys(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/runs/shop/try")
    wait_for(page, "document.querySelectorAll('.answers li').length === 10")
    tab_to(page, "focused.name === 'way'")
    page.press("ArrowDown")
    assert page.ask("document.activeElement.value") == "features"
    wait_for(page, "!document.querySelector('[data-way=features]').hidden")
    tab_to(page, "'meet' in focused.dataset")
    page.press("Enter")
    wait_for(page, "document.querySelectorAll('#met li').length === 1")
