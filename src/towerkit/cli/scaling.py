"""``towerkit train --on`` and ``embed --on``: several workers, started by Ray."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from towerkit.cli.app import described, print_json, show_run

if TYPE_CHECKING:
    from towerkit.data.dataset import Dataset
    from towerkit.data.stream.encoding import Encode
    from towerkit.data.stream.log import Log
    from towerkit.spec import ExperimentSpec


Workers = Annotated[int, typer.Option("--workers", min=1, help="With --on: how many.")]


def check_workers(on: str | None, workers: int) -> None:
    """Refuse several workers without a place for them.

    Raises:
        BadParameter: If there are some.
    """
    if on is None and workers > 1:
        raise typer.BadParameter(f"--workers {workers} goes with --on: 'local', or a Ray cluster's address.")


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
    """How a new log is encoded for workers, once it is sure that they can train; see :func:`towerkit.scale.pieces.encoder_on`.

    Raises:
        SpecError: If several workers cannot train the spec.
    """
    from towerkit.scale.job import check_shareable
    from towerkit.scale.pieces import encoder_on

    check_shareable(spec, workers)
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
