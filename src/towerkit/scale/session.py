"""A Ray session: an own small cluster on this machine, quiet and on its loopback interface, or one that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from functools import cache
from typing import Any

from towerkit.core.errors import SpecError, TrainingError
from towerkit.core.optional import optional_import

LOCAL = "local"
_STARTS = 2
"""Ray gives a node 30 seconds, which a busy machine may not keep to; what was started of one stays until this process ends."""
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
        ray.init(address=address, **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"--on {address} reaches no Ray cluster ({error}). Start one (ray start --head), name its address, or use --on local."
        ) from None


def first_line(error: Exception) -> str:
    """What Ray says, without the pages that follow."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
