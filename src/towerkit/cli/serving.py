"""The command that serves Runs over HTTP."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json
from towerkit.core.errors import SpecError


@app.command()
def serve(
    runs: Annotated[
        list[str],
        typer.Argument(help="Run folders, or NAME=FOLDER; the first one answers who names none.", show_default=False),
    ],
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="What callers show, in place of $TOWERKIT_TOKEN.", show_default=False),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A further name that callers may use for this host.", show_default=False),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option("--events", help="Keep events in this SQLite file or PostgreSQL address.", show_default=False),
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option("--candidates", help="A folder whose Runs may be swapped in.", show_default=False),
    ] = None,
    pipelines: Annotated[
        Path | None,
        typer.Option("--pipelines", help="A file of two-stage pipelines: retrieve, re-rank.", show_default=False),
    ] = None,
    index: Annotated[
        list[str] | None,
        typer.Option("--index", help="NAME=FOLDER: search this index in place of all candidates.", show_default=False),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Swap when the link that a RUN is points to another Run.")
    ] = False,
    shadow: Annotated[
        float,
        typer.Option(
            "--shadow", min=0.0, max=1.0, help="Share of requests that a candidate answers beside, before a swap."
        ),
    ] = 0.0,
    overlap: Annotated[
        float, typer.Option("--overlap", min=0.0, max=1.0, help="Share of the served answers that it must give then.")
    ] = 0.1,
    waiting: Annotated[int, typer.Option("--waiting", min=1, max=100_000, help="Requests that may wait.")] = 256,
    deadline: Annotated[float, typer.Option("--deadline", min=0.01, help="Seconds that one may wait.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Serve Runs over HTTP: recommend, similar, score, predict, embed, events, new items, hot swap. Needs the extra serve."""
    from towerkit.core.optional import optional_import

    for package in ("fastapi", "uvicorn", "prometheus_client", "orjson", *(() if events is None else ("sqlalchemy",))):
        optional_import(package, extra="serve")
    from towerkit.serving.fleet import Fleet
    from towerkit.serving.requests import Shadow
    from towerkit.serving.server import serve as serve_until_stopped
    from towerkit.serving.settings import Limits, Settings
    from towerkit.serving.sources import source_of

    settings = Settings(
        host=host,
        port=port,
        token=token_of(token_file, "TOWERKIT_TOKEN"),
        admin_token=token_of(None, "TOWERKIT_ADMIN_TOKEN"),
        hosts=tuple(allow_host or ()),
        events=events,
        candidates=candidates,
        watch=watch,
        shadow=Shadow(share=shadow, overlap=overlap) if shadow else None,
        limits=Limits(waiting=waiting, deadline_s=deadline),
    )
    sources = [source_of(text) for text in runs]
    stages, journal = None, None
    if pipelines is not None:
        from towerkit.serving.pipelines import read_pipelines

        stages = read_pipelines(pipelines)
    _log_to_standard_error()
    indexes = {named.name: named.path for named in map(source_of, index or ())}
    if events is not None:
        from towerkit.serving.journal import Journal

        journal = Journal(events)
    fleet = Fleet(sources, journal, stages, indexes)
    fleet.load()

    def announce(address: str) -> None:
        if as_json:
            print_json({"listening": address, "models": fleet.describe()})
            sys.stdout.flush()
        else:
            names = [*fleet.stored, *fleet.engines]
            typer.echo(f"Serving {', '.join(names)} at {address} (stop: Ctrl-C)", err=True)

    serve_until_stopped(fleet, settings, announce)


def token_of(file: Path | None, variable: str) -> str | None:
    """A secret of a file or the environment; never of the command line, which others can read."""
    if file is None:
        return os.environ.get(variable) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"--token-file names a file with one token; received {str(file)!r}: {error}.") from None


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("towerkit.serving", "towerkit.audit"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [handler]
        logger.propagate = False
