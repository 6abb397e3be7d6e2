"""The process: listen, answer, and on SIGTERM finish what is under way and end with status 0."""

from __future__ import annotations

import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from towerkit.core.errors import RunError
from towerkit.serving.app import make_app
from towerkit.serving.fleet import Fleet
from towerkit.serving.settings import Settings


class Server(uvicorn.Server):
    """A server that says where it listens.

    Args:
        config: Of uvicorn.
        announce: Called with the address once it listens.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        for server in self.servers:
            for each in server.sockets:
                host, port = each.getsockname()[:2]
                self._announce(f"http://{'[' + host + ']' if ':' in host else host}:{port}")
                return


def server_of(fleet: Fleet, settings: Settings, announce: Callable[[str], None] = lambda _: None) -> Server:
    """A server, not yet running.

    Args:
        fleet: The models.
        settings: Of the process.
        announce: Called with the address once it listens.
    """
    return Server(config_of(make_app(fleet, settings), settings), announce)


def config_of(app: Callable[..., Awaitable[None]], settings: Settings) -> uvicorn.Config:
    """How an application is served.

    Args:
        app: Of ASGI.
        settings: Of the process.
    """
    limits = settings.limits
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=limits.connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(limits.drain_s),
        h11_max_incomplete_event_size=32_768,
    )


def serve(fleet: Fleet, settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; what is under way is answered first, a second signal ends at once.

    Args:
        fleet: The models.
        settings: Of the process.
        announce: Called with the address once it listens.

    Raises:
        RunError: If it cannot listen there.
    """
    run_until_stopped(server_of(fleet, settings, announce), "The service", settings)


def run_until_stopped(server: Server, what: str, settings: Settings) -> None:
    """Run a server until SIGTERM or SIGINT, and come back.

    Args:
        server: Not yet running.
        what: Its name in a message.
        settings: Where it listens.

    Raises:
        RunError: If it cannot listen there.
    """
    # The server raises the signals that it got once more at its end; without these, that would end the process by a signal.
    before: dict[int, Any] = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        server.run()
    except SystemExit as ended:  # it could not listen, and has said so on standard error
        if ended.code:
            raise RunError(
                f"{what} cannot listen on {settings.host}:{settings.port}; another process may. Choose another --port."
            ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
