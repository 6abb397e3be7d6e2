"""A Ray session (`towerkit.scale.session`), with a package in Ray's place; Ray itself is in the long tests.

Invariants:
- a cluster of this machine that does not start in time is started once more, and then told with the reason;
- a cluster that cannot be reached, or has too few CPUs, is refused with its address and the next step, before Ray is asked where
  nobody listens; a session is left at its end;
- far more workers than a machine has CPUs are refused.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from towerkit.core.errors import SpecError, TrainingError
from towerkit.scale.session import ray_session


class Pretended(ModuleType):
    """What a session uses of Ray; the first starts fail."""

    def __init__(self, failures: list[Exception], cpus: int = 2) -> None:
        super().__init__("ray")
        self.failures, self.cpus, self.calls = failures, cpus, list[str]()
        self.given: dict[str, Any] = {}

    def init(self, **given: Any) -> None:
        self.calls.append("init")
        self.given = given
        if self.failures:
            raise self.failures.pop(0)

    def shutdown(self) -> None:
        self.calls.append("shutdown")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus)}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "GLOO_SOCKET_IFNAME", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "x")


def pretended(monkeypatch: pytest.MonkeyPatch, failures: list[Exception], cpus: int = 2) -> Pretended:
    found = Pretended(failures, cpus)
    monkeypatch.setitem(sys.modules, "ray", found)
    return found


def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pretended(monkeypatch, [Exception("The current node timed out during startup.\nmore")])
    with ray_session("local", 2) as found:
        assert found is ray
        assert (ray.given["num_cpus"], ray.given["_node_ip_address"]) == (2, "127.0.0.1")
        assert ray.given["address"] == "local"  # a cluster of its own, where another one runs too
    assert ray.calls == ["init", "shutdown", "init", "shutdown"]
    ray = pretended(monkeypatch, [Exception("The current node timed out during startup.\nmore")] * 2)
    with (
        pytest.raises(
            TrainingError, match=r"in 2 attempts; the last time: The current node timed out during startup\. Is"
        ),
        ray_session("local", 2),
    ):
        pass
    assert ray.calls.count("init") == 2


@pytest.fixture
def listener() -> Iterator[str]:
    """An address at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "{}:{}".format(*server.getsockname())


def test_a_cluster_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, listener: str) -> None:
    ray = pretended(monkeypatch, [ConnectionError("nobody there\nmore")])
    with (
        pytest.raises(SpecError, match=rf"--on '{listener}' reaches no Ray cluster \(nobody there\)"),
        ray_session(listener, 2),
    ):
        pass
    ray = pretended(monkeypatch, [], cpus=1)
    with (
        pytest.raises(SpecError, match="--workers 2 wants as many CPUs; the cluster auto has 1"),
        ray_session("auto", 2),
    ):
        pass
    assert ray.calls == ["init", "shutdown"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:1", "refused"), ("ray://127.0.0.1:1", "refused"), ("127.0.0.1:port", "received 'port'")],
)
def test_ray_is_not_asked_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, address: str, reason: str) -> None:
    """It would try for minutes, and not be ended by a signal."""
    ray = pretended(monkeypatch, [])
    with pytest.raises(SpecError, match=reason) as caught, ray_session(address, 2):
        pass
    assert ray.calls == []
    assert f"--on '{address}' reaches no Ray cluster" in str(caught.value)


def test_a_slip_in_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pretended(monkeypatch, [])
    with pytest.raises(SpecError, match="received --workers 50000"), ray_session("local", 50_000):
        pass
    assert ray.calls == []
