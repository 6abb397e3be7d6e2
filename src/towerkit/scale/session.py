"""A Ray session: an own small cluster on this machine, quiet and on its loopback interface, or one that runs already."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from typing import Any

from towerkit.core.errors import SpecError
from towerkit.core.optional import optional_import

LOCAL = "local"
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
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL and not any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(
            32
        )  # of this session; else Ray writes one into the home folder
    ray = optional_import("ray", extra="ray")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address == LOCAL:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            ray.init(
                num_cpus=workers,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"--on {address} reaches no Ray cluster ({error}). Start one (ray start --head), name its address, or use --on local."
        ) from None
    try:
        free = int(ray.cluster_resources().get("CPU", 0))
        if free < workers:
            raise SpecError(
                f"--workers {workers} wants as many CPUs; the cluster {address} has {free}. Ask for {free} or fewer."
            )
        yield ray
    finally:
        ray.shutdown()
