"""The process: listen, answer, and on SIGTERM finish what is under way and end with status 0."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from towerkit.core.errors import RunError, TowerkitError
from towerkit.serving.app import make_app
from towerkit.serving.connections import connections_of
from towerkit.serving.fleet import Fleet
from towerkit.serving.service import Service
from towerkit.serving.settings import Settings


class Server(uvicorn.Server):
    """A server that says where it listens.

    Args:
        config: Of uvicorn.
        announce: Called with the address once it listens.
        service: What is served; a server of something else has none.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[str], None], service: Service | None = None) -> None:
        super().__init__(config)
        self._announce, self.service = announce, service

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; also where the service cannot start."""
        has_failed = self.service is not None and self.service.failed is not None
        return await super().on_tick(counter) or has_failed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is under way."""
        if self.service is not None:
            self.service.end()
        await super().shutdown(sockets)

    def check_started(self) -> None:
        """Say why the service could not start, if it could not.

        Raises:
            RunError: If it could not.
        """
        failed = None if self.service is None else self.service.failed
        if isinstance(failed, TowerkitError):
            raise failed
        if failed is not None:
            raise RunError("The service cannot start; its log says where it failed.") from failed

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
    app = make_app(fleet, settings)
    return Server(config_of(app, settings), announce, app.state)


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
        http=connections_of(limits),
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(limits.drain_s),
    )


def serve(fleet: Fleet, settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; what is under way is answered first, a second signal ends at once.

    Args:
        fleet: The models.
        settings: Of the process.
        announce: Called with the address once it listens.

    Raises:
        RunError: If it cannot listen there, or an index finds too little.
    """
    server = server_of(fleet, settings, announce)
    if server.service is not None:
        server.service.settled = _keep
    try:
        run_until_stopped(server, "The service", settings)
    finally:
        gc.unfreeze()


def _keep(again: bool) -> None:
    """What is loaded stays: the collector of cycles need not look at it time and again, a tenth of the work of a busy service.

    Args:
        again: Something else was loaded in place of what was kept: let that go first.
    """
    if again:
        gc.unfreeze()
        gc.collect()
    gc.freeze()


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
        server.check_started()
    except SystemExit as ended:  # it could not listen, and has said so on standard error
        if ended.code:
            raise RunError(
                f"{what} cannot listen on {settings.host}:{settings.port}; another process may. Choose another --port."
            ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
