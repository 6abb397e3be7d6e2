"""The process behind the pages: listen, say where, and end on SIGTERM or Ctrl-C with status 0."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import uvicorn

from towerkit.core.errors import RunError
from towerkit.serving.server import Server
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
    config = uvicorn.Config(
        make_studio(studio, settings),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=settings.limits.connections,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=32_768,
    )
    return Server(config, announce)


def show_studio(studio: Studio, settings: Settings, announce: Callable[[str], None]) -> None:
    """Show the studio until SIGTERM or SIGINT.

    Args:
        studio: What it shows.
        settings: Of the process.
        announce: Called with the address once it listens.

    Raises:
        RunError: If it cannot listen there.
    """
    server = studio_server(studio, settings, announce)
    # The server raises the signals that it got once more at its end; without these, that would end the process by a signal.
    before: dict[int, Any] = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        server.run()
    except SystemExit as ended:  # it could not listen, and has said so on standard error
        if ended.code:
            raise RunError(
                f"The studio cannot listen on {settings.host}:{settings.port}; another process may. Choose another --port."
            ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
