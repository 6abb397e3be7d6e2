"""A cluster that loses a node; needs the extra ``ray``. Long: nodes take seconds to start.

Invariants:
- two workers train on two nodes, and one node is stopped in the middle: one worker goes on where they were, and ends where a
  single process ends; the loss of the node and of the time is said;
- a node that comes back is used by the next training.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from towerkit.data.dataset import read_dataset
from towerkit.run import Run
from towerkit.testing.by_workers import furthest, spec_of, train_alone
from towerkit.training.progress import Silent

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs towerkit[ray]"),
    pytest.mark.filterwarnings("default"),  # Ray's own
    pytest.mark.timeout(900),
]
NODE = {"num_cpus": 1, "num_gpus": 0, "node_ip_address": "127.0.0.2", "object_store_memory": 100 << 20}
"""Ray takes 127.0.0.1 for the address of this machine on its network when it connects, where a loopback cluster does not listen."""
LONG = {"batch_size": 25, "checkpoint_every": 1}
"""Some twenty seconds of steps: a node takes a while to be gone, and its worker trains until then."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with one CPU, on the loopback interface."""
    from ray.cluster_utils import Cluster

    from towerkit.scale.session import token

    for name, value in {
        "RAY_AUTH_TOKEN": token(),
        "GLOO_SOCKET_IFNAME": "lo",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_BACKEND_LOG_LEVEL": "fatal",
    }.items():
        monkeypatch.setenv(name, value)
    found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield found
    found.shutdown()


def train(cluster: Any, run: Path, said: list[str]) -> Run:
    from towerkit.scale.ray_train import train_on

    spec = spec_of(**LONG)
    dataset = read_dataset(spec.data, seed=spec.training.seed)
    return train_on(cluster.address, 2, run, spec, dataset, Silent(), place=Path(), say=said.append)


def test_a_node_that_is_lost_and_one_that_comes_back(cluster: Any, tmp_path: Path) -> None:
    second, said, lost = cluster.add_node(**NODE), list[str](), threading.Event()

    def lose() -> None:
        while not lost.wait(0.01):
            if any((tmp_path / "run.checkpoint").glob("0*/state.json")):
                cluster.remove_node(second, allow_graceful=False)
                lost.set()

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    found = train(cluster, tmp_path / "run", said)
    assert lost.is_set(), "no node was lost"
    assert any("A worker died" in text and "s of work since then are lost" in text for text in said), said
    assert any("The cluster has 1 CPUs left" in text for text in said), said
    alone = train_alone(tmp_path / "alone", **LONG)
    off = furthest(found, alone)
    assert off["weight"] < 1e-5, off
    assert off["figure"] < 1e-6, off

    cluster.add_node(**NODE)
    cluster.wait_for_nodes(120)  # the lost one is gone from the count too
    said.clear()
    off = furthest(train(cluster, tmp_path / "again", said), alone)
    assert off["weight"] < 1e-5, off
    assert said == []
