"""A service in a thread of this process: for a notebook, a demonstration, a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from towerkit.core.errors import RunError
from towerkit.serving.client import Client
from towerkit.serving.fleet import Fleet
from towerkit.serving.server import server_of
from towerkit.serving.settings import Settings

_START_S, _STOP_S = 300.0, 60.0


@contextmanager
def serving(fleet: Fleet, settings: Settings | None = None) -> Iterator[str]:
    """Serve while the block lasts.

    Args:
        fleet: The models.
        settings: Of the service; a free port of this machine when not given.

    Yields:
        The address of a service that is ready.

    Raises:
        RunError: If it does not start, or does not end.
    """
    settings = settings or Settings(port=0)
    address: list[str] = []
    server = server_of(fleet, settings, address.append)
    thread = threading.Thread(target=server.run, name="service", daemon=True)
    thread.start()
    try:
        until = time.monotonic() + _START_S
        while not (address and _is_ready(address[0], settings.token)):
            if not thread.is_alive() or time.monotonic() > until:
                raise RunError("The service did not start; its log on standard error says why.")
            time.sleep(0.01)
        yield address[0]
    finally:
        server.should_exit = True
        thread.join(_STOP_S)
    if thread.is_alive():
        raise RunError(f"The service did not end within {_STOP_S:g} s of being told to.")


def _is_ready(address: str, token: str | None) -> bool:
    with Client(address, token=token) as client:
        return client.ready()
