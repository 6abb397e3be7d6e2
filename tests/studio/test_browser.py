"""A real browser shows the studio: nothing on its console, nothing comes from elsewhere, pages do what they say.

- Every page is opened on a desktop and on a dark phone of 360 pixels, without scrolling sideways; no title of the data runs.
- The list sorts, filters and leads to a comparison; Try it follows a history and a switched-off tower; the map tells a point.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.serving.conftest import Asked
from tests.studio.conftest import HOSTILE

from towerkit.testing.browser import Page, browser, program

pytestmark = pytest.mark.skipif(program() is None, reason="needs a browser: apt-get install chromium")

PAGES = (
    "/",
    "/compare/shop/deep~ids",
    "/runs/shop",
    "/runs/reviews",
    "/runs/shop/towers",
    "/runs/late/towers",
    "/runs/shop/data",
)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for all tests."""
    with browser() as page:
        yield page


def wait_for(page: Page, script: str) -> None:
    """Wait until an expression of the page is true."""
    end = time.monotonic() + 60
    while not page.ask(script):
        assert time.monotonic() < end, f"never: {script}; {page.problems}"
        time.sleep(0.05)


def fill(page: Page, name: str, value: str) -> None:
    """Fill in a field, as typing does."""
    page.ask(
        f"(each => {{ each.value = {value}; each.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        f"(document.getElementById('{name}'))"
    )


def is_clean(page: Page, asked: Asked) -> None:
    """Nothing was said, nothing came from elsewhere."""
    own = (f"http://127.0.0.1:{asked.port}/", "data:")
    assert page.problems == [] and [each for each in page.requests if not each.startswith(own)] == []
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)], ids=["desktop", "dark phone"])
def test_pages(studio: Asked, page: Page, path: str, width: int, dark: bool) -> None:
    page.open(f"http://127.0.0.1:{studio.port}{path}", width=width, dark=dark)
    is_clean(page, studio)
    assert page.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)"
    )
    small = page.ask(
        "Math.min(...[...document.querySelectorAll('svg.chart text')].map(t => t.getBoundingClientRect().height))"
    )
    assert small is None or small >= 9  # of words in drawings, in pixels


@pytest.mark.parametrize("width", [1080, 1280])
def test_no_column_of_the_list_is_cut_off(studio: Asked, page: Page, width: int) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/", width=width)
    page.ask("document.querySelectorAll('#runs tbody th a').forEach(each => each.textContent = 'a-run-of-some-length')")
    wide, seen = page.ask("(box => [box.scrollWidth, box.clientWidth])(document.getElementById('runs').parentElement)")
    assert 0 < wide <= seen


def test_the_list(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/")
    names = "[...document.querySelectorAll('#runs tbody tr:not([hidden]) th')].map(each => each.textContent)"
    page.ask("document.querySelector('th button[data-sort=text]').click()")
    assert page.ask(names) == sorted(["shop", "deep/ids", "reviews", "late", "broken"])
    fill(page, "find", "'tower ndcg'")
    assert page.ask(names) == ["deep/ids", "shop"]
    page.ask("document.querySelectorAll('#runs tbody tr:not([hidden]) input').forEach(each => each.click())")
    page.ask("document.getElementById('compare').click()")
    wait_for(page, "location.pathname === '/compare/deep~ids/shop' && document.getElementById('specs') !== null")
    is_clean(page, studio)


def test_try_a_ranker(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/runs/shop/try")
    wait_for(page, "document.querySelectorAll('.answers li').length === 10")
    fill(page, "k", "50")
    page.ask("document.getElementById('seen').click()")
    wait_for(page, "document.querySelectorAll('.answers li').length === 50")
    fill(page, "where", "'product_id == \"p0001\"'")
    wait_for(page, "document.querySelectorAll('.answers li').length === 1")
    texts = page.ask("[...document.querySelectorAll('.answers .title > bdi')].map(each => each.textContent)")
    assert texts == [HOSTILE[0]]  # as it is
    fill(page, "where", "''")
    page.ask("document.querySelector('[data-meet]').click()")
    wait_for(page, "document.querySelectorAll('#met li').length === 1 && !document.querySelector('#answers .facts')")
    fill(page, "beside", "'deep~ids'")
    wait_for(
        page, "document.querySelectorAll('#answers [role=alert]').length === 1"
    )  # it takes no histories, and says so
    page.problems[:] = [each for each in page.problems if "422" not in each]
    is_clean(page, studio)


def test_try_a_predictor(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/runs/reviews/try")
    wait_for(page, "document.querySelectorAll('dl.shares').length === 2")
    page.ask("document.querySelector('[data-part=text]').click()")
    wait_for(page, "document.querySelectorAll('line.before').length === 7")
    is_clean(page, studio)


def test_the_map(studio: Asked, page: Page) -> None:
    page.open(f"http://127.0.0.1:{studio.port}/runs/shop/space")
    wait_for(page, "document.getElementById('map').dataset.painted === '80'")
    drawn = "document.getElementById('map').getContext('2d').getImageData(0, 0, 700, 500).data.buffer"
    assert page.ask(f"new Set(new Uint32Array({drawn})).size") > 8  # colors
    fill(page, "find", "'(p0007)'")
    wait_for(page, "document.querySelectorAll('#found option').length === 1")
    fill(page, "find", "document.querySelector('#found option').value")
    wait_for(page, "document.querySelectorAll('#point [data-place]').length === 12")
    page.ask("document.querySelector('#point [data-place]').click()")
    wait_for(page, "!document.querySelector('#point h2').textContent.includes('p0007')")
    is_clean(page, studio)
