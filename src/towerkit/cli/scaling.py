"""``towerkit train --on``: several workers, started by Ray."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from towerkit.cli.app import described, print_json, show_run

if TYPE_CHECKING:
    from towerkit.data.dataset import Dataset
    from towerkit.data.stream.log import Log
    from towerkit.spec import ExperimentSpec


def train_by_workers(
    address: str,
    workers: int,
    run: Path,
    spec: ExperimentSpec,
    dataset: Dataset | Log,
    *,
    place: Path,
    overwrite: bool,
    resume: bool,
    as_json: bool,
) -> None:
    """Train on a Ray cluster, and show the Run as a training of one process does."""
    from towerkit import console
    from towerkit.scale.ray_train import train_on

    started = time.perf_counter()
    with console.ConsoleProgress() as progress:
        written = train_on(
            address,
            workers,
            run,
            spec,
            dataset,
            progress,
            place=place,
            overwrite=overwrite,
            resume=resume,
            say=console.note,
        )
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**described(written), "seconds": round(seconds, 2), "workers": workers})
        return
    show_run(written)
    console.say(f"Run: {written.path} · {workers} workers · {seconds:.1f} s, Ray's start included")
