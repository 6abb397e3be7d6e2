"""Pages of the studio in a real browser: from the click on a link until the page has answered the reader's first touch.

A list of 1,000 Runs is ready when a word in its filter has hidden rows, a map of 50,000 points when it is drawn and has moved by an
arrow key; both as the browser's own clock tells it, from the start of the navigation to the frame after the answer. ``first`` is
the first time that the studio is asked for the page (it reads the Runs, opens the model, computes the plane), ``again`` every later
time.
Small pages (one Run, 500 points) take turns with the large ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from harness import alternate_timed, ratio, report

import towerkit as tk
from towerkit.testing.browser import Page, browser, program

TINY = "--tiny" in sys.argv
RUNS, POINTS, REPEATS = (20, 1_000, 2) if TINY else (1_000, 50_000, 7)
FRAME = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
FILTERED = f"""new Promise(done => {{
  const find = document.getElementById("find");
  const ready = () => {{
    find.value = "-7";
    find.dispatchEvent(new Event("input", {{bubbles: true}}));
    const rows = [...document.querySelectorAll("#runs tbody tr")];
    if (rows.length === 1 || rows.some(each => each.hidden)) {FRAME}.then(done);
    else setTimeout(ready, 5);
  }};
  ready();
}})"""
MOVED = f"""new Promise(done => {{
  const map = document.getElementById("map");
  const ready = () => {{
    if (map.dataset.painted === undefined) return setTimeout(ready, 5);
    map.dispatchEvent(new KeyboardEvent("keydown", {{key: "ArrowLeft", bubbles: true}}));
    {FRAME}.then(done);
  }};
  ready();
}})"""


def trained(run: Path, points: int) -> None:
    """A Run with so many candidates, a column among them; its vectors are hardly trained."""
    draw = np.random.default_rng(0)
    count = points + points // 50  # a hundredth of the rows is for test, and their candidates are not known
    items = [f"i{n:06d}" for n in range(count)]
    table = {"user": [f"u{n}" for n in draw.integers(0, 200, count)], "item": items}
    about = {"item": {"item": items, "sort": [f"sort {n}" for n in draw.integers(0, 8, count)]}}
    split = {"kind": "random", "validation": 0, "test": 0.01}
    data = tk.read(table, query="user", candidate="item", entities=about, split=split)
    side = {"kind": "id", "dim": 16}
    spec = {
        "model": {"kind": "two_tower", "query": side, "candidate": side},
        "training": {"epochs": 1, "batch_size": 4096},
        "evaluation": {"k": [10], "baselines": [{"kind": "popularity"}]},
    }
    tk.fit(spec, data, run=run)


def copied(run: Path, folder: Path, count: int) -> Path:
    """A folder with so many Runs, all of them the same files."""
    for number in range(count):
        shutil.copytree(run, folder / f"run-{number:04d}", copy_function=os.link)
    return folder


@contextmanager
def studio(folder: Path) -> Iterator[str]:
    """The address of a studio over a folder, in a process of its own."""
    command = [sys.executable, "-m", "towerkit", "studio", str(folder), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["listening"])
        finally:
            process.terminate()


def interactive(page: Page, address: str, script: str) -> float:
    """Seconds from the start of the navigation to the frame that answers the first touch."""
    page.open(address, width=1280)
    found = page.ask(script)
    if page.problems:
        sys.exit(f"{address}: {page.problems}")
    return float(found) / 1e3


def main() -> None:
    """Both pages, large and small in turns."""
    if program() is None:
        report("studio", {}, left_out="it wants a browser: apt-get install chromium", ratios={})
        return
    folder = Path(tempfile.mkdtemp())
    try:
        for name, points in (("small", 500), ("large", POINTS)):
            trained(folder / "maps" / name, points)
        copied(folder / "maps" / "small", folder / "many", RUNS)
        copied(folder / "maps" / "small", folder / "one", 1)
        with (
            studio(folder / "maps") as maps,
            studio(folder / "many") as many,
            studio(folder / "one") as one,
            browser() as page,
        ):
            sides = {
                "one Run": (f"{one}/", FILTERED),
                f"{RUNS:,} Runs": (f"{many}/", FILTERED),
                "500 points": (f"{maps}/runs/small/space/candidate/sort", MOVED),
                f"{POINTS:,} points": (f"{maps}/runs/large/space/candidate/sort", MOVED),
            }
            first = {f"{name}, first": [interactive(page, *side)] for name, side in sides.items()}
            again = alternate_timed(
                {f"{name}, again": lambda side=side: interactive(page, *side) for name, side in sides.items()}, REPEATS
            )
        names = list(sides)
        ratios = {
            f"{large} / {small}": ratio(again[f"{large}, again"], again[f"{small}, again"])
            for small, large in ((names[0], names[1]), (names[2], names[3]))
        }
        report("studio", first | again, n=POINTS, runs=RUNS, ratios=ratios)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
