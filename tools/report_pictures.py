"""Make the pictures of docs/report.md: the demo of a report, looked at in a real browser.

    towerkit train examples/shop_one_backprop.yaml --run .out/found
    towerkit train examples/shop_multitask.yaml --run .out/told
    python tools/report_pictures.py .out/found .out/told

Needs ``chromium``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from towerkit.reporting import write_report
from towerkit.run import Run
from towerkit.testing.browser import Page, browser

STATIC = Path(__file__).resolve().parents[1] / "docs" / "_static"


def picture(page: Page, report: Path, anchor: str, name: str, *, width: int, height: int, dark: bool = False) -> None:
    """Write what stands at one section.

    Args:
        page: A browser.
        report: The page.
        anchor: The section's name.
        name: Of the picture.
        width: Of the window.
        height: Of the window.
        dark: For a dark screen.
    """
    page.open(report.as_uri(), width=width, height=height, dark=dark)
    page.ask(f"document.getElementById({anchor!r}).scrollIntoView()")
    page.picture(STATIC / f"report-{name}.png")
    if page.problems:
        raise SystemExit(f"{report}: {page.problems}")


def main(found: Path, told: Path) -> None:
    """Write the pictures.

    Args:
        found: A two-tower.
        told: A tower model.
    """
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        reports = {run.name: Path(folder) / f"{run.name}.html" for run in (found, told)}
        for run in (found, told):
            write_report([Run.load(run)], reports[run.name])
        picture(page, reports[found.name], "examples", "examples", width=1100, height=760)
        picture(page, reports[found.name], "map", "map", width=1100, height=660, dark=True)
        picture(page, reports[told.name], "tasks", "tasks", width=1100, height=940)
        picture(page, reports[found.name], "figures", "phone", width=360, height=760)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
