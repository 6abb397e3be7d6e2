"""Kill a worker of a training on Ray in a random step, again and again: each training must end where one process ends.

    python tests/faults/kill_workers.py [--kills 50] [--seed 0]

A small cluster of this machine trains the spec of ``towerkit.testing.by_workers`` with two workers, a checkpoint after each
step. One of them gets SIGKILL as soon as the newest checkpoint is one drawn at random. Failures: a training that does not end,
weights further than 1e-5 or figures further than 1e-6 from those of one process, a death that is not told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

from towerkit.data.dataset import read_dataset
from towerkit.run import Run
from towerkit.scale.ray_train import train_on
from towerkit.testing.by_workers import furthest, spec_of, train_alone
from towerkit.training.progress import Silent

Place = tuple[str, int]
WEIGHT, FIGURE = 1e-5, 1e-6


def training_workers(token: str) -> list[int]:
    """The processes of Ray's training workers on this machine, told by the token of their cluster."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            given = (process / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if name.startswith("ray::") and "Worker" in name and token in given:
            found.append(int(process.name))
    return sorted(found)


def newest(checkpoint: Path) -> Place | None:
    """The stage and the step of the newest checkpoint."""
    with contextlib.suppress(OSError, ValueError):  # replaced as we look
        state = max(checkpoint.glob("*/state.json"), key=lambda path: path.stat().st_mtime, default=None)
        return None if state is None else (state.parent.name, int(json.loads(state.read_text())["steps"]))
    return None


class Watch(threading.Thread):
    """Notes the checkpoints of a training as they come, and kills one of its workers at one of them.

    Args:
        checkpoint: Where they are.
        chosen: Draws the worker.
        places: Those of an undisturbed training, in order; none to only note them.
        target: Among them.
    """

    def __init__(self, checkpoint: Path, chosen: random.Random, places: list[Place], target: int) -> None:
        super().__init__(daemon=True)
        self.checkpoint, self.chosen, self.places, self.target = checkpoint, chosen, places, target
        self.seen: list[Place] = []
        self.killed: Place | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Until the training is over."""
        while not self.over.wait(0.005):
            place = newest(self.checkpoint)
            if place is None or place in self.seen:
                continue
            self.seen.append(place)
            if self.killed is None and place in self.places and self.places.index(place) >= self.target:
                workers = training_workers(os.environ["RAY_AUTH_TOKEN"])
                if workers:
                    os.kill(self.chosen.choice(workers), signal.SIGKILL)
                    self.killed = place


def watched(address: str, run: Path, draw: random.Random, places: list[Place]) -> tuple[Watch, Run, list[str]]:
    """A training by two workers, one of whom is killed at one of the places, if there are any; and what was said."""
    spec, said = spec_of(checkpoint_every=1), list[str]()
    target = draw.randrange(len(places)) if places else 0
    watch = Watch(run.with_name(f"{run.name}.checkpoint"), draw, places, target)
    watch.start()
    try:
        dataset = read_dataset(spec.data, seed=spec.training.seed)
        found = train_on(address, 2, run, spec, dataset, Silent(), place=Path(), say=said.append)
    finally:
        watch.over.set()
        watch.join()
    return watch, found, said


def main(kills: int, seed: int) -> int:
    """Kill so often, and print what came of it; the number of failures."""
    from ray.cluster_utils import Cluster

    draw, done, failures, worst = random.Random(seed), list[Place](), 0, {"weight": 0.0, "figure": 0.0}
    here = {
        "num_cpus": 2,
        "num_gpus": 0,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.2",
    }  # 127.0.0.1 would be taken for the address on the network
    cluster = Cluster(initialize_head=True, head_node_args={**here, "object_store_memory": 200 << 20})
    try:
        with tempfile.TemporaryDirectory() as folder:
            alone = train_alone(Path(folder) / "alone")
            undisturbed, _, _ = watched(cluster.address, Path(folder) / "undisturbed", draw, [])
            print(f"checkpoints seen: {undisturbed.seen}", flush=True)
            while len(done) < kills:
                run = Path(folder) / f"run-{len(done)}"
                watch, found, said = watched(cluster.address, run, draw, undisturbed.seen)
                if watch.killed is not None:
                    done.append(watch.killed)
                    off = furthest(found, alone)
                    worst = {name: max(off[name], worst[name]) for name in off}
                    bad = (
                        off["weight"] > WEIGHT
                        or off["figure"] > FIGURE
                        or not any("A worker died" in each for each in said)
                    )
                    failures += bad
                    told = "FAILED" if bad else "ended as one process does"
                    print(f"{len(done)}: killed at {watch.killed}, {told}: {off}", flush=True)
                shutil.rmtree(run)
    finally:
        cluster.shutdown()
    print(json.dumps({"kills": len(done), "failures": failures, **worst, "places": len(set(done))}))
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill workers of trainings on Ray at random.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ |= {"RAY_AUTH_TOKEN": secrets.token_hex(32), "GLOO_SOCKET_IFNAME": "lo", "RAY_USAGE_STATS_ENABLED": "0"}
    sys.exit(main(given.kills, given.seed) > 0)
