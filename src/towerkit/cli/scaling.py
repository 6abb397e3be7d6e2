"""``towerkit train --on`` and ``embed --on``: several workers, started by Ray."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from towerkit.cli.app import described, print_json, show_run

if TYPE_CHECKING:
    from towerkit.data.dataset import Dataset
    from towerkit.data.stream.encoding import Encode
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
        told = {"seconds": round(seconds, 2), "epochs": written.manifest.extra["epochs"], "workers": workers}
        print_json({**described(written), **told})
        return
    show_run(written)
    console.say(f"Run: {written.path} · {workers} workers · {seconds:.1f} s, Ray's start included")


def encoder(address: str, workers: int, spec: ExperimentSpec) -> Encode | None:
    """How a new log is encoded for workers; see :func:`towerkit.scale.pieces.encoder_on`."""
    from towerkit.scale.pieces import encoder_on

    return encoder_on(address, workers, spec.data)


def embed_folder(
    address: str | None,
    workers: int,
    run: Path,
    rows: str,
    out: Path,
    *,
    side: Literal["query", "candidate"] | None,
    ranking: str | None,
    as_json: bool,
) -> None:
    """Embed a folder of Parquet files, by this process or on a Ray cluster."""
    from towerkit import console
    from towerkit.scale.embedding import embed_files
    from towerkit.scale.pieces import workers_of

    started = time.perf_counter()
    with workers_of(address, workers) as each, console.Counter("files embedded") as counter:
        written = embed_files(run, rows, out, side=side, ranking=ranking, each=each, tell=counter.tell)
    seconds = time.perf_counter() - started
    if written.went_on_after:
        console.note(f"{written.went_on_after:,} files had been written by an interrupted call.")
    if as_json:
        told = {"out": str(out), "files": written.files, "rows": written.rows, "cold": written.cold}
        print_json({**told, "seconds": round(seconds, 2), "workers": workers})
        return
    console.say(
        f"{written.rows:,} vectors in {written.files:,} files written to {out}; {written.cold:,} of unknown keys"
    )
