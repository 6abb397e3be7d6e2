"""A Ray session: an own small cluster on this machine, quiet and on its loopback interface, or one that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from functools import cache
from typing import Any

from towerkit.core.errors import SpecError, TrainingError
from towerkit.core.optional import optional_import

LOCAL = "local"
_STARTS = 2
"""Ray gives a node 30 seconds, which a busy machine may not keep to; what was started of one stays until this process ends."""
_KNOCK_S = 10.0
_MOST_PER_CPU = 8
"""Of workers on one machine: more is a slip, which the machine would not survive."""
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
_STORE_BYTES = 200 << 20
"""Of the object store: workers read the data themselves, and nothing large goes through it."""


@contextlib.contextmanager
def ray_session(address: str, workers: int) -> Iterator[Any]:
    """Connect to a cluster, or start one of this machine's own, and leave or stop it in the end.

    Args:
        address: ``local``, or where a cluster is: ``auto`` on one of its nodes, ``HOST:PORT`` or ``ray://HOST:PORT``.
        workers: Processes that will be asked for.

    Yields:
        The package ``ray``.

    Raises:
        MissingExtraError: If Ray is not installed.
        SpecError: If the cluster cannot be reached, or has too few CPUs.
        TrainingError: If Ray does not start on this machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    most = _MOST_PER_CPU * (os.cpu_count() or 1)
    if address == LOCAL and workers > most:
        raise SpecError(
            f"--on local starts at most {_MOST_PER_CPU} workers for each CPU, {most} on this machine; received --workers {workers}."
        )
    if address == LOCAL and not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = token()
    ray = optional_import("ray", extra="ray")
    if address == LOCAL:
        _start(ray, workers)
    else:
        _connect(ray, address)
    try:
        free = int(ray.cluster_resources().get("CPU", 0))
        if free < workers:
            raise SpecError(
                f"--workers {workers} wants as many CPUs; the cluster {address} has {free}. Ask for {free} or fewer."
            )
        yield ray
    finally:
        ray.shutdown()


@cache
def token() -> str:
    """What guards the clusters that this process starts: else Ray would write one into the home folder.

    One for all of them, because Ray remembers the first that it reads, and waits without end where a cluster has another.
    """
    return secrets.token_hex(32)


def _start(ray: Any, workers: int) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(
                address="local",  # else Ray would join a cluster that somebody started on this machine
                num_cpus=workers,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **_QUIET,
            )
            return
        except Exception as error:  # Ray raises plain ones here
            ray.shutdown()
            if attempt == _STARTS:
                raise TrainingError(
                    f"Ray did not start on this machine in {_STARTS} attempts; the last time: {first_line(error)} Is the machine "
                    "very busy, or its memory full? Try again; Ray's logs are below its temporary folder, in session_latest/logs."
                ) from None


def _connect(ray: Any, address: str) -> None:
    try:
        _knock(address)
        ray.init(address=address, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"--on '{address}' reaches no Ray cluster ({first_line(error)}). Start one (ray start --head), name its address, or "
            "use --on local."
        ) from None


def _knock(address: str) -> None:
    """Make sure that somebody listens at ``HOST:PORT``: Ray itself would try for minutes, deaf to signals.

    Raises:
        OSError: If nobody does.
        ValueError: If the port is no number.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and not port.isdigit():
        raise ValueError(f"a port is a number, received '{port}'")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def first_line(error: Exception) -> str:
    """What Ray says, without the pages that follow."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
