"""The process behind the pages: listen, say where, and end on SIGTERM or Ctrl-C with status 0."""

from __future__ import annotations

from collections.abc import Callable

from towerkit.serving.server import Server, config_of, run_until_stopped
from towerkit.serving.settings import Settings
from towerkit.studio.app import make_studio
from towerkit.studio.state import Studio


def studio_server(studio: Studio, settings: Settings, announce: Callable[[str], None] = lambda _: None) -> Server:
    """A server, not yet running.

    Args:
        studio: What it shows.
        settings: Of the process.
        announce: Called with the address once it listens.
    """
    return Server(config_of(make_studio(studio, settings), settings), announce)


def show_studio(studio: Studio, settings: Settings, announce: Callable[[str], None]) -> None:
    """Show the studio until SIGTERM or SIGINT.

    Args:
        studio: What it shows.
        settings: Of the process.
        announce: Called with the address once it listens.

    Raises:
        RunError: If it cannot listen there.
    """
    run_until_stopped(studio_server(studio, settings, announce), "The studio", settings)
