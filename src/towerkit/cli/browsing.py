"""The command that shows a folder of Runs as pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from towerkit.cli.app import AsJson, app, print_json
from towerkit.cli.serving import token_of


@app.command()
def studio(
    runs: Annotated[Path, typer.Argument(help="A folder of Runs.", show_default=False)],
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8050,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="What readers sign in with, in place of $TOWERKIT_TOKEN.", show_default=False
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A further name that readers may use for this host.", show_default=False),
    ] = None,
    base: Annotated[
        Path, typer.Option("--base", help="The folder that relative paths of the Runs' data start from.")
    ] = Path(),
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            help="Address of a running service, for a page about it; $TOWERKIT_SERVICE_TOKEN if it wants one.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a folder of Runs in a browser: figures, comparison, towers, answers to try, maps. Needs the extra studio."""
    from towerkit import console
    from towerkit.core.optional import optional_import

    for package in ("fastapi", "uvicorn"):
        optional_import(package, extra="studio")
    from towerkit.serving.settings import Settings
    from towerkit.studio.app import LIMITS
    from towerkit.studio.server import show_studio
    from towerkit.studio.service import ServiceLink
    from towerkit.studio.state import Studio

    token = token_of(token_file, "TOWERKIT_TOKEN")
    settings = Settings(host=host, port=port, token=token, hosts=tuple(allow_host or ()), limits=LIMITS)
    link = None if service is None else ServiceLink(service, token_of(None, "TOWERKIT_SERVICE_TOKEN"))
    shown = Studio(runs, base.resolve(), link)

    def announce(address: str) -> None:
        count = len(shown.library.entries())
        if as_json:
            print_json({"listening": address, "folder": str(runs), "runs": count})
            sys.stdout.flush()
        else:
            console.note(f"{count:,} Run{'s' * (count != 1)} of {runs} at {address} (stop: Ctrl-C)")

    show_studio(shown, settings, announce)
