"""The pictures of ``docs/studio.md``, made as a reader would see the pages: ``TOWERKIT_PICTURES=docs/_static`` writes them there.

- Each page reaches the state that its picture is of, with nothing on the console.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.serving.conftest import Asked
from tests.studio.conftest import HEADS, REVIEWS, SIDES, history_line, open_studio, purchases, reviews, trained
from tests.studio.test_browser import wait_for
from tests.studio.test_trainings import HOLDER

import towerkit as tk
from towerkit.storage.hashes import write_json
from towerkit.testing.browser import Page, browser, program

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(program() is None, reason="needs a browser: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The studio over three Runs, an ablation of one, and a training that goes on."""
    root = tmp_path_factory.mktemp("pictures") / "runs"
    root.mkdir()
    bought = purchases(hostile=False)
    trained(root / "shop", SIDES, bought, epochs=20, update={"kind": "one_backprop", "beta": 0.8})
    plain = {"kind": "two_tower", "query": {"kind": "id", "dim": 8}, "candidate": {"kind": "id", "dim": 8}}
    trained(root / "shop-ids", plain, bought, epochs=10)
    model = {"kind": "tower_model", "towers": REVIEWS, "heads": HEADS, "backbone": {"kind": "gated", "dim": 16}}
    data = tk.read(reviews())
    run = trained(root / "reviews", model, data, epochs=10)
    write_json(root / "reviews.ablation.json", tk.ablate(run, data).as_dict())
    folder = root / "shop-longer.checkpoint"
    folder.mkdir()
    lines = [history_line(epoch, 1.0 / (1 + epoch)) for epoch in range(1, 9)]
    (folder / "history.jsonl").write_text("".join(lines), encoding="utf-8")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        asked = open_studio(root)
        yield asked
        asked.stop()
        holder.kill()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for all pictures."""
    with browser() as page:
        yield page


TEXT = "document.querySelector('[data-column=text]')"
TYPED = """text => {
  const find = document.getElementById('find');
  find.value = text;
  find.dispatchEvent(new Event('input'));
  return true;
}"""
STATES = {
    "runs": (
        "/",
        ["document.querySelectorAll('#runs tbody tr').length === 3 && document.querySelector('.alive') !== null"],
    ),
    "towers": (
        "/runs/reviews/towers",
        ["document.querySelector('figure.plan svg').textContent.includes('without it')"],
    ),
    "try": (
        "/runs/shop/try",
        [
            "document.querySelectorAll('.answers li').length === 10",
            "document.querySelector('[data-meet]').click() || true",
            "document.querySelectorAll('#met li').length === 1 && document.querySelector('#answers .facts') === null",
        ],
    ),
    "predict": (
        "/runs/reviews/try",
        [
            f"({TEXT}.value = 'Happy with the lamp. The workmanship is sturdy, the color even better in person.') !== ''",
            "document.querySelector('[data-part=text]').click() || true",
            "document.querySelectorAll('line.before').length === 7",
        ],
    ),
    "space": (
        "/runs/shop/space",
        [
            "document.getElementById('map').dataset.painted === '80'",
            f"({TYPED})('p0012')",
            "document.querySelectorAll('#found option').length === 1",
            f"({TYPED})(document.querySelector('#found option').value)",
            "document.querySelectorAll('#point [data-place]').length === 12",
        ],
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_a_picture(shown: Asked, page: Page, name: str, tmp_path: Path) -> None:
    path, steps = STATES[name]
    out = Path(os.environ.get("TOWERKIT_PICTURES", tmp_path)) / f"studio-{name}.png"
    page.open(f"http://127.0.0.1:{shown.port}{path}", width=1080, height=700, dark=name == "space")
    for step in steps:
        wait_for(page, step)
    page.picture(out)
    assert page.problems == [] and out.read_bytes().startswith(b"\x89PNG")
